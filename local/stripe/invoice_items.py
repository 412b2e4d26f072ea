"""Invoice items: amounts that wait for a customer's next invoice, or join a named draft."""

from decimal import Decimal
from typing import Any

from local.stripe import charges, events, invoice_life, invoice_lines, params, refusals
from local.stripe.call import Call
from local.stripe.lists import page
from local.stripe.params import (
    Amount,
    Boolean,
    Fields,
    Instants,
    Integer,
    Metadata,
    Text,
    merged_metadata,
    within,
)
from local.stripe.state import CUSTOMER, INVOICE, INVOICE_ITEM, PRICE, SUBSCRIPTION
from local.stripe.wire import Json

_AMOUNT_MAX = 10**12

CREATE = Fields(
    {
        "amount": Integer(least=-_AMOUNT_MAX, most=_AMOUNT_MAX),
        "currency": Text(3),
        "customer": Text(),
        "description": Text(),
        "discountable": Boolean(),
        "invoice": Text(),
        "metadata": Metadata(),
        "period": Fields(
            {"end": params.INSTANT, "start": params.INSTANT}, required=("end", "start")
        ),
        "pricing": Fields({"price": Text()}),
        "quantity": Integer(least=0),
        "quantity_decimal": Amount(),
        "subscription": Text(),
        "unit_amount_decimal": Amount(signed=True),
    },
    required=("customer",),
    not_yet=(
        "customer_account",
        "discounts",
        "price_data",
        "tax_behavior",
        "tax_code",
        "tax_rates",
    ),
)
LIST = Fields(
    {
        **params.LIST_FIELDS,
        "created": Instants(),
        "customer": Text(),
        "invoice": Text(),
        "pending": Boolean(),
    },
    not_yet=("customer_account",),
)


def create(call: Call) -> Json:
    """A new invoice item, on the named draft or waiting.

    Raises:
        RefusedError: no amount or two, or customer, subscription and invoice do not go together.
    """
    given = call.params
    customer = call.referred(CUSTOMER, given["customer"], "customer")
    call = call.on_clock_of(customer)
    invoice = _draft(call, customer)
    item = _blank(call, customer, _currency(call, invoice)) | _amount(given)
    if "pricing" in given:
        item |= _priced(call, given)
    item |= {
        "description": given.get("description"),
        "discountable": given.get("discountable", True),
        "metadata": merged_metadata({}, given.get("metadata")),
        "parent": _parent(_subscription(call, customer)),
        "period": given.get("period") or {"start": call.now, "end": call.now},
    }
    return _told(call, _placed(call, item, invoice))


def _draft(call: Call, customer: Json) -> Json | None:
    if "invoice" not in call.params:
        return None
    invoice = call.referred(INVOICE, call.params["invoice"], "invoice")
    if invoice["customer"] != customer["id"]:
        message = f"The invoice {invoice['id']} is not of customer {customer['id']}."
        raise refusals.RefusedError(message, param="invoice")
    if invoice["status"] != "draft":
        message = f"The invoice {invoice['id']} is no longer a draft and takes no more items."
        raise refusals.RefusedError(message, code="invoice_not_editable", param="invoice")
    return invoice


def _subscription(call: Call, customer: Json) -> str | None:
    identity = call.params.get("subscription")
    if identity is None:
        return None
    subscription = call.referred(SUBSCRIPTION, identity, "subscription")
    if subscription["customer"] != customer["id"]:
        message = f"The subscription {identity} is not of customer {customer['id']}."
        raise refusals.RefusedError(message, param="subscription")
    return str(identity)


def _currency(call: Call, invoice: Json | None) -> str:
    given = call.params.get("currency")
    if invoice is None:
        return str(given or "usd").lower()
    if given and given.lower() != invoice["currency"]:
        message = f"The invoice {invoice['id']} is in {invoice['currency']}."
        raise refusals.RefusedError(message, param="currency")
    return str(invoice["currency"])


def _amount(given: Json) -> Json:
    """The amount: given whole, or a quantity at a unit amount, rounded once."""
    ways = [name for name in ("amount", "pricing", "unit_amount_decimal") if name in given]
    if len(ways) != 1:
        message = "Give exactly one of `amount`, `unit_amount_decimal`, `pricing`."
        raise refusals.invalid(message, ways[1] if ways else "amount")
    if "amount" in given and ("quantity" in given or "quantity_decimal" in given):
        raise refusals.invalid("You cannot give a quantity with `amount`.", "quantity")
    quantity = _quantity(given)
    unit = Decimal(given.get("amount") or given.get("unit_amount_decimal") or 0)
    return _quantified(quantity) | {
        "amount": charges.rounded(charges.EXACT.multiply(quantity, unit)),
        "pricing": {
            "price_details": None,
            "type": "price_details",
            "unit_amount_decimal": charges.plain(unit),
        },
    }


