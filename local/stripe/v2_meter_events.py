"""Meter events and their adjustments in v2: the same usage, typed errors.

Identifiers are those of v1: a meter event sent through one API is a duplicate in the other.
"""

from local.stripe import adjustments, meter_events, refusals, v2
from local.stripe.call import Call
from local.stripe.params import Choice, Fields, Text
from local.stripe.refusals import RefusedError
from local.stripe.wire import Json

CREATE = Fields(
    {
        "event_name": Text(100),
        "identifier": Text(100),
        "payload": v2.Strings(),
        "timestamp": v2.Instant(),
    },
    required=("event_name", "payload"),
)
CANCEL = Fields(
    {
        "cancel": Fields({"identifier": Text(100)}, required=("identifier",)),
        "event_name": Text(100),
        "type": Choice("cancel"),
    },
    required=("cancel", "event_name", "type"),
)

_CODES = {
    "meter_event_invalid_value": "payload_invalid_value",
    "meter_event_value_too_many_digits": "payload_invalid_value",
    "meter_event_no_customer_defined": "payload_no_customer_defined",
    "meter_event_value_not_found": "payload_no_value_defined",
}
"""v1's codes in the words of v2; the others are the same."""

_ONLY_LATER = frozenset({"meter_event_customer_not_found"})


def create(call: Call) -> Json:
    """Take a meter event.

    Raises:
        RefusedError: it is wrong, its identifier was used before, or another one for the same
            customer and meter is being taken (429).
    """
    sent = meter_events.Sent(
        event_name=call.params["event_name"],
        payload=call.params["payload"],
        identifier=call.params.get("identifier") or call.new_id(""),
        timestamp=call.params.get("timestamp", call.now),
        only_later=_ONLY_LATER,
    )
    try:
        meter_events.take(call, sent)
    except RefusedError as refusal:
        raise _typed(refusal) from refusal
    return {
        "object": "v2.billing.meter_event",
        "created": v2.written(call.at),
        "event_name": sent.event_name,
        "identifier": sent.identifier,
        "livemode": False,
        "payload": sent.payload,
        "timestamp": v2.written(sent.timestamp),
    }


def _typed(refusal: RefusedError) -> RefusedError:
    if isinstance(refusal, meter_events.UsedIdentifierError):
        code: str | None = "duplicate_meter_event"
    elif refusal.status == refusals.TOO_MANY_REQUESTS:
        code = "too_many_concurrent_requests"
    else:
        code = _CODES.get(refusal.code or "", refusal.code)
    return RefusedError(
        refusal.message,
        status=refusal.status,
        code=code,
        headers=refusal.headers,
        before_execution=refusal.before_execution,
    )


def cancel(call: Call) -> Json:
    """Cancel a meter event.

    Raises:
        RefusedError: there is no such event, it is older than a day, or cancelled already.
    """
    try:
        adjustment = adjustments.create(call)
    except RefusedError as refusal:
        code = "invalid_cancel_configuration"
        raise RefusedError(refusal.message, status=refusal.status, code=code) from refusal
    return adjustment | {
        "id": call.new_id("mtrea_test_"),
        "object": "v2.billing.meter_event_adjustment",
        "created": v2.written(call.at),
    }
