"""Requests and responses as the core sees them: text and bytes, no sockets."""

import json
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

from local.stripe import refusals

API_VERSION = "2026-10-28.endive"

type Json = dict[str, Any]
"""An object in the shape of Stripe's JSON."""

type Raw = str | dict[str, Raw]
"""A form value: text, or what stood in brackets behind a name."""

_DEPTH_MAX = 8
_FIELDS_MAX = 1000


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request; `path` may carry a query, header names are lower case."""

    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    @classmethod
    def of(
        cls, method: str, url: str, headers: Mapping[str, str], body: bytes | str | None
    ) -> Self:
        """A request as an HTTP client has it in hand: a whole URL, names in any case, no body."""
        parts = urlsplit(url)
        path = f"{parts.path}?{parts.query}" if parts.query else parts.path
        content = body.encode() if isinstance(body, str) else body or b""
        lowered = {name.lower(): str(value) for name, value in headers.items()}
        return cls(method.upper(), path, lowered, content)

    @property
    def path_only(self) -> str:
        """The path without its query."""
        return self.path.partition("?")[0]

    @property
    def form(self) -> str:
        """The parameters still encoded: the query of a GET or DELETE, the body of a POST."""
        if self.method == "POST":
            return self.body.decode("utf-8", "replace")
        return self.path.partition("?")[2]


@dataclass(frozen=True, slots=True)
class Response:
    """What the caller gets, and how: `dropped` closes the connection without a byte of it.

    The effect has happened when the response exists. A transport waits `delay_s`, then delivers,
    then tells the core (`StripeCore.delivered`): until then everything in `in_flight` is busy.
    """

    status: int
    headers: dict[str, str]
    body: bytes
    delay_s: float = 0.0
    dropped: bool = False
    in_flight: tuple[Hashable, ...] = ()


def encode(content: Json) -> bytes:
    """The JSON text of a body."""
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()


def decode_form(text: str) -> dict[str, Raw]:
    """Form parameters as a tree: `items[0][price]=x` is `{"items": {"0": {"price": "x"}}}`.

    `expand[]=x` takes the next free index, as Stripe does it.

    Raises:
        RefusedError: too many fields, or a name that is no name.
    """
    tree: dict[str, Raw] = {}
    try:
        pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=_FIELDS_MAX)
    except ValueError:
        raise refusals.invalid(f"Too many parameters: more than {_FIELDS_MAX}.", None) from None
    for name, value in pairs:
        _place(tree, name, value)
    return tree


def _place(tree: dict[str, Raw], name: str, value: str) -> None:
    head, bracket, rest = name.partition("[")
    if not bracket:
        tree[name] = value
        return
    parts = [head, *rest.removesuffix("]").split("][")]
    if len(parts) > _DEPTH_MAX:
        raise refusals.invalid(f"Invalid parameter name: {name}", name)
    for part in parts[:-1]:
        child = tree.setdefault(part or str(len(tree)), {})
        if not isinstance(child, dict):
            raise refusals.invalid(f"Invalid parameter name: {name}", name)
        tree = child
    tree[parts[-1] or str(len(tree))] = value
