"""Invoices at Stripe, through its own SDK."""

from decimal import Decimal

import stripe

from metering.adapters.stripe_client import StripeConnection, for_account
from metering.adapters.stripe_subscriptions import id_of, instant_of
from metering.period import Span
from metering.ports import Invoice, InvoiceStatus

NEWEST_INVOICES = 20


class StripeInvoices:
    """The `Invoices` port on the `stripe` SDK."""

    def __init__(self, connection: StripeConnection) -> None:
        self._connection = connection

    def invoice(self, invoice_id: str, account: str = "") -> Invoice:
        """See `Invoices.invoice`. One read."""
        with self._connection.reading(f"no invoice {invoice_id} at Stripe"):
            found = self._connection.client.v1.invoices.retrieve(
                invoice_id, None, for_account(account)
            )
        return _invoice(found)

    def of_subscription(self, subscription_id: str, account: str = "") -> list[Invoice]:
        """See `Invoices.of_subscription`. One read; a period's invoice is among the newest."""
        with self._connection.reading():
            found = self._connection.client.v1.invoices.list(
                {"subscription": subscription_id, "limit": NEWEST_INVOICES}, for_account(account)
            )
        return [_invoice(one) for one in found.data]

    def let_advance(self, invoice_id: str, *, on: bool, account: str = "") -> Invoice:
        """See `Invoices.let_advance`."""
        try:
            with self._connection.reading(f"no invoice {invoice_id} at Stripe"):
                changed = self._connection.client.v1.invoices.update(
                    invoice_id, {"auto_advance": on}, for_account(account)
                )
        except stripe.InvalidRequestError:
            found = self.invoice(invoice_id, account)
            if found.status is InvoiceStatus.DRAFT:
                raise
            return found
        return _invoice(changed)


def _invoice(found: stripe.Invoice) -> Invoice:
    details = found.parent.subscription_details if found.parent else None
    finalizes_at = found.automatically_finalizes_at
    finalized_at = found.status_transitions.finalized_at
    return Invoice(
        id=found.id,
        subscription=id_of(details.subscription) if details else "",
        status=InvoiceStatus(found.status or InvoiceStatus.DRAFT),
        reason=found.billing_reason or "",
        period=Span(instant_of(found.period_start), instant_of(found.period_end)),
        advances=bool(found.auto_advance),
        finalizes_at=instant_of(finalizes_at) if finalizes_at else None,
        finalized_at=instant_of(finalized_at) if finalized_at else None,
        quantities=_quantities(found),
        is_whole=not found.lines.has_more,
    )


def _quantities(found: stripe.Invoice) -> dict[str, Decimal]:
    """By price; lines without one (invoice items, prorations of a sum) bill no usage."""
    quantities: dict[str, Decimal] = {}
    for line in found.lines.data:
        details = line.pricing.price_details if line.pricing else None
        if details is not None:
            price = id_of(details.price)
            told = line.quantity_decimal
            quantity = Decimal(str(line.quantity or 0)) if told is None else Decimal(str(told))
            quantities[price] = quantities.get(price, Decimal(0)) + quantity
    return quantities
