"""What `/v2` does differently: JSON bodies, RFC 3339 instants, errors and lists of its own."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from local.stripe import params, refusals
from local.stripe.params import Integer, Kind, Text
from local.stripe.refusals import RefusedError
from local.stripe.wire import Json, Raw, Request

PREFIX = "/v2/"
LIMIT_DEFAULT = 20
LIST_FIELDS: Mapping[str, Kind] = {"limit": Integer(least=1, most=100), "page": Text()}

_INSTANT = re.compile(
    r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:[Zz]|[+-]\d\d:\d\d)", re.ASCII
)
_CODES = {
    refusals.UNAUTHORIZED: "unauthorized",
    refusals.FORBIDDEN: "forbidden",
    refusals.NOT_FOUND: "not_found",
    refusals.CONFLICT: "idempotency_key_in_use",
    refusals.TOO_MANY_REQUESTS: "rate_limit_exceeded",
    refusals.INTERNAL_ERROR: "internal_error",
    refusals.UNAVAILABLE: "service_unavailable",
}


class Bare(str):
    """A number or truth value of a JSON body: written like a text, but none."""

    __slots__ = ()


def is_v2(path: str) -> bool:
    """Whether a path belongs to the second API."""
    return path.startswith(PREFIX)


# --- requests -------------------------------------------------------------------------------------


def decode(body: bytes) -> dict[str, Raw]:
    """The parameters of a JSON body, as form parameters are read: a tree of texts.

    Raises:
        RefusedError: it is no JSON object.
    """
    try:
        content = json.loads(body or b"{}", parse_int=Bare, parse_float=Bare, parse_constant=_none)
    except ValueError:
        raise refusals.invalid("The body of the request must be JSON.", None) from None
    if not isinstance(content, dict):
        raise refusals.invalid("The body of the request must be a JSON object.", None)
    return {name: _raw(value) for name, value in content.items()}


def _none(literal: str) -> object:
    raise ValueError(literal)


def _raw(value: Any) -> Raw:
    match value:
        case dict():
            return {name: _raw(one) for name, one in value.items()}
        case list():
            return {str(index): _raw(one) for index, one in enumerate(value)}
        case bool():
            return Bare("true" if value else "false")
        case None:
            return ""
        case _:
            return str(value) if type(value) is str else value


def canonical(request: Request) -> str:
    """A request's parameters in one form, however its JSON is written."""
    try:
        return json.dumps(json.loads(request.body or b"{}"), sort_keys=True)
    except ValueError:
        return request.form


@dataclass(frozen=True, slots=True)
class Strings:
    """A map of names to JSON strings, such as a meter event's payload."""

    def read(self, raw: Raw, name: str) -> dict[str, str]:
        """The map; a number is refused, as it is no string."""
        if isinstance(raw, dict):
            for key, value in raw.items():
                if isinstance(value, Bare):
                    raise refusals.invalid(f"Invalid string: {value}", f"{name}.{key}")
        return params.Texts().read(raw, name)


@dataclass(frozen=True, slots=True)
class Instant:
    """An RFC 3339 text, read as Unix seconds; fractions are dropped."""

    def read(self, raw: Raw, name: str) -> int:
        """The instant."""
        if not isinstance(raw, str) or not _INSTANT.fullmatch(raw):
            message = f"Invalid timestamp: {raw}; must be RFC 3339, such as 2026-11-20T12:00:00Z"
            raise refusals.invalid(message, name)
        try:
            return int(datetime.fromisoformat(raw.upper()).timestamp())
        except ValueError:
            raise refusals.invalid(f"Invalid timestamp: {raw}", name) from None


# --- answers --------------------------------------------------------------------------------------


def written(at: datetime | int) -> str:
    """An instant as v2 writes it."""
    instant = datetime.fromtimestamp(at, UTC) if isinstance(at, int) else at
    return instant.strftime("%Y-%m-%dT%H:%M:%S.") + f"{instant.microsecond // 1000:03d}Z"


def envelope(refusal: RefusedError) -> Json:
    """`{"error": {code, message, type?}}`."""
    missing = refusal.code == "resource_missing"
    code = None if missing else refusal.code
    error = {
        "code": code or _CODES.get(refusal.status, "invalid_request"),
        "message": refusal.message,
    }
    if refusal.kind == "idempotency_error":
        error["type"] = refusal.kind
    if refusal.status == refusals.TOO_MANY_REQUESTS:
        error["type"] = "rate_limit"
    return {"error": error}


def page(objects: Iterable[Json], given: Mapping[str, Any], path: str) -> Json:
    """One page of a list; `page` is the identity of its first object.

    Raises:
        RefusedError: there is no such page.
    """
    listed = list(objects)
    limit = given.get("limit", LIMIT_DEFAULT)
    start = _position(listed, given["page"]) if "page" in given else 0
    end = start + limit
    return {
        "data": listed[start:end],
        "next_page_url": _url(listed, end, given, path) if end < len(listed) else None,
        "previous_page_url": _url(listed, max(start - limit, 0), given, path) if start else None,
    }


def _position(listed: list[Json], cursor: str) -> int:
    for index, content in enumerate(listed):
        if content["id"] == cursor:
            return index
    raise refusals.invalid(f"No such page: '{cursor}'", "page")


def _url(listed: list[Json], start: int, given: Mapping[str, Any], path: str) -> str:
    query: list[tuple[str, str]] = [("page", listed[start]["id"])]
    if "limit" in given:
        query.append(("limit", str(given["limit"])))
    for name in ("types", "include"):
        query += [(f"{name}[{index}]", one) for index, one in enumerate(given.get(name) or ())]
    for name, instant in (given.get("created") or {}).items():
        query.append((f"created[{name}]", written(instant)))
    if "object_id" in given:
        query.append(("object_id", given["object_id"]))
    return f"{path}?{urlencode(query)}"
