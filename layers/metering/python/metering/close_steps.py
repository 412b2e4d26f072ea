"""What a closing period comes to with each look at it. Pure: what was seen goes in.

A draft invoice takes usage until its deadline. Where the numbers do not agree by then, Stripe is
told to hold it, and to go on once they do. What Stripe has finalized is closed, whatever we think.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import NamedTuple

from metering.period import NEVER, Span
from metering.period_close import CLOSE_GRACE, PeriodClose, PeriodState, deadline_of
from metering.ports import Invoice, InvoiceStatus
from metering.quantity import canonical

LOOK_EVERY = timedelta(minutes=5)
"""Between looks without a notice: each costs reads, and Stripe's summaries take minutes."""
LOOK_WHILE_HELD = timedelta(minutes=15)
AFTER_FINALIZATION = timedelta(minutes=1)
NO_INVOICE_AFTER = timedelta(days=4)
"""After a period's end Stripe waits at most 72 hours with its invoice; then there is none."""

_OF_A_PERIOD = ("subscription_cycle", "subscription_update", "subscription")
"""Reasons of invoices that bill a period's usage, the usual first; thresholds bill a part of it."""


@dataclass(frozen=True, slots=True)
class Look:
    """What a look at a closing period found."""

    now: datetime
    invoice: Invoice | None
    trouble: str
    """Why the period's numbers do not agree; empty when they do."""


class Step(NamedTuple):
    """The close as it should be stored, and what Stripe must be told for it."""

    close: PeriodClose
    hold: bool = False
    """Have Stripe hold the draft, once the close is stored."""
    release: bool = False
    """Have Stripe go on with the draft, and store the close when it does."""
    alarm: str = ""
    """A sentence for a person."""


def step_after(close: PeriodClose, look: Look, *, holds: bool) -> Step:
    """The next step of a close; `holds` is whether the tenant wants drafts held."""
    invoice = look.invoice
    if invoice is None:
        return _without_invoice(close, look)
    close = replace(close, invoice=invoice.id)
    if invoice.status is not InvoiceStatus.DRAFT:
        return _closed(close, look, invoice)
    close = replace(close, finalizes_at=_finalizes_at(close, invoice))
    return (
        _not_agreed(close, look, invoice, holds=holds)
        if look.trouble
        else _agreed(close, look, invoice)
    )


def _finalizes_at(close: PeriodClose, invoice: Invoice) -> datetime:
    if not invoice.advances:
        # Held by us, or by somebody who alone knows when it goes on.
        return (close.finalizes_at or NEVER) if close.is_held else NEVER
    return invoice.finalizes_at or close.period.end + CLOSE_GRACE


def _agreed(close: PeriodClose, look: Look, invoice: Invoice) -> Step:
    close = replace(close, agreed_at=look.now)
    if close.is_held and not invoice.advances:
        return Step(close, release=True)
    if close.is_held:
        close = released(close, invoice, look.now)
    finalizes_at = close.finalizes_at or NEVER
    message = f"all numbers agree; {invoice.id} is finalized at {finalizes_at.isoformat()}"
    if finalizes_at == NEVER:
        message = f"all numbers agree; {invoice.id} is held by somebody else, finalize it at Stripe"
    return Step(replace(close, message=message, next_look_at=_next_look(close, look.now)))


def released(close: PeriodClose, invoice: Invoice, now: datetime) -> PeriodClose:
    """The close after Stripe went on with the draft that was held."""
    return replace(
        close,
        is_held=False,
        released_at=now,
        finalizes_at=invoice.finalizes_at or now,
        message=f"all numbers agree; {invoice.id} was held and is released",
        next_look_at=now,
    )


def _not_agreed(close: PeriodClose, look: Look, invoice: Invoice, *, holds: bool) -> Step:
    close = replace(close, agreed_at=None, message=look.trouble)
    if close.is_held:
        later = replace(
            close,
            message=f"{invoice.id} is held: {look.trouble}",
            next_look_at=look.now + LOOK_WHILE_HELD,
        )
        return Step(later, hold=invoice.advances)
    finalizes_at = close.finalizes_at or NEVER
    is_due = finalizes_at < NEVER and look.now >= deadline_of(close.period, finalizes_at)
    if not is_due or not holds:
        alarm = f"{invoice.id} is not held, as was decided: {look.trouble}" if is_due else ""
        return Step(replace(close, next_look_at=_next_look(close, look.now)), alarm=alarm)
    held = replace(
        close,
        is_held=True,
        held_at=look.now,
        message=f"{invoice.id} is held: {look.trouble}",
        next_look_at=look.now + LOOK_EVERY,
    )
    return Step(held, hold=True, alarm=held.message)


