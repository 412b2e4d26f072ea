"""Invoice items at Stripe that bill usage apart, and the prices that say what they cost."""

from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from typing import Any

import stripe

from metering.adapters.stripe_client import StripeConnection, for_account
from metering.adapters.stripe_meter_events import answer_of
from metering.delivery import NotAllowed
from metering.invoice_item import InvoiceItem, KnownItem
from metering.item_delivery import Added, ItemAnswer
from metering.period import Span
from metering.ports import SetupError
from metering.pricing import Package, Rate, Rounding, Tier, TiersMode, UnpriceableError

ITEMS_A_PAGE = 100
ID, LINE, UNITS = "stripemeter_id", "stripemeter_line", "stripemeter_units"
"""What the metadata of an item of ours says."""


class StripeInvoiceItems:
    """The `InvoiceItems` port on the `stripe` SDK."""

    def __init__(self, connection: StripeConnection) -> None:
        self._connection = connection

    def add(self, item: InvoiceItem, customer: str, period: Span, account: str) -> ItemAnswer:
        """See `InvoiceItems.add`. It joins the customer's next invoice, of any subscription."""
        wanted: Any = {
            "customer": customer,
            "amount": item.amount,
            "currency": item.currency,
            "description": item.description,
            "period": {
                "start": int(period.start.timestamp()),
                "end": int(period.end.timestamp()),
            },
            "metadata": {ID: item.id, LINE: item.line, UNITS: str(item.units)},
        }
        try:
            made = self._connection.client.v1.invoice_items.create(
                wanted, {"idempotency_key": item.idempotency_key, **for_account(account)}
            )
        except SetupError as error:
            return NotAllowed(str(error))
        except stripe.StripeError as error:
            answer = answer_of(error)
            if isinstance(answer, NotAllowed):
                self._connection.forget_key()
            return answer
        return Added(made.id)

    def of_customer(self, customer: str, since: datetime, account: str) -> list[KnownItem]:
        """See `InvoiceItems.of_customer`. One read per hundred items of the customer."""
        found = (_known(one) for one in self._pages(customer, since, account))
        return [one for one in found if one is not None]

    def _pages(self, customer: str, since: datetime, account: str) -> Iterator[stripe.InvoiceItem]:
        wanted: Any = {
            "customer": customer,
            "created": {"gte": int(since.timestamp())},
            "limit": ITEMS_A_PAGE,
        }
        has_more = True
        while has_more:
            with self._connection.reading():
                page = self._connection.client.v1.invoice_items.list(wanted, for_account(account))
            yield from page.data
            has_more = page.has_more and bool(page.data)
            if has_more:
                wanted["starting_after"] = page.data[-1].id


def _known(found: stripe.InvoiceItem) -> KnownItem | None:
    about = found.metadata
    if about is None or ID not in about:
        return None
    return KnownItem(found.id, about[ID], about[LINE], int(about[UNITS]), found.amount)


class StripePrices:
    """The `Prices` port on the `stripe` SDK; a price's amounts never change, so it is read once."""

    def __init__(self, connection: StripeConnection) -> None:
        self._connection = connection
        self._rates: dict[tuple[str, str], Rate] = {}

    def rate(self, price_id: str, account: str = "") -> Rate:
        """See `Prices.rate`."""
        key = account, price_id
        if key not in self._rates:
            self._rates[key] = _rate(self._read(price_id, account))
        return self._rates[key]

    def _read(self, price_id: str, account: str) -> stripe.Price:
        with self._connection.reading(f"no price {price_id} at Stripe, in this account and mode"):
            return self._connection.client.v1.prices.retrieve(
                price_id, {"expand": ["tiers"]}, for_account(account)
            )


def _rate(price: stripe.Price) -> Rate:
    if price.custom_unit_amount is not None:
        raise UnpriceableError(f"price {price.id} lets the customer choose the amount")
    is_tiered = price.billing_scheme == "tiered"
    amount = None if is_tiered else _decimal(price.unit_amount_decimal, price.unit_amount)
    return Rate(
        price.id,
        price.currency,
        unit_amount=amount,
        package=_package(price),
        tiers_mode=_word(TiersMode, price.tiers_mode, price) if is_tiered else None,
        tiers=tuple(_tier(tier) for tier in getattr(price, "tiers", None) or ()),
    )


def _package(price: stripe.Price) -> Package | None:
    transform = price.transform_quantity
    if transform is None:
        return None
    return Package(transform.divide_by, _word(Rounding, transform.round, price))


def _word[Word: (TiersMode, Rounding)](
    words: type[Word], text: str | None, price: stripe.Price
) -> Word:
    try:
        return words(text or "")
    except ValueError:
        raise UnpriceableError(f"price {price.id} says {text!r}, which we do not know") from None


def _tier(tier: Any) -> Tier:
    return Tier(
        None if tier.up_to is None else Decimal(str(tier.up_to)),
        _decimal(tier.unit_amount_decimal, tier.unit_amount) or Decimal(0),
        _decimal(tier.flat_amount_decimal, tier.flat_amount) or Decimal(0),
    )


def _decimal(exact: Decimal | None, whole: int | None) -> Decimal | None:
    if exact is not None:
        return Decimal(str(exact))
    return None if whole is None else Decimal(whole)
