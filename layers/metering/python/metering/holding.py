"""Having Stripe hold drafts of which it is not known in time what they would bill.

A hold takes a few calls, where a look at a close takes a hundred; so it stands alone, and comes
before everything else that may fail.
"""

import logging
from dataclasses import replace
from datetime import datetime

from metering.errors import NotFoundError
from metering.period import NEVER
from metering.period_close import PeriodClose
from metering.ports import Clock, Invoice, Invoices, InvoiceStatus, PeriodCloses, Settings

log = logging.getLogger("metering.closing")


class Holding:
    """Keeps what our closes say of drafts, and what Stripe does with these, the same."""

    def __init__(
        self, closes: PeriodCloses, invoices: Invoices, settings: Settings, clock: Clock
    ) -> None:
        self._closes = closes
        self._invoices = invoices
        self._settings = settings
        self._clock = clock

    def hold_first(self, close: PeriodClose) -> str:
        """Hold a draft before it is looked at; how it stands then, or why it was left.

        One that is held is told to Stripe again, which has not confirmed it.
        """
        if close.is_held:
            return self.hold(close)
        now = self._clock.now()
        is_late = close.finalizes_at is None or now >= close.finalizes_at
        if is_late or not self._settings.tenant(close.tenant).holds_invoices:
            return "not held"
        stored = self._closes.store(_held(close, now))
        if stored is None:
            return "overtaken"
        log.warning("closing %s of %s: %s", close.customer, close.tenant, stored.message)
        return self.hold(stored)

    def hold(self, close: PeriodClose) -> str:
        """Have Stripe hold the draft of a close that was stored as held; how it stands then.

        A hold is stored first: should we die before Stripe hears of it, it is told again. A draft
        that was deleted is left to the next look.
        """
        try:
            invoice = self._invoices.let_advance(close.invoice, on=False)
        except NotFoundError as error:
            log.warning("nothing is held: %s", error)
            return "deleted"
        return standing(self.with_deadline(close, invoice))

    def with_deadline(self, close: PeriodClose, invoice: Invoice | None) -> PeriodClose | None:
        """The close with its invoice's deadline stored, for that is what pushes go by.

        A draft may have been finalized before our hold reached it: it takes no usage any more.
        None when somebody else has stored the close meanwhile.
        """
        known = _known(close, invoice)
        return close if known == close else self._closes.store(known)


def standing(stored: PeriodClose | None) -> str:
    """How a close stands that was stored; None is one that somebody else has stored meanwhile."""
    if stored is None:
        return "overtaken"
    return "held" if stored.is_held else str(stored.state)


def _held(close: PeriodClose, now: datetime) -> PeriodClose:
    """A first look is still the first one afterwards; any other is due at once."""
    return replace(
        close,
        is_held=True,
        held_at=now,
        message=f"{close.invoice} is held: its numbers were not found equal in time",
        next_look_at=close.next_look_at and now,
    )


def _known(close: PeriodClose, invoice: Invoice | None) -> PeriodClose:
    """The close with what Stripe says of its draft."""
    if invoice is None:
        return close
    if invoice.status is InvoiceStatus.DRAFT:
        is_confirmed = close.is_held and not invoice.advances
        held_until = NEVER if is_confirmed else close.finalizes_at
        finalizes_at = invoice.finalizes_at or held_until
        return replace(close, invoice=invoice.id, finalizes_at=finalizes_at)
    if invoice.finalized_at is not None and close.is_held:
        return replace(close, is_held=False, finalizes_at=invoice.finalized_at)
    return close
