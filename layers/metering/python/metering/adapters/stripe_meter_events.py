"""Sending to Stripe: one request each, by the endpoint of v1 or of v2, and what its errors mean.

Both endpoints take the same events and know the same identifiers. v2 names its errors by codes,
where v1 leaves a repeated identifier to the text of its message; and v2 executes a failed request
again under the same idempotency key, where v1 repeats its failure.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import stripe

from metering import times
from metering.adapters.stripe_client import for_account
from metering.delivery import (
    Accepted,
    AlreadyExists,
    Answer,
    InFlight,
    KeyReused,
    NotAllowed,
    OutcomeUnknown,
    RateLimited,
    Refused,
    ServerError,
)
from metering.ports import MeterEvent, UsageRecord

if TYPE_CHECKING:
    from stripe import RequestOptions

DUPLICATE = "duplicate_meter_event"
"""The code of v2; v1 has none and says "An event already exists with identifier ..."."""
DUPLICATE_TEXT = "already exists with identifier"
TOO_MANY_AT_ONCE = "too_many_concurrent_requests"
"""Another event of the same customer and meter is being taken; this one was not executed."""
_CONFLICT, _SERVER_ERROR = 409, 500

BEFORE_METERS = "2025-02-24.acacia"
"""The last version of Stripe's API that has usage records."""

type Post = Callable[[stripe.StripeClient, MeterEvent], Mapping[str, str]]
"""Sends a meter event once and answers the response's headers; raises `stripe.StripeError`."""


def post_v1(client: stripe.StripeClient, event: MeterEvent) -> Mapping[str, str]:
    """`POST /v1/billing/meter_events`."""
    sent = client.v1.billing.meter_events.create(
        {
            "event_name": event.event_name,
            "payload": _payload(event),
            "identifier": event.identifier,
            "timestamp": int(event.occurred_at.timestamp()),
        },
        _options(event),
    )
    return _headers_of(sent)


def post_v2(client: stripe.StripeClient, event: MeterEvent) -> Mapping[str, str]:
    """`POST /v2/billing/meter_events`."""
    sent = client.v2.billing.meter_events.create(
        {
            "event_name": event.event_name,
            "payload": _payload(event),
            "identifier": event.identifier,
            "timestamp": times.to_iso_ms(event.occurred_at),
        },
        _options(event),
    )
    return _headers_of(sent)


TRANSPORTS: Mapping[str, Post] = {"v1": post_v1, "v2": post_v2}


def post_usage_record(
    client: stripe.StripeClient, record: UsageRecord, *, action: str
) -> Mapping[str, str]:
    """`POST /v1/subscription_items/{id}/usage_records`, which only an old version of the API has.

    `set` puts the quantity in the place of what stood at its instant, `increment` adds to it.
    """
    sent = client.raw_request(
        "post",
        f"/v1/subscription_items/{record.subscription_item}/usage_records",
        quantity=record.quantity,
        timestamp=int(record.occurred_at.timestamp()),
        action=action,
        stripe_version=BEFORE_METERS,
        idempotency_key=record.idempotency_key,
        **for_account(record.account),
    )
    headers: Mapping[str, str] = sent.headers
    return headers


def asked(post: Callable[[], Mapping[str, str]], identifier: str = "") -> Answer:
    """What a request came to; a timeout is an answer, too."""
    try:
        headers = post()
    except stripe.StripeError as error:
        return answer_of(error, identifier)
    return Accepted(replayed=headers.get("Idempotent-Replayed") == "true")


def _payload(event: MeterEvent) -> dict[str, str]:
    return {"stripe_customer_id": event.customer, "value": event.value}


def _options(event: MeterEvent) -> "RequestOptions":
    return {"idempotency_key": event.idempotency_key, **for_account(event.account)}


def _headers_of(sent: Any) -> Mapping[str, str]:
    return sent.last_response.headers if sent.last_response else {}


# --- what an error means --------------------------------------------------------------------------


def answer_of(  # noqa: PLR0911 (one line per kind of answer)
    error: stripe.StripeError, identifier: str = ""
) -> Answer:
    """What the SDK's exception says about what was sent under an identifier."""
    status, message, code = error.http_status or 0, str(error), code_of(error)
    if code == TOO_MANY_AT_ONCE:
        return RateLimited(code)
    if code == DUPLICATE:
        return AlreadyExists(message)
    match error:
        case stripe.APIConnectionError():
            return OutcomeUnknown(f"no answer: {_cause(error)}")
        case stripe.RateLimitError():
            return RateLimited(_header(error, "Stripe-Rate-Limited-Reason") or "lock_timeout")
        case stripe.IdempotencyError():
            # v2 gives the type of a reused key to one whose first request still runs, too.
            return InFlight() if status == _CONFLICT else KeyReused(message)
        case stripe.AuthenticationError() | stripe.PermissionError():
            return NotAllowed(f"{status}: {message}")
        case stripe.InvalidRequestError():
            return _invalid(error, code, identifier)
    if status == _CONFLICT:
        return InFlight()
    if status == _SERVER_ERROR:
        return ServerError(message)
    # 502 to 504, and bodies that nobody can read, whatever their status.
    return OutcomeUnknown(f"{status}: {message}")


def _invalid(error: stripe.InvalidRequestError, code: str, identifier: str) -> Answer:
    message = error.user_message or str(error)
    if identifier and DUPLICATE_TEXT in message and identifier in message:
        return AlreadyExists(message)
    return Refused(code, message)


def code_of(error: stripe.StripeError) -> str:
    """The error's code, empty without one; on some errors the SDK fills only the parsed body's."""
    return error.code or (error.error.code if error.error else None) or ""


def _header(error: stripe.StripeError, name: str) -> str:
    return (error.headers or {}).get(name, "")


def _cause(error: stripe.StripeError) -> str:
    return str(error.__cause__ or error)