def _quantity(given: Json) -> Decimal:
    if "quantity" in given and "quantity_decimal" in given:
        message = "You may only specify one of these parameters: quantity, quantity_decimal."
        raise refusals.invalid(message, "quantity_decimal")
    if "quantity_decimal" in given:
        return Decimal(given["quantity_decimal"])
    return Decimal(given.get("quantity", 1))


def _quantified(quantity: Decimal) -> Json:
    return {"quantity": int(quantity), "quantity_decimal": charges.plain(quantity)}


def _priced(call: Call, given: Json) -> Json:
    price = call.referred(PRICE, given["pricing"].get("price", ""), "pricing[price]")
    if price["recurring"]:
        message = f"The price {price['id']} is recurring; an invoice item needs a one_time price."
        raise refusals.RefusedError(message, param="pricing[price]")
    return {
        "amount": charges.rounded(charges.charge(price, _quantity(given))),
        "currency": price["currency"],
        "pricing": invoice_lines.pricing_of(price),
    }


def _parent(subscription: str | None, item: str | None = None) -> Json | None:
    if subscription is None:
        return None
    details = {"subscription": subscription, "subscription_item": item}
    return {"subscription_details": details, "type": "subscription_details"}


def _blank(call: Call, customer: Json, currency: str) -> Json:
    return {
        "id": call.new_id("ii_"),
        "object": INVOICE_ITEM,
        "amount": 0,
        "currency": currency,
        "customer": customer["id"],
        "date": call.now,
        "description": None,
        "discountable": False,
        "discounts": [],
        "invoice": None,
        "livemode": False,
        "metadata": {},
        "parent": None,
        "period": {"start": call.now, "end": call.now},
        "pricing": None,
        "proration": False,
        "proration_details": None,
        "quantity": 1,
        "quantity_decimal": "1",
        "tax_rates": [],
        "test_clock": customer.get("test_clock"),
    }


def _placed(call: Call, item: Json, invoice: Json | None) -> Json:
    if invoice is None:
        return call.put(item)
    placed = call.put(item | {"invoice": invoice["id"]})
    invoice_life.with_item(call, invoice, placed)
    return placed


def _told(call: Call, item: Json) -> Json:
    events.emit(call.world, call.account, "invoiceitem.created", item, call.now)
    return item


def for_usage(call: Call, subscription: Json, item: Json) -> Json | None:
    """The open usage of a metered item that goes, kept for the next invoice; None without any."""
    [line] = invoice_lines.of_usage(call, subscription, [item], call.now)
    if Decimal(line["quantity_decimal"]) == 0:
        return None
    customer = call.account.all(CUSTOMER)[subscription["customer"]]
    same = ("amount", "description", "period", "pricing", "quantity", "quantity_decimal")
    kept = _blank(call, customer, line["currency"]) | {name: line[name] for name in same}
    parent = _parent(subscription["id"], item["id"])
    return _told(call, call.put(kept | {"parent": parent}))


def retrieve(call: Call) -> Json:
    """One invoice item."""
    return call.targeted(INVOICE_ITEM)


def list_all(call: Call) -> Json:
    """The account's invoice items, newest first; those on test clocks only for their customer."""
    found = (
        item for item in call.account.newest_first(INVOICE_ITEM) if _matches(item, call.params)
    )
    return page(found, call.params, call.path)


def _matches(item: Json, given: dict[str, Any]) -> bool:
    on_clock = item["test_clock"] and not given.keys() & {"customer", "invoice"}
    return (
        not on_clock
        and given.get("customer") in (None, item["customer"])
        and given.get("invoice") in (None, item["invoice"])
        and given.get("pending") in (None, item["invoice"] is None)
        and within(item["date"], given.get("created", {}))
    )


def delete(call: Call) -> Json:
    """The invoice item is gone, from its draft too.

    Raises:
        RefusedError: its invoice is final.
    """
    item = call.targeted(INVOICE_ITEM)
    if item["invoice"] is not None:
        invoice = call.account.all(INVOICE)[item["invoice"]]
        if invoice["status"] != "draft":
            message = f"The invoice item is on the final invoice {invoice['id']}."
            raise refusals.RefusedError(message, code="invoice_not_editable")
        invoice_life.without_item(call.on_clock_of(invoice), invoice, item)
    return call.put({"id": item["id"], "object": INVOICE_ITEM, "deleted": True})
