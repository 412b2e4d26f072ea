"""The wire form of `POST /v1/events/ingest`: reading a request, checking its tenants, answering."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

from metering import sent_event
from metering.auth import MISMATCHED_TENANT_IN_EVENTS, Caller
from metering.errors import BadRequestError
from metering.event_result import EventResult, Status
from metering.ingest import EVENTS_MAX
from metering.names import TenantId

BODY_BYTES_MAX = 1_048_576
RETRY_AFTER_S = "1"


def read_json(body: bytes) -> Any:
    """The JSON of a body, every number as a `Decimal` with all its digits.

    NaN and Infinity, which Python would take, and exponents beyond reason become values that no
    event is valid with, so that they refuse their own event and not the request.

    Raises:
        BadRequestError: 413 when too large, 400 when no JSON.
    """
    if len(body) > BODY_BYTES_MAX:
        raise BadRequestError(
            f"Request body is too large: {len(body)} bytes, at most {BODY_BYTES_MAX}; send fewer"
            " events at a time",
            status=413,
            error="Payload Too Large",
        )
    try:
        return _loads(body)
    except (ValueError, RecursionError) as error:
        raise BadRequestError(f"The body is not JSON: {error}", error="SyntaxError") from None


def _loads(body: bytes) -> Any:
    try:
        return json.loads(body, parse_float=Decimal, parse_int=Decimal, parse_constant=Decimal)
    except InvalidOperation:
        return json.loads(body, parse_float=_number, parse_int=_number, parse_constant=_number)


def _number(text: str) -> Decimal:
    """A number, or NaN in place of one whose exponent no `Decimal` can hold."""
    try:
        return Decimal(text)
    except InvalidOperation:
        return Decimal("NaN")


def read_events(body: object) -> list[object]:
    """The events of an ingest request's body.

    Raises:
        BadRequestError: 400, no list of events; `EventCountError` when there are none or too many.
    """
    events = body.get("events") if isinstance(body, dict) else None
    if not isinstance(events, list):
        raise BadRequestError("body must be an object with a list 'events'", error="Error")
    if not events:
        raise EventCountError("events: Array must contain at least 1 element(s)")
    if len(events) > EVENTS_MAX:
        raise EventCountError(
            f"events: Array must contain at most {EVENTS_MAX} element(s), got {len(events)}"
        )
    return events


class EventCountError(BadRequestError):
    """A request with no event or too many; answered in the shape of results."""


def owner_of(events: Sequence[object], caller: Caller, named: Sequence[object]) -> TenantId | None:
    """The tenant that owns a request's events; None lets each name its own (no key required).

    Every place that names a tenant is checked, whatever the others say.

    Raises:
        AuthError: 403, a place names a tenant that is not the caller's.
        BadRequestError: 400, what the request names is no valid tenant.
    """
    owner = caller.tenant_among(named)
    if owner is None:
        return None
    if caller.tenant is None:
        owner = _valid_tenant(owner)
    Caller(owner, caller.scopes).tenant_among(_named_by(events), error=MISMATCHED_TENANT_IN_EVENTS)
    return owner


def _valid_tenant(name: str) -> TenantId:
    try:
        return sent_event.tenant_named(name)
    except ValueError as error:
        raise BadRequestError(f"tenantId: {error}", error="Validation Error") from None


def _named_by(events: Sequence[object]) -> Iterator[object]:
    """The tenants that events name; the second spelling must not hide behind the first."""
    for sent in events:
        if isinstance(sent, dict):
            yield sent.get("tenantId")
            yield sent.get("tenant_id")


# --- answering ------------------------------------------------------------------------------------


def answer(results: Sequence[EventResult], request_id: str) -> tuple[int, dict[str, Any]]:
    """Status and body of an answer: one result per event, in the events' order.

    200 when anything was taken or known already; 400 when every event was refused; 503 when nothing
    but the state of the tables stood in the way of all of them.
    """
    counts = Counter(result.status for result in results)
    body: dict[str, Any] = {
        "accepted": counts[Status.ACCEPTED],
        "duplicates": counts[Status.DUPLICATE],
        "conflicts": counts[Status.CONFLICT],
        "requestId": request_id,
        "results": [_result(result) for result in results],
    }
    errors = [
        {"index": index, "error": result.error}
        for index, result in enumerate(results)
        if result.error is not None
    ]
    if errors:
        body["errors"] = errors
    return _status_code(results), body


def _result(result: EventResult) -> dict[str, Any]:
    body: dict[str, Any] = {"idempotencyKey": result.key or "", "status": result.status}
    if result.error is not None:
        body["error"] = result.error
    if result.retryable:
        body["retryable"] = True
    if result.is_late:
        body["late"] = True
    return body


def _status_code(results: Sequence[EventResult]) -> int:
    if any(result.status is not Status.ERROR for result in results):
        return 200
    return 503 if any(result.retryable for result in results) else 400


def refusal_of_all(error: EventCountError, request_id: str) -> dict[str, Any]:
    """The body for a request whose events cannot even be looked at; index -1 is the request."""
    return {
        "accepted": 0,
        "duplicates": 0,
        "conflicts": 0,
        "requestId": request_id,
        "results": [],
        "errors": [{"index": -1, "error": error.message}],
    }


def header_key(headers: Mapping[str, str]) -> str | None:
    """The request's Idempotency-Key.

    Raises:
        BadRequestError: 400, no event may have it as its key.
    """
    key = headers.get("idempotency-key")
    if not key:
        return None
    try:
        return sent_event.key_given(key)
    except ValueError as error:
        raise BadRequestError(f"Idempotency-Key: {error}", error="Error") from None
