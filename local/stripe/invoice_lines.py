"""Invoice lines: usage that was, seats that will be, and invoice items.

The lines of metered items on a draft are not yet final: `current` computes them anew from the usage
aggregated by then. One line per item; Stripe may show one per tier.
"""

from collections.abc import Iterable
from decimal import Decimal

from local.stripe import charges, summaries
from local.stripe.billing_cycle import Cycle
from local.stripe.call import Call
from local.stripe.legacy import legacy_usage
from local.stripe.state import INVOICE_ITEM, METER, PRICE, PRODUCT, StreamKey
from local.stripe.wire import Json

FROM_ITEM = "subscription_item_details"
FROM_INVOICE_ITEM = "invoice_item_details"


def is_metered(price: Json) -> bool:
    """Whether a price is for usage, billed afterwards."""
    return bool(price["recurring"] and price["recurring"]["usage_type"] == "metered")


def _used(call: Call, line: Json, price: Json, customer: str) -> Decimal:
    """The usage in a line's period as it is aggregated by now; it may be negative."""
    start, end = line["period"]["start"], line["period"]["end"]
    meter = price["recurring"]["meter"]
    if meter is None:
        item = {"id": line["parent"][FROM_ITEM]["subscription_item"], "price": price["id"]}
        return legacy_usage(call.account, item, start, end)
    stream = StreamKey(meter, customer)
    events = summaries.counted(call.account, stream, call.aggregated_at, start=start, end=end)
    return summaries.aggregated(call.account.all(METER)[meter], events)


# --- lines of subscription items ------------------------------------------------------------------


def of_usage(call: Call, subscription: Json, items: Iterable[Json], until: int) -> list[Json]:
    """Lines for the open usage of metered items, from where they were last billed."""
    return [
        _of_item(call, subscription, item, (item["billed_until"], until))
        for item in items
        if is_metered(call.account.all(PRICE)[item["price"]])
    ]


def in_advance(call: Call, subscription: Json, items: Iterable[Json]) -> list[Json]:
    """Lines for the present periods of licensed items."""
    return [
        _of_item(
            call, subscription, item, (item["current_period_start"], item["current_period_end"])
        )
        for item in items
        if not is_metered(call.account.all(PRICE)[item["price"]])
    ]


def _of_item(call: Call, subscription: Json, item: Json, period: tuple[int, int]) -> Json:
    price = call.account.all(PRICE)[item["price"]]
    details = {
        "invoice_item": None,
        "proration": False,
        "proration_details": None,
        "subscription": subscription["id"],
        "subscription_item": item["id"],
    }
    line = _blank(call, price["currency"], period) | {
        "metadata": item["metadata"],
        "parent": _parent(FROM_ITEM, details),
        "pricing": pricing_of(price),
        "subscription": subscription["id"],
    }
    if is_metered(price):
        return _metered(call, line, subscription["customer"])
    amount = _licensed_amount(subscription, item, price, period)
    return line | _priced(call, price, Decimal(item["quantity"]), charges.rounded(amount))


def _metered(call: Call, line: Json, customer: str) -> Json:
    """A line with the usage of its period as it is known now; below zero there is none."""
    price = call.account.all(PRICE)[line["pricing"]["price_details"]["price"]]
    quantity = max(_used(call, line, price, customer), charges.ZERO)
    return line | _priced(call, price, quantity, charges.rounded(charges.charge(price, quantity)))


def _licensed_amount(
    subscription: Json, item: Json, price: Json, period: tuple[int, int]
) -> Decimal:
    """Nothing in a trial; a period shorter than the price's interval costs its part of it."""
    if subscription["status"] == "trialing":
        return charges.ZERO
    amount = charges.charge(price, Decimal(item["quantity"]))
    start, end = Cycle.of(subscription, price).period_at(period[0])
    if (start, end) == period:
        return amount
    return charges.part(amount, period[1] - period[0], end - start)


def _priced(call: Call, price: Json, quantity: Decimal, amount: int) -> Json:
    product = call.account.all(PRODUCT).get(price["product"], {})
    return {
        "amount": amount,
        "description": f"{charges.plain(quantity)} × {product.get('name', price['product'])}",
        "quantity": int(quantity),
        "quantity_decimal": charges.plain(quantity),
        "subtotal": amount,
    }


def pricing_of(price: Json) -> Json:
    """How a line or an invoice item names the price it comes of."""
    return {
        "price_details": {"price": price["id"], "product": price["product"]},
        "type": "price_details",
        "unit_amount_decimal": price["unit_amount_decimal"],
    }


# --- lines of invoice items -----------------------------------------------------------------------


def of_invoice_item(call: Call, item: Json) -> Json:
    """The line that an invoice item becomes."""
    parent = (item["parent"] or {}).get("subscription_details") or {}
    details = {
        "invoice_item": item["id"],
        "proration": item["proration"],
        "proration_details": None,
        "subscription": parent.get("subscription"),
    }
    kind = FROM_INVOICE_ITEM
    if parent.get("subscription_item"):
        kind = FROM_ITEM
        details["subscription_item"] = parent["subscription_item"]
    period = (item["period"]["start"], item["period"]["end"])
    return _blank(call, item["currency"], period) | {
        "amount": item["amount"],
        "description": item["description"],
        "metadata": item["metadata"],
        "parent": _parent(kind, details),
        "pricing": item["pricing"],
        "quantity": item["quantity"],
        "quantity_decimal": item["quantity_decimal"],
        "subscription": parent.get("subscription"),
        "subtotal": item["amount"],
    }


def item_of(line: Json) -> str | None:
    """The invoice item that a line came of."""
    found: str | None = line["parent"][line["parent"]["type"]]["invoice_item"]
    return found


def pending(call: Call, customer: str, subscription: str | None, currency: str) -> list[Json]:
    """A customer's invoice items that its next invoice takes, oldest first.

    A subscription's invoice takes its own and those of no subscription; any other invoice only
    the latter.
    """
    items = [
        call.account.all(INVOICE_ITEM)[identity]
        for identity in call.account.pending_items.get(customer, ())
    ]
    return [
        item
        for item in items
        if subscription_of(item) in (None, subscription) and item["currency"] == currency
    ]


def subscription_of(item: Json) -> str | None:
    """The subscription that an invoice item waits for."""
    return item["parent"]["subscription_details"]["subscription"] if item["parent"] else None


# --- all of them ----------------------------------------------------------------------------------


def current(call: Call, customer: str, line: Json) -> Json:
    """A draft's line as of now."""
    if line["parent"]["type"] != FROM_ITEM or item_of(line) is not None:
        return line
    price = call.account.all(PRICE)[line["pricing"]["price_details"]["price"]]
    return _metered(call, line, customer) if is_metered(price) else line


def _parent(kind: str, details: Json) -> Json:
    return {FROM_INVOICE_ITEM: None, FROM_ITEM: None, "type": kind} | {kind: details}


def _blank(call: Call, currency: str, period: tuple[int, int]) -> Json:
    return {
        "id": call.new_id("il_"),
        "object": "line_item",
        "currency": currency,
        "discount_amounts": [],
        "discountable": False,
        "discounts": [],
        "invoice": None,
        "livemode": False,
        "period": {"start": period[0], "end": period[1]},
        "pretax_credit_amounts": [],
        "taxes": [],
    }
