"""Billing meters: what an event name means. Only the display name can ever be changed."""

from local.stripe import events, params, refusals
from local.stripe.call import Call
from local.stripe.lists import page
from local.stripe.params import Choice, Fields, Text
from local.stripe.state import METER
from local.stripe.wire import Json

_NAME = Text(250)
_KEY = Text(100)

CREATE = Fields(
    {
        "display_name": _NAME,
        "event_name": Text(100),
        "default_aggregation": Fields(
            {"formula": Choice("count", "last", "sum")}, required=("formula",)
        ),
        "customer_mapping": Fields(
            {"type": Choice("by_id"), "event_payload_key": _KEY},
            required=("event_payload_key", "type"),
        ),
        "value_settings": Fields({"event_payload_key": _KEY}, required=("event_payload_key",)),
        "event_time_window": Choice("day", "hour"),
    },
    required=("default_aggregation", "display_name", "event_name"),
)
UPDATE = Fields({"display_name": _NAME})
LIST = Fields({**params.LIST_FIELDS, "status": Choice("active", "inactive")})


def create(call: Call) -> Json:
    """A new, active meter.

    Raises:
        RefusedError: another active meter has the event name.
    """
    given = call.params
    _refuse_taken(call, given["event_name"])
    meter = call.put(
        {
            "id": call.new_id("mtr_test_"),
            "object": METER,
            "created": call.now,
            "customer_mapping": given.get("customer_mapping")
            or {"event_payload_key": "stripe_customer_id", "type": "by_id"},
            "default_aggregation": given["default_aggregation"],
            "display_name": given["display_name"],
            "event_name": given["event_name"],
            "event_time_window": given.get("event_time_window"),
            "livemode": False,
            "status": "active",
            "status_transitions": {"deactivated_at": None},
            "updated": call.now,
            "value_settings": given.get("value_settings") or {"event_payload_key": "value"},
        }
    )
    return _told(call, "created", meter)


def _told(call: Call, what: str, meter: Json) -> Json:
    events.emit(call.world, call.account, f"billing.meter.{what}", meter, call.now)
    return meter


def _refuse_taken(call: Call, event_name: str) -> None:
    taken = call.account.meter_of.get(event_name)
    if taken:
        raise refusals.RefusedError(
            f"A meter with the event name `{event_name}` is already active: {taken}. "
            "Deactivate it, or choose another event name.",
            param="event_name",
        )


def retrieve(call: Call) -> Json:
    """One meter."""
    return call.targeted(METER)


def update(call: Call) -> Json:
    """The meter under another display name."""
    meter = call.put(call.targeted(METER) | call.params | {"updated": call.now})
    return _told(call, "updated", meter)


def list_all(call: Call) -> Json:
    """The account's meters, newest first."""
    status = call.params.get("status")
    meters = call.account.newest_first(METER)
    found = (meter for meter in meters if status in (None, meter["status"]))
    return page(found, call.params, call.path)


def deactivate(call: Call) -> Json:
    """The meter takes no more events and no more prices."""
    meter = call.targeted(METER)
    if meter["status"] == "inactive":
        raise refusals.RefusedError(f"The meter {meter['id']} is already inactive.")
    inactive = call.put(_in_status(meter, "inactive", call.now, deactivated_at=call.now))
    return _told(call, "deactivated", inactive)


def reactivate(call: Call) -> Json:
    """The meter takes events again.

    Raises:
        RefusedError: it is active, or another active meter took the event name meanwhile.
    """
    meter = call.targeted(METER)
    if meter["status"] == "active":
        raise refusals.RefusedError(f"The meter {meter['id']} is already active.")
    _refuse_taken(call, meter["event_name"])
    active = call.put(_in_status(meter, "active", call.now, deactivated_at=None))
    return _told(call, "reactivated", active)


def _in_status(meter: Json, status: str, now: int, *, deactivated_at: int | None) -> Json:
    transitions = {"deactivated_at": deactivated_at}
    return meter | {"status": status, "status_transitions": transitions, "updated": now}
