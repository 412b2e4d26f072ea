"""Lines of invoices at Stripe."""

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import stripe

from metering.adapters.stripe_client import StripeConnection, for_account
from metering.period import Span
from metering.ports import InvoiceLine

LINES_A_PAGE = 100


class StripeInvoiceLines:
    """The `InvoiceLines` port on the `stripe` SDK; each price is read once in a process."""

    def __init__(self, connection: StripeConnection) -> None:
        self._connection = connection
        self._meter_of_price: dict[tuple[str, str], str] = {}

    def lines(self, invoice_id: str, account: str = "") -> list[InvoiceLine]:
        """See `InvoiceLines.lines`."""
        return [self._line(line, account) for line in self._pages(invoice_id, account)]

    def _pages(self, invoice_id: str, account: str) -> Iterator[stripe.InvoiceLineItem]:
        wanted: Any = {"limit": LINES_A_PAGE}
        has_more = True
        while has_more:
            with self._connection.reading(f"no invoice {invoice_id} at Stripe"):
                page = self._connection.client.v1.invoices.line_items.list(
                    invoice_id, wanted, for_account(account)
                )
            yield from page.data
            has_more = page.has_more and bool(page.data)
            if has_more:
                wanted["starting_after"] = page.data[-1].id

    def _line(self, line: stripe.InvoiceLineItem, account: str) -> InvoiceLine:
        price = _price_of(line)
        return InvoiceLine(
            price_id=price,
            subscription_item_id=_item_of(line),
            meter_id=self._meter_of(price, account) if price else "",
            quantity=_quantity_of(line),
            period=Span(_instant(line.period.start), _instant(line.period.end)),
        )

    def _meter_of(self, price_id: str, account: str) -> str:
        """A price's meter never changes."""
        key = account, price_id
        if key not in self._meter_of_price:
            with self._connection.reading(f"no price {price_id} at Stripe"):
                price = self._connection.client.v1.prices.retrieve(
                    price_id, None, for_account(account)
                )
            meter = price.recurring.meter if price.recurring else None
            self._meter_of_price[key] = meter or ""
        return self._meter_of_price[key]


def _price_of(line: stripe.InvoiceLineItem) -> str:
    details = line.pricing.price_details if line.pricing else None
    if details is None:
        return ""
    return details.price if isinstance(details.price, str) else details.price.id


def _item_of(line: stripe.InvoiceLineItem) -> str:
    details = line.parent.subscription_item_details if line.parent else None
    return details.subscription_item if details else ""


def _quantity_of(line: stripe.InvoiceLineItem) -> Decimal:
    if line.quantity_decimal is not None:
        return Decimal(line.quantity_decimal)
    return Decimal(line.quantity or 0)


def _instant(epoch_s: int) -> datetime:
    return datetime.fromtimestamp(epoch_s, UTC)
