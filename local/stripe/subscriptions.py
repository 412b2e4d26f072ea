"""Subscriptions: which customer pays which prices, and from when to when.

Payments are out of scope: a subscription is active as soon as it exists, or trialing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from local.stripe import invoice_lines, params, refusals, subscription_billing, subscription_items
from local.stripe.billing_cycle import Cycle, configured_anchor
from local.stripe.call import Call
from local.stripe.lists import page
from local.stripe.params import (
    Array,
    Boolean,
    Choice,
    Either,
    Fields,
    Instants,
    Integer,
    Kind,
    Metadata,
    Text,
    merged_metadata,
    within,
)
from local.stripe.state import CUSTOMER, ITEM, PRICE, SUBSCRIPTION, Account
from local.stripe.subscription_items import shown_subscription as shown
from local.stripe.subscription_items import told
from local.stripe.wire import Json

DAY_S = 86_400

_INSTANT = params.INSTANT
_DETAILS = Fields(
    {
        "comment": Text(unset=True),
        "feedback": Choice(
            "customer_service",
            "low_quality",
            "missing_features",
            "other",
            "switched_service",
            "too_complex",
            "too_expensive",
            "unused",
            unset=True,
        ),
    },
    not_yet=("feedback_option",),
)
_PRORATION = Choice("always_invoice", "create_prorations", "none")
_NOT_YET = (
    "add_invoice_items",
    "application_fee_percent",
    "automatic_tax",
    "billing_schedules",
    "billing_thresholds",
    "customer_account",
    "default_payment_method",
    "default_source",
    "default_tax_rates",
    "discounts",
    "invoice_settings",
    "on_behalf_of",
    "pause_collection",
    "payment_settings",
    "pending_invoice_item_interval",
    "transfer_data",
    "trial_from_plan",
    "trial_settings",
)
_SHARED: Mapping[str, Kind] = {
    "cancel_at": Integer(least=0, most=params.TIMESTAMP_MAX, unset=True),
    "cancel_at_period_end": Boolean(),
    "collection_method": Choice("charge_automatically", "send_invoice"),
    "days_until_due": Integer(least=0),
    "description": Text(500, unset=True),
    "metadata": Metadata(),
    "off_session": Boolean(),
    "payment_behavior": Choice(
        "allow_incomplete", "default_incomplete", "error_if_incomplete", "pending_if_incomplete"
    ),
    "proration_behavior": _PRORATION,
    "trial_end": Either("now", _INSTANT),
}
CREATE = Fields(
    {
        **_SHARED,
        "backdate_start_date": _INSTANT,
        "billing_cycle_anchor": _INSTANT,
        "billing_cycle_anchor_config": Fields(
            {
                "day_of_month": Integer(least=1, most=31),
                "hour": Integer(least=0, most=23),
                "minute": Integer(least=0, most=59),
                "month": Integer(least=1, most=12),
                "second": Integer(least=0, most=59),
            },
            required=("day_of_month",),
        ),
        "billing_mode": Fields(
            {
                "type": Choice("classic", "flexible"),
                "flexible": Fields({"proration_discounts": Choice("included", "itemized")}),
            },
            required=("type",),
        ),
        "currency": Text(3),
        "customer": Text(),
        "items": Array(subscription_items.OF_SUBSCRIPTION),
        "trial_period_days": Integer(least=1, most=730),
    },
    required=("customer", "items"),
    not_yet=_NOT_YET,
)
UPDATE = Fields(
    {
        **_SHARED,
        "billing_cycle_anchor": Fields({"type": Choice("now", "unchanged")}, required=("type",)),
        "cancellation_details": _DETAILS,
        "items": Array(
            Fields(
                {
                    "billing_thresholds": Fields({"usage_gte": Integer(least=1)}, unset=True),
                    "clear_usage": Boolean(),
                    "deleted": Boolean(),
                    "id": Text(),
                    "metadata": Metadata(),
                    "price": Text(),
                    "quantity": Integer(least=0),
                },
                not_yet=("current_trial", "discounts", "plan", "price_data", "tax_rates"),
            )
        ),
        "proration_date": _INSTANT,
    },
    not_yet=_NOT_YET,
)
CANCEL = Fields({"cancellation_details": _DETAILS, "invoice_now": Boolean(), "prorate": Boolean()})
LIST = Fields(
    {
        **params.LIST_FIELDS,
        "collection_method": Choice("charge_automatically", "send_invoice"),
        "created": Instants(),
        "current_period_end": Instants(),
        "current_period_start": Instants(),
        "customer": Text(),
        "price": Text(),
        "status": Choice(
            "active",
            "all",
            "canceled",
            "ended",
            "incomplete",
            "incomplete_expired",
            "past_due",
            "paused",
            "trialing",
            "unpaid",
        ),
        "test_clock": Text(),
    },
    not_yet=("automatic_tax", "customer_account", "plan"),
)


# --- creation -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Start:
    """When a subscription starts, and around which instant its periods turn."""

    start_date: int
    anchor: int
    trial_end: int | None

    @property
    def usage_since(self) -> int | None:
        """From when on usage is open; None for now, as usage in a trial costs nothing."""
        return None if self.trial_end else self.start_date


def create(call: Call) -> Json:
    """A new subscription with its items.

    Raises:
        RefusedError: customer, prices, anchor or dates do not go together.
    """
    given = call.params
    customer = call.referred(CUSTOMER, given["customer"], "customer")
    call = call.on_clock_of(customer)
    prices = _prices(call)
    start = _start(call)
    subscription = _blank(call, customer, prices[0]["currency"], start)
    subscription |= _dates(call, subscription)
    _check_anchor(call, subscription, prices)
    call.put(subscription)
    for index, item in enumerate(given["items"]):
        since = start.usage_since
        subscription_items.add(call, subscription, item, param=f"items[{index}]", usage_since=since)
    if given.get("cancel_at_period_end"):
        subscription = call.put(subscription | _ending_with_period(call, subscription))
    told(call, "created", subscription)
    subscription_billing.first(call, subscription)
    return _as_it_is(call, subscription)


def _as_it_is(call: Call, subscription: Json) -> Json:
    """The answer, with what billing changed meanwhile."""
    return shown(call.account, call.account.all(SUBSCRIPTION)[subscription["id"]])


def _prices(call: Call) -> list[Json]:
    items = call.params["items"]
    if not items:
        raise refusals.missing_parameter("items")
    found = [
        subscription_items.usable_price(call, item["price"], f"items[{index}][price]")
        for index, item in enumerate(items)
    ]
    if len({price["id"] for price in found}) < len(found):
        message = "Cannot add multiple subscription items with the same price."
        raise refusals.RefusedError(message, param="items")
    currencies = {price["currency"] for price in found}
    if "currency" in call.params:
        currencies.add(call.params["currency"].lower())
    if len(currencies) > 1:
        message = f"All prices of a subscription must have one currency: {sorted(currencies)}"
        raise refusals.RefusedError(message, param="items")
    return found


def _start(call: Call) -> _Start:
    given, now = call.params, call.now
    start_date = given.get("backdate_start_date", now)
    if start_date > now:
        message = "backdate_start_date must be in the past."
        raise refusals.RefusedError(message, param="backdate_start_date")
    trial_end = _trial_end(call)
    if trial_end:
        return _Start(start_date, given.get("billing_cycle_anchor", trial_end), trial_end)
    return _Start(start_date, _anchor(call), None)


def _trial_end(call: Call) -> int | None:
    if "trial_period_days" in call.params:
        return int(call.now + call.params["trial_period_days"] * DAY_S)
    end = call.params.get("trial_end", "now")
    if end == "now":
        return None
    if end <= call.now:
        message = "trial_end must be in the future, or `now`."
        raise refusals.RefusedError(message, param="trial_end")
    return int(end)


def _anchor(call: Call) -> int:
    given, now = call.params, call.now
    if "billing_cycle_anchor" in given and "billing_cycle_anchor_config" in given:
        message = "You may only specify one of billing_cycle_anchor, billing_cycle_anchor_config."
        raise refusals.invalid(message, "billing_cycle_anchor")
    if "billing_cycle_anchor_config" in given:
        return configured_anchor(_whole_config(given["billing_cycle_anchor_config"]), now)
    return int(given.get("billing_cycle_anchor", now))


def _whole_config(given: Json) -> Json:
    return dict.fromkeys(("hour", "minute", "month", "second")) | given


def _check_anchor(call: Call, subscription: Json, prices: list[Json]) -> None:
    """An anchor lies between the start and the end of the first whole interval."""
    anchor = subscription["billing_cycle_anchor"]
    if anchor < subscription["start_date"]:
        message = "billing_cycle_anchor cannot be before the start of the subscription."
        raise refusals.RefusedError(message, param="billing_cycle_anchor")
    unanchored = subscription | {
        "billing_cycle_anchor": call.now,
        "billing_cycle_anchor_config": None,
    }
    if subscription["billing_cycle_anchor_config"] or subscription["trial_end"]:
        return
    for price in prices:
        natural = Cycle.of(unanchored, price).boundary(1)
        if anchor > natural:
            message = f"billing_cycle_anchor cannot be later than the next billing date ({natural})"
            raise refusals.RefusedError(message, param="billing_cycle_anchor")


def _blank(call: Call, customer: Json, currency: str, start: _Start) -> Json:
    given = call.params
    config = given.get("billing_cycle_anchor_config")
    return {
        "id": call.new_id("sub_"),
        "object": SUBSCRIPTION,
        "application": None,
        "application_fee_percent": None,
        "automatic_tax": {"disabled_reason": None, "enabled": False, "liability": None},
        "billing_cycle_anchor": start.anchor,
        "billing_cycle_anchor_config": _whole_config(config) if config else None,
        "billing_mode": _billing_mode(given),
        "billing_schedules": [],
        "billing_thresholds": None,
        "cancel_at": None,
        "cancel_at_period_end": False,
        "canceled_at": None,
        "cancellation_details": {"comment": None, "feedback": None, "reason": None},
        "collection_method": given.get("collection_method", "charge_automatically"),
        "created": call.now,
        "currency": currency,
        "customer": customer["id"],
        "days_until_due": given.get("days_until_due"),
        "default_payment_method": None,
        "default_source": None,
        "default_tax_rates": [],
        "description": given.get("description"),
        "discounts": [],
        "ended_at": None,
        "invoice_settings": {"account_tax_ids": None, "issuer": {"type": "self"}},
        "latest_invoice": None,
        "livemode": False,
        "metadata": merged_metadata({}, given.get("metadata")),
        "next_pending_invoice_item_invoice": None,
        "on_behalf_of": None,
        "pause_collection": None,
        "pending_setup_intent": None,
        "pending_update": None,
        "schedule": None,
        "start_date": start.start_date,
        "status": "trialing" if start.trial_end else "active",
        "test_clock": customer["test_clock"],
        "transfer_data": None,
        "trial_end": start.trial_end,
        "trial_start": call.now if start.trial_end else None,
    }


def _billing_mode(given: Json) -> Json:
    mode = given.get("billing_mode") or {"type": "flexible"}
    discounts = (mode.get("flexible") or {}).get("proration_discounts", "included")
    flexible = {"proration_discounts": discounts} if mode["type"] == "flexible" else None
    return {"flexible": flexible, "type": mode["type"], "updated_at": None}


def _dates(call: Call, subscription: Json) -> Json:
    """What `cancel_at` changes."""
    if "cancel_at" not in call.params:
        return {}
    cancel_at = call.params["cancel_at"]
    if cancel_at and call.params.get("cancel_at_period_end"):
        message = "You may only specify one of these parameters: cancel_at, cancel_at_period_end."
        raise refusals.invalid(message, "cancel_at")
    if cancel_at and cancel_at <= max(call.now, subscription["start_date"]):
        raise refusals.RefusedError("cancel_at must be in the future.", param="cancel_at")
    if cancel_at is None:
        return {"cancel_at": None, "cancel_at_period_end": False, "canceled_at": None}
    return {"cancel_at": cancel_at, "cancel_at_period_end": False, "canceled_at": call.now}


def _ending_with_period(call: Call, subscription: Json) -> Json:
    items = call.account.items(subscription["id"])
    end = max(item["current_period_end"] for item in items)
    details = subscription["cancellation_details"] | {"reason": "cancellation_requested"}
    return {
        "cancel_at": end,
        "cancel_at_period_end": True,
        "canceled_at": call.now,
        "cancellation_details": details,
    }


# --- reading --------------------------------------------------------------------------------------


def retrieve(call: Call) -> Json:
    """One subscription, also after its end."""
    return shown(call.account, call.targeted(SUBSCRIPTION))


def list_all(call: Call) -> Json:
    """The account's subscriptions, newest first.

    The ended ones only on demand, those on a test clock only for it or for their customer.
    """
    listed = page(
        (
            subscription
            for subscription in call.account.newest_first(SUBSCRIPTION)
            if _matches(call.account, subscription, call.params)
        ),
        call.params,
        call.path,
    )
    return listed | {"data": [shown(call.account, found) for found in listed["data"]]}


def _matches(account: Account, subscription: Json, given: dict[str, Any]) -> bool:
    plain = {name: given[name] for name in ("collection_method", "customer") if name in given}
    items = account.items(subscription["id"])
    clock = subscription["test_clock"]
    return (
        (clock == given.get("test_clock") or ("test_clock" not in given and "customer" in given))
        and plain.items() <= {name: subscription[name] for name in plain}.items()
        and _has_status(subscription["status"], given.get("status"))
        and within(subscription["created"], given.get("created", {}))
        and ("price" not in given or any(item["price"] == given["price"] for item in items))
        and all(
            any(within(item[bound], given[bound]) for item in items)
            for bound in ("current_period_start", "current_period_end")
            if bound in given
        )
    )


def _has_status(status: str, wanted: str | None) -> bool:
    if wanted is None:
        return status != "canceled"
    if wanted == "ended":
        return status in ("canceled", "incomplete_expired")
    return wanted in ("all", status)


# --- changes --------------------------------------------------------------------------------------


def update(call: Call) -> Json:
    """The subscription with the given fields changed.

    Where the anchor moves to now, the periods end now and are invoiced at once.
    """
    subscription = call.targeted(SUBSCRIPTION)
    subscription_items.refuse_if_ended(subscription)
    call = call.on_clock_of(subscription)
    fields = _plain_changes(subscription, call.params) | _dates(call, subscription)
    fields |= _trial_change(call, subscription)
    if call.params.get("billing_cycle_anchor") == {"type": "now"}:
        fields |= {"billing_cycle_anchor": call.now, "billing_cycle_anchor_config": None}
    if "billing_cycle_anchor" in fields:
        _change_with_periods(call, subscription, fields)
    else:
        _change_items(call, call.put(subscription | fields))
    changed = _with_period_end(call, call.account.all(SUBSCRIPTION)[subscription["id"]])
    subscription_items.settle_change(call, changed)
    return _as_it_is(call, changed)


def _change_items(call: Call, subscription: Json) -> None:
    for index, item in enumerate(call.params.get("items") or ()):
        _change_item(call, subscription, item, f"items[{index}]")


def _change_with_periods(call: Call, subscription: Json, fields: Json) -> None:
    """Change a subscription whose periods end now: what was used so far is billed as it was."""
    items = call.account.items(subscription["id"])
    since = min(item["current_period_start"] for item in items)
    closing = subscription_billing.closing_lines(call, subscription)
    changed = call.put(subscription | fields)
    _change_items(call, changed)
    _restart_periods(call, changed)
    subscription_billing.restarted(call, changed, closing, since)


def _plain_changes(subscription: Json, given: Json) -> Json:
    kept = ("collection_method", "days_until_due", "description")
    fields: Json = {name: given[name] for name in kept if name in given}
    if "metadata" in given:
        fields["metadata"] = merged_metadata(subscription["metadata"], given["metadata"])
    if "cancellation_details" in given:
        details = subscription["cancellation_details"]
        fields["cancellation_details"] = details | given["cancellation_details"]
    return fields


def _trial_change(call: Call, subscription: Json) -> Json:
    if "trial_end" not in call.params:
        return {}
    end = _trial_end(call)
    if end:
        start = subscription["trial_start"] or call.now
        trial = {"status": "trialing", "trial_start": start, "trial_end": end}
        return trial | {"billing_cycle_anchor": end, "billing_cycle_anchor_config": None}
    if subscription["status"] != "trialing":
        return {}
    ended = {"status": "active", "trial_end": call.now}
    return ended | {"billing_cycle_anchor": call.now, "billing_cycle_anchor_config": None}


def _change_item(call: Call, subscription: Json, given: Json, param: str) -> None:
    if "id" not in given:
        if "price" not in given:
            raise refusals.missing_parameter(f"{param}[price]")
        subscription_items.add(call, subscription, given, param=param)
        return
    item = call.referred(ITEM, given["id"], f"{param}[id]")
    if item["subscription"] != subscription["id"]:
        raise refusals.no_such("subscription_item", item["id"], param=f"{param}[id]")
    if given.get("deleted"):
        subscription_items.remove(call, item, given)
    else:
        subscription_items.changed(call, item, given, param=param)


def _restart_periods(call: Call, subscription: Json) -> None:
    for item in call.account.items(subscription["id"]):
        price = call.account.all(PRICE)[item["price"]]
        start, end = subscription_items.period_now(subscription, price, call.now)
        period = {"current_period_start": start, "current_period_end": end}
        metered = invoice_lines.is_metered(price)
        call.put(item | period | {"billed_until": call.now if metered else end})


def _with_period_end(call: Call, subscription: Json) -> Json:
    wanted = call.params.get("cancel_at_period_end")
    if wanted:
        return call.put(subscription | _ending_with_period(call, subscription))
    if wanted is False and subscription["cancel_at_period_end"]:
        details = subscription["cancellation_details"] | {"reason": None}
        going_on = {"cancel_at": None, "cancel_at_period_end": False, "canceled_at": None}
        return call.put(subscription | going_on | {"cancellation_details": details})
    return subscription


def cancel(call: Call) -> Json:
    """End the subscription now; open usage is billed only with `invoice_now`."""
    subscription = call.targeted(SUBSCRIPTION)
    subscription_items.refuse_if_ended(subscription)
    call = call.on_clock_of(subscription)
    details = {
        **subscription["cancellation_details"],
        **(call.params.get("cancellation_details") or {}),
        "reason": "cancellation_requested",
    }
    ending = call.put(subscription | {"cancellation_details": details, "canceled_at": call.now})
    if call.params.get("invoice_now"):
        subscription_billing.last(call, ending, waits=False)
    return shown(call.account, end(call, call.account.all(SUBSCRIPTION)[ending["id"]]))


def end(call: Call, subscription: Json) -> Json:
    """A subscription's end; its items keep the period they were in."""
    canceled_at = subscription["canceled_at"] or call.now
    ended = {"status": "canceled", "ended_at": call.now, "canceled_at": canceled_at}
    ended = call.put(subscription | ended)
    told(call, "deleted", ended)
    return ended
