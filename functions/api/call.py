"""The request being answered: who calls, and for which tenant."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from functions.http import body_of
from metering import wiring
from metering.auth import ANYONE, Caller
from metering.errors import BadRequestError
from metering.names import TenantId

PUBLIC_PATHS = frozenset(
    {"/health", "/health/live", "/health/ready", "/metrics", "/docs", "/docs/json"}
)
"""Answered without a key; none of them says anything of a tenant."""
_TENANT_NAMES = frozenset({"tenantId", "tenant_id"})


@dataclass(slots=True)
class Call:
    """One request on its way; `route` is filled in when the router has found it."""

    caller: Caller
    tenant: TenantId | None
    route: str = "unmatched"

    def owner(self) -> TenantId:
        """The tenant to answer for; that the caller may ask this, `serve` has seen to.

        Raises:
            BadRequestError: neither a key nor the request says which tenant.
        """
        return self.caller.tenant_of_request([self.tenant])


_current: ContextVar[Call] = ContextVar("call")


def current() -> Call:
    """The request that this thread answers."""
    return _current.get()


@contextmanager
def answering(call: Call) -> Iterator[None]:
    """Let `current` answer this call for a while."""
    token = _current.set(call)
    try:
        yield
    finally:
        _current.reset(token)


def begin(event: Mapping[str, Any]) -> Call:
    """Find out who calls, and compare every tenant that the request names with the key's.

    Raises:
        AuthError: 401, no valid key; 403, another tenant is named anywhere.
        RateLimitedError: 429, the tenant has sent too many requests, or the address too many keys.
        BadRequestError: 400, the body is no text.
        RetryableError: the key could not be looked up for now.
    """
    if event["rawPath"] in PUBLIC_PATHS:
        return Call(ANYONE, None)
    wired, source = wiring.current(), event["requestContext"]["http"]["sourceIp"]
    caller = wired.authenticator.authenticate(event["headers"], source)
    if caller.tenant is not None:
        wired.request_rate.take(caller.tenant)
    return Call(caller, caller.tenant_among(tenants_named(event)))


def tenants_named(event: Mapping[str, Any]) -> list[object]:
    """Every tenant that a request names, wherever and however often it does."""
    query = parse_qsl(event.get("rawQueryString") or "", keep_blank_values=True)
    named: list[object] = [value for name, value in query if name in _TENANT_NAMES]
    # API Gateway also hands over the parsed query, which is what routes read.
    named += _tenants_in(event.get("queryStringParameters"))
    body = _json(_text_of(event))
    named += _tenants_in(body)
    events = body.get("events") if isinstance(body, dict) else None
    rows = events if isinstance(events, list) else []
    return named + [name for one in rows for name in _tenants_in(one)]


def _tenants_in(value: object) -> list[object]:
    if not isinstance(value, dict):
        return []
    return [value[name] for name in _TENANT_NAMES if name in value]


def _text_of(event: Mapping[str, Any]) -> str:
    try:
        return body_of(event).decode()
    except UnicodeDecodeError as error:
        raise BadRequestError(f"The body is not UTF-8: {error}", error="SyntaxError") from None


def _json(text: str) -> Any:
    """The body, if it is JSON; that it is not, the route says in its own words."""
    try:
        return json.loads(text or "null")
    except (ValueError, RecursionError):
        return None