def _next_look(close: PeriodClose, now: datetime) -> datetime:
    """Soon while the numbers do not agree, at the deadline, and when the draft is final."""
    finalizes_at = close.finalizes_at or NEVER
    if finalizes_at == NEVER:
        return now + LOOK_WHILE_HELD
    deadline = deadline_of(close.period, finalizes_at)
    if now >= deadline:
        return max(finalizes_at + AFTER_FINALIZATION, now + AFTER_FINALIZATION)
    return deadline if close.agreed_at else min(now + LOOK_EVERY, deadline)


# --- the end --------------------------------------------------------------------------------------


def _closed(close: PeriodClose, look: Look, invoice: Invoice) -> Step:
    """The invoice is final: what was told is what is billed."""
    closed = replace(
        close,
        state=PeriodState.CLOSED,
        closed_at=invoice.finalized_at or look.now,
        is_held=False,
        next_look_at=None,
        message=look.trouble or f"closed by {invoice.id}",
    )
    if invoice.status is InvoiceStatus.VOID:
        closed = replace(closed, message=f"{invoice.id} is void: its usage is not billed")
    alarm = look.trouble and f"{invoice.id} is final, and {look.trouble}"
    return Step(closed, alarm=alarm)


def _without_invoice(close: PeriodClose, look: Look) -> Step:
    if close.invoice:
        text = f"the draft {close.invoice} was deleted: its usage is on no invoice"
        return Step(_ended(close, look.now, text), alarm=text)
    takes_until = close.period.end + CLOSE_GRACE
    if not close.subscription and look.now >= takes_until:
        return Step(_ended(close, takes_until, look.trouble or "closed; no subscription bills it"))
    if look.now >= close.period.end + NO_INVOICE_AFTER:
        text = f"Stripe made no invoice of {close.subscription} for this period"
        return Step(_ended(close, takes_until, text), alarm=text)
    agreed_at = None if look.trouble else look.now
    waits_for = "its invoice" if close.subscription else "late usage"
    next_look_at = look.now + LOOK_EVERY
    if not close.subscription:
        next_look_at = min(next_look_at, takes_until) if look.trouble else takes_until
    return Step(
        replace(
            close,
            agreed_at=agreed_at,
            message=look.trouble or f"all numbers agree; waits for {waits_for}",
            next_look_at=next_look_at,
        )
    )


def _ended(close: PeriodClose, at: datetime, message: str) -> PeriodClose:
    return replace(
        close,
        state=PeriodState.CLOSED,
        closed_at=at,
        is_held=False,
        next_look_at=None,
        message=message,
    )


def no_longer(close: PeriodClose, now: datetime) -> PeriodClose:
    """The close of a period that another calendar has taken the place of."""
    message = "no billing period of the customer begins here any more; its calendar was changed"
    return _ended(close, now, message)


# --- invoices -------------------------------------------------------------------------------------


def invoice_of(period: Span, invoices: Iterable[Invoice]) -> Invoice | None:
    """The invoice that bills a period: the one whose time ends with it.

    Of several it is one that bills a whole cycle, that was not voided, the newest.
    """
    fitting = [
        one
        for one in invoices
        if one.reason in _OF_A_PERIOD
        and one.period.end == period.end.replace(microsecond=0)
        and one.period.start < one.period.end
    ]

    def rank(invoice: Invoice) -> tuple[bool, int]:
        return invoice.status is InvoiceStatus.VOID, _OF_A_PERIOD.index(invoice.reason)

    return min(fitting, key=rank, default=None)


def line_trouble(invoice: Invoice, told: Mapping[str, Decimal]) -> str:
    """Where an invoice bills other quantities than were told; `told` is by price id.

    A negative total is billed as 0; a price that is on no line of an invoice that came in part is
    not judged.
    """
    differ: Sequence[str] = [
        f"{price} bills {canonical(billed)} where {canonical(quantity)} was told"
        for price, quantity, billed in _billed(invoice, told)
        if billed is not None and billed != max(quantity, Decimal(0))
    ]
    return "; ".join(differ)


def _billed(
    invoice: Invoice, told: Mapping[str, Decimal]
) -> Iterable[tuple[str, Decimal, Decimal | None]]:
    absent = Decimal(0) if invoice.is_whole else None
    for price, quantity in sorted(told.items()):
        yield price, quantity, invoice.quantities.get(price, absent)
