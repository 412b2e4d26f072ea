"""Billing alerts: one event per customer when their usage reaches a threshold.

A stored alert also holds from which receipt on usage counts, and for whom it has triggered.
"""

from typing import Any

from local.stripe import events, params, refusals, summaries
from local.stripe.call import Call
from local.stripe.lists import page
from local.stripe.params import Array, Choice, Fields, Integer, Text
from local.stripe.state import ALERT, CUSTOMER, METER, Account, MeterEvent, Put, StreamKey, World
from local.stripe.wire import Json

PER_METER_AND_CUSTOMER_MAX = 25
_USAGE = Choice("usage_threshold")
_PRIVATE = ("since", "triggered_for")

CREATE = Fields(
    {
        "alert_type": _USAGE,
        "title": Text(256),
        "usage_threshold": Fields(
            {
                "filters": Array(
                    Fields({"customer": Text(), "type": Choice("customer")}, required=("type",))
                ),
                "gte": Integer(least=1),
                "meter": Text(),
                "recurrence": Choice("one_time"),
            },
            required=("gte", "meter", "recurrence"),
        ),
    },
    required=("alert_type", "title"),
)
LIST = Fields({**params.LIST_FIELDS, "alert_type": _USAGE, "meter": Text()})


def create(call: Call) -> Json:
    """A new alert; only usage that is received from now on counts.

    Raises:
        RefusedError: no threshold, too many filters or alerts, or a customer on a test clock.
    """
    threshold = call.params.get("usage_threshold")
    if threshold is None:
        raise refusals.missing_parameter("usage_threshold")
    call.referred(METER, threshold["meter"], "usage_threshold[meter]")
    customer = _customer(call, threshold.get("filters") or [])
    _refuse_too_many(call.account, threshold["meter"], customer)
    alert = {
        "id": call.new_id("alrt_test_"),
        "object": ALERT,
        "alert_type": call.params["alert_type"],
        "livemode": False,
        "status": "active",
        "title": call.params["title"],
        "usage_threshold": {"filters": None} | threshold,
        "since": call.account.received,
        "triggered_for": [],
    }
    return shown(call.put(alert))


def _customer(call: Call, filters: list[Json]) -> str | None:
    param = "usage_threshold[filters]"
    if not filters:
        return None
    if len(filters) > 1:
        raise refusals.invalid("You can specify at most one filter.", param)
    identity = filters[0].get("customer")
    if identity is None:
        raise refusals.missing_parameter(f"{param}[0][customer]")
    if call.referred(CUSTOMER, identity, f"{param}[0][customer]")["test_clock"]:
        message = "Billing alerts do not work with customers on a test clock."
        raise refusals.RefusedError(message, param=param)
    return str(identity)


def _refuse_too_many(account: Account, meter: str, customer: str | None) -> None:
    alike = [
        alert
        for alert in account.newest_first(ALERT)
        if alert["status"] != "archived"
        and alert["usage_threshold"]["meter"] == meter
        and _filter_of(alert) == customer
    ]
    if len(alike) >= PER_METER_AND_CUSTOMER_MAX:
        message = (
            f"There are {PER_METER_AND_CUSTOMER_MAX} alerts for this meter and customer already; "
            "archive one first."
        )
        raise refusals.RefusedError(message)


def _filter_of(alert: Json) -> str | None:
    filters = alert["usage_threshold"]["filters"]
    return str(filters[0]["customer"]) if filters else None


def shown(alert: Json) -> Json:
    """An alert as answers show it."""
    return {name: value for name, value in alert.items() if name not in _PRIVATE}


def retrieve(call: Call) -> Json:
    """One alert."""
    return shown(call.targeted(ALERT))


def list_all(call: Call) -> Json:
    """The account's alerts, newest first."""
    found = (
        shown(alert) for alert in call.account.newest_first(ALERT) if _matches(alert, call.params)
    )
    return page(found, call.params, call.path)


def _matches(alert: Json, given: dict[str, Any]) -> bool:
    meter = alert["usage_threshold"]["meter"]
    return given.get("meter") in (None, meter)


def activate(call: Call) -> Json:
    """The alert can trigger again, for usage that is received from now on."""
    alert = _changeable(call)
    if alert["status"] == "active":
        raise refusals.RefusedError(f"The alert {alert['id']} is already active.")
    fresh = {"status": "active", "since": call.account.received, "triggered_for": []}
    return shown(call.put(alert | fresh))


def deactivate(call: Call) -> Json:
    """The alert triggers no more until it is activated."""
    alert = _changeable(call)
    if alert["status"] == "inactive":
        raise refusals.RefusedError(f"The alert {alert['id']} is already inactive.")
    return shown(call.put(alert | {"status": "inactive"}))


def archive(call: Call) -> Json:
    """The alert is gone for good, but for looking at."""
    return shown(call.put(_changeable(call) | {"status": "archived"}))


def _changeable(call: Call) -> Json:
    alert = call.targeted(ALERT)
    if alert["status"] == "archived":
        raise refusals.RefusedError(f"The alert {alert['id']} is archived.")
    return alert


# --- triggering -----------------------------------------------------------------------------------


def consider(world: World, account: Account, event: MeterEvent) -> None:
    """Trigger the alerts whose threshold a meter event reaches."""
    if not account.all(ALERT):
        return
    for alert in list(account.newest_first(ALERT)):
        if _watches(account, alert, event):
            _trigger_if_reached(world, account, alert, event)


def _watches(account: Account, alert: Json, event: MeterEvent) -> bool:
    return (
        alert["status"] == "active"
        and alert["usage_threshold"]["meter"] == event.meter
        and _filter_of(alert) in (None, event.customer)
        and event.customer not in alert["triggered_for"]
        and account.all(CUSTOMER)[event.customer]["test_clock"] is None
    )


def _trigger_if_reached(world: World, account: Account, alert: Json, event: MeterEvent) -> None:
    stream = account.streams[StreamKey(event.meter, event.customer)]
    counting = [one for one in stream if one.number > alert["since"] and one.cancelled_from is None]
    value = summaries.aggregated(account.all(METER)[event.meter], counting)
    if value < alert["usage_threshold"]["gte"]:
        return
    alert = alert | {"triggered_for": [*alert["triggered_for"], event.customer]}
    world.record(Put(account.id, alert))
    at = int(event.received_at.timestamp())
    triggered = {
        "object": "billing.alert_triggered",
        "alert": shown(alert),
        "created": at,
        "customer": event.customer,
        "livemode": False,
        "value": int(value),
    }
    events.emit(world, account, "billing.alert.triggered", triggered, at)
