"""Subscription items: a price on a subscription, with the period it is in."""

from collections.abc import Mapping

from local.stripe import events, invoice_items, params, prices, refusals, subscription_billing
from local.stripe.billing_cycle import Cycle
from local.stripe.call import Call
from local.stripe.lists import page, whole
from local.stripe.params import (
    Boolean,
    Choice,
    Fields,
    Integer,
    Kind,
    Metadata,
    Text,
    merged_metadata,
)
from local.stripe.state import ITEM, PRICE, SUBSCRIPTION, Account, Removed
from local.stripe.wire import Json

_THRESHOLDS = Fields({"usage_gte": Integer(least=1)}, required=("usage_gte",), unset=True)
_PRORATION = Choice("always_invoice", "create_prorations", "none")
_PAYMENT = Choice(
    "allow_incomplete", "default_incomplete", "error_if_incomplete", "pending_if_incomplete"
)
_NOT_YET = ("current_trial", "discounts", "plan", "price_data", "tax_rates")

OF_SUBSCRIPTION = Fields(
    {
        "billing_thresholds": _THRESHOLDS,
        "metadata": Metadata(),
        "price": Text(),
        "quantity": Integer(least=0),
    },
    required=("price",),
    not_yet=_NOT_YET,
)
"""An item as it comes with a new subscription."""

_CHANGES: Mapping[str, Kind] = {
    "billing_thresholds": _THRESHOLDS,
    "metadata": Metadata(),
    "payment_behavior": _PAYMENT,
    "price": Text(),
    "proration_behavior": _PRORATION,
    "proration_date": params.INSTANT,
    "quantity": Integer(least=0),
}
CREATE = Fields(
    {**_CHANGES, "subscription": Text()}, required=("subscription", "price"), not_yet=_NOT_YET
)
UPDATE = Fields({**_CHANGES, "off_session": Boolean()}, not_yet=_NOT_YET)
DELETE = Fields(
    {
        "clear_usage": Boolean(),
        "payment_behavior": _PAYMENT,
        "proration_behavior": _PRORATION,
        "proration_date": params.INSTANT,
    }
)
LIST = Fields({**params.LIST_FIELDS, "subscription": Text()}, required=("subscription",))


def create(call: Call) -> Json:
    """A further price on a subscription."""
    subscription = call.referred(SUBSCRIPTION, call.params["subscription"], "subscription")
    refuse_if_ended(subscription)
    price = usable_price(call, call.params["price"], "price")
    _refuse_twice(call, subscription, price)
    call = call.on_clock_of(subscription)
    item = add(call, subscription, call.params, param="")
    settle_change(call, subscription)
    return shown(call.account, item)


def settle_change(call: Call, subscription: Json) -> None:
    """Tell that the items of a subscription changed, and invoice at once what is wanted at once."""
    if call.params.get("proration_behavior") == "always_invoice":
        subscription_billing.invoice_pending(call, subscription)
    told(call, "updated", call.account.all(SUBSCRIPTION)[subscription["id"]])


def add(
    call: Call, subscription: Json, given: Json, *, param: str, usage_since: int | None = None
) -> Json:
    """Put an item on a subscription; `param` is where its parameters stand.

    Usage is billed from `usage_since` on, which is now unless given.

    Raises:
        RefusedError: the price cannot be used, or needs a quantity and has none, or the reverse.
    """
    price = usable_price(call, given["price"], f"{param}[price]" if param else "price")
    start, end = period_now(subscription, price, call.now)
    return call.put(
        {
            "id": call.new_id("si_"),
            "object": ITEM,
            "billed_until": end if _is_licensed(price) else usage_since or call.now,
            "billing_thresholds": given.get("billing_thresholds"),
            "created": call.now,
            "current_period_end": end,
            "current_period_start": start,
            "discounts": [],
            "metadata": merged_metadata({}, given.get("metadata")),
            "price": price["id"],
            "quantity": _quantity(price, given, param),
            "subscription": subscription["id"],
            "tax_rates": [],
        }
    )


def usable_price(call: Call, identity: str, param: str) -> Json:
    """A price that a subscription can carry.

    Raises:
        RefusedError: none such, inactive, for one time, or metered without a meter.
    """
    price = call.referred(PRICE, identity, param)
    recurring = price["recurring"]
    if not price["active"]:
        message = (
            f"The price specified is inactive. This field only accepts active prices: {identity}"
        )
        raise refusals.RefusedError(message, param=param)
    if recurring is None:
        message = f"The price specified is one_time, only recurring ones fit: {identity}"
        raise refusals.RefusedError(message, param=param)
    meterless = recurring["usage_type"] == "metered" and recurring["meter"] is None
    if meterless and call.version >= prices.METERS_REQUIRED_SINCE:
        message = f"The metered price {identity} has no meter; create one with recurring[meter]."
        raise refusals.RefusedError(message, param=param)
    return price


def _is_licensed(price: Json) -> bool:
    return bool(price["recurring"]["usage_type"] == "licensed")


def _quantity(price: Json, given: Json, param: str) -> int | None:
    if _is_licensed(price):
        return int(given.get("quantity", 1))
    if "quantity" in given:
        name = f"{param}[quantity]" if param else "quantity"
        message = f"Quantity cannot be set on a metered price: {price['id']}"
        raise refusals.RefusedError(message, param=name)
    return None


