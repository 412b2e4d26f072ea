"""Meter event adjustments: one event is cancelled within a day of its receipt."""

from datetime import timedelta

from local.stripe import refusals
from local.stripe.call import Call
from local.stripe.params import Choice, Fields, Text
from local.stripe.state import DAY, EventCancelled, MeterEvent, Receipt
from local.stripe.wire import Json

CREATE = Fields(
    {
        "event_name": Text(100),
        "type": Choice("cancel"),
        "cancel": Fields({"identifier": Text(100)}),
    },
    required=("event_name", "type"),
)


def create(call: Call) -> Json:
    """Cancel a meter event; like its receipt, this shows in the summaries only later.

    Raises:
        RefusedError: there is no such event, it is older than a day, or cancelled already.
    """
    identifier = (call.params.get("cancel") or {}).get("identifier")
    if not identifier:
        raise refusals.missing_parameter("cancel[identifier]")
    event = _cancellable(call, identifier)
    delay = timedelta(seconds=call.world.settings.summary_delay_s)
    stream = call.account.receipts[identifier].stream
    assert stream is not None
    call.record(EventCancelled(call.account.id, stream, event.number, call.at + delay))
    return {
        "object": "billing.meter_event_adjustment",
        "cancel": {"identifier": identifier},
        "event_name": call.params["event_name"],
        "livemode": False,
        "status": "pending",
        "type": "cancel",
    }


def _cancellable(call: Call, identifier: str) -> MeterEvent:
    receipt = call.account.receipts.get(identifier)
    event = _event_of(call, receipt) if receipt else None
    if event is None or event.event_name != call.params["event_name"]:
        raise refusals.no_such("meter event", identifier, param="cancel[identifier]")
    if call.at - event.received_at > DAY:
        message = "A meter event can only be cancelled within 24 hours of its receipt."
        raise refusals.RefusedError(message, param="cancel[identifier]")
    if event.cancelled_from:
        message = f"The meter event {identifier} is cancelled already."
        raise refusals.RefusedError(message, param="cancel[identifier]")
    return event


def _event_of(call: Call, receipt: Receipt) -> MeterEvent | None:
    if receipt.stream is None:
        return None
    stream = call.account.streams[receipt.stream]
    return next((event for event in stream if event.number == receipt.number), None)