def period_now(subscription: Json, price: Json, now: int) -> tuple[int, int]:
    """The period that an item is in; its first one starts with the subscription."""
    if subscription["status"] == "trialing":
        return subscription["trial_start"], subscription["trial_end"]
    start, end = Cycle.of(subscription, price).period_at(now)
    return max(start, subscription["start_date"]), end


def refuse_if_ended(subscription: Json) -> None:
    """Refuse changes to what has ended.

    Raises:
        RefusedError: it has.
    """
    if subscription["status"] == "canceled":
        message = f"No such subscription: '{subscription['id']}'; a canceled one cannot be updated"
        raise refusals.RefusedError(message, code="resource_missing", param="id")


def _refuse_twice(call: Call, subscription: Json, price: Json, *, but: str | None = None) -> None:
    for item in call.account.items(subscription["id"]):
        if item["price"] == price["id"] and item["id"] != but:
            message = f"Cannot add multiple subscription items with the same price: {price['id']}"
            raise refusals.RefusedError(message, param="price")


def shown(account: Account, item: Json) -> Json:
    """An item as answers show it, with its price whole."""
    price = account.all(PRICE)[item["price"]]
    return item | {"price": prices.shown(price), "plan": prices.plan_of(price)}


def shown_subscription(account: Account, subscription: Json) -> Json:
    """A subscription as answers show it, with its items."""
    items = [shown(account, item) for item in account.items(subscription["id"])]
    url = f"/v1/subscription_items?subscription={subscription['id']}"
    return subscription | {"items": whole(items, url)}


def told(call: Call, what: str, subscription: Json) -> None:
    """Note what happened to a subscription."""
    kind = f"customer.subscription.{what}"
    content = shown_subscription(call.account, subscription)
    events.emit(call.world, call.account, kind, content, call.now)


def retrieve(call: Call) -> Json:
    """One item."""
    return shown(call.account, call.targeted(ITEM))


def update(call: Call) -> Json:
    """The item with the given fields changed."""
    item = call.targeted(ITEM)
    subscription = call.account.all(SUBSCRIPTION)[item["subscription"]]
    call = call.on_clock_of(subscription)
    new = changed(call, item, call.params, param="")
    settle_change(call, subscription)
    return shown(call.account, new)


def changed(call: Call, item: Json, given: Json, *, param: str) -> Json:
    """Change an item of a subscription that goes on."""
    subscription = call.account.all(SUBSCRIPTION)[item["subscription"]]
    refuse_if_ended(subscription)
    price_id = given["price"] if "price" in given else item["price"]
    price = usable_price(call, price_id, f"{param}[price]" if param else "price")
    _refuse_twice(call, subscription, price, but=item["id"])
    fields: Json = {"price": price["id"]}
    if price["id"] != item["price"]:
        _keep_usage(call, subscription, item, given)
        start, end = period_now(subscription, price, call.now)
        fields |= {"current_period_start": start, "current_period_end": end}
        fields["billed_until"] = end if _is_licensed(price) else call.now
    if price["id"] != item["price"] or "quantity" in given:
        fields["quantity"] = _quantity(price, given, param)
    if "metadata" in given:
        fields["metadata"] = merged_metadata(item["metadata"], given["metadata"])
    if "billing_thresholds" in given:
        fields["billing_thresholds"] = given["billing_thresholds"]
    return call.put(item | fields)


def list_of_subscription(call: Call) -> Json:
    """A subscription's items, newest first."""
    subscription = call.referred(SUBSCRIPTION, call.params["subscription"], "subscription")
    items = reversed(call.account.items(subscription["id"]))
    return page([shown(call.account, item) for item in items], call.params, call.path)


def delete(call: Call) -> Json:
    """The item leaves its subscription."""
    item = call.targeted(ITEM)
    subscription = call.account.all(SUBSCRIPTION)[item["subscription"]]
    call = call.on_clock_of(subscription)
    remove(call, item, call.params)
    settle_change(call, subscription)
    return {"id": call.target, "object": ITEM, "deleted": True}


def remove(call: Call, item: Json, given: Json) -> None:
    """Take an item off its subscription, as its parameters say.

    Raises:
        RefusedError: it is the last one.
    """
    if len(call.account.items(item["subscription"])) == 1:
        message = (
            "A subscription must have at least one active item; cancel the subscription instead."
        )
        raise refusals.RefusedError(message)
    subscription = call.account.all(SUBSCRIPTION)[item["subscription"]]
    _keep_usage(call, subscription, item, given)
    call.record(Removed(call.account.id, item["id"]))


def _keep_usage(call: Call, subscription: Json, item: Json, given: Json) -> None:
    """Usage of an item that goes, or changes its price: kept in flexible billing mode, else lost.

    Nothing is kept of a trial, with `proration_behavior=none`, or with `clear_usage`.
    """
    unwanted = given.get("clear_usage") or call.params.get("proration_behavior") == "none"
    metered = not _is_licensed(call.account.all(PRICE)[item["price"]])
    flexible = subscription_billing.is_flexible(subscription)
    if metered and flexible and not unwanted and subscription["status"] != "trialing":
        invoice_items.for_usage(call, subscription, item)
