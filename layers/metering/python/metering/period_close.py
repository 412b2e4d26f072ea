"""How a customer's billing period comes to its end: `open`, then `closing`, then `closed`.

A period that ends is not closed at once: usage that came before its end is still told to Stripe
while its draft invoice takes it. When the invoice is finalized the period is closed, and what was
told is what was billed.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from metering.names import CustomerRef, TenantId
from metering.period import NEVER, Span

CLOSE_GRACE = timedelta(hours=1)
"""How long after a period's end its draft invoice still takes usage, by Stripe's default."""


class PeriodState(StrEnum):
    """Where a billing period stands."""

    OPEN = "open"
    CLOSING = "closing"
    """It has ended; its last usage is being told and checked."""
    CLOSED = "closed"
    """Its invoice is final, or there is none and the time for it is over."""


@dataclass(frozen=True, slots=True)
class PeriodClose:
    """The end of one customer's billing period, as far as it has come."""

    tenant: TenantId
    customer: CustomerRef
    period: Span
    state: PeriodState
    began_at: datetime
    """When it began to close."""
    subscription: str = ""
    """`sub_...`; empty without one."""
    invoice: str = ""
    """`in_...`, the invoice of the period; empty while there is none."""
    finalizes_at: datetime | None = None
    """When Stripe will finalize the draft by itself; `NEVER` once it has said that it is held."""
    is_held: bool = False
    """We told Stripe not to finalize the draft by itself."""
    agreed_at: datetime | None = None
    """When all numbers were last found equal."""
    closed_at: datetime | None = None
    """When its invoice was finalized."""
    message: str = ""
    """What it waits for, or what came of it, for a person."""
    held_at: datetime | None = None
    """When we first told Stripe to hold the draft; None if we never did."""
    released_at: datetime | None = None
    """When we last let a draft that we held go on."""
    next_look_at: datetime | None = None
    """Before this, nothing is read of it at Stripe again unless a notice says so."""
    is_trial: bool = False
    """The period lay in a trial: its final invoice bills no usage."""
    version: int = 0
    """How often it was stored; 0 is one that never was."""


SETTLE_BEFORE = timedelta(minutes=15)
"""How long before its finalization a draft is told the last usage: Stripe needs some minutes to add
it up, and we some to hold the draft where the numbers do not agree."""


OVERDUE_AFTER = timedelta(hours=12)
"""Beyond the time by which Stripe finalizes by itself: it tries so long, and we look often."""
OVERDUE_WITHOUT = timedelta(days=5)
"""Stripe waits at most 72 hours with an invoice, and we look for it a day longer."""


def is_overdue(close: PeriodClose, now: datetime) -> bool:
    """Whether a close that nobody holds should have come to its end by now."""
    if close.state is not PeriodState.CLOSING or close.is_held:
        return False
    if not close.invoice:
        return now >= close.period.end + OVERDUE_WITHOUT
    known = close.finalizes_at if close.finalizes_at not in {None, NEVER} else None
    return now >= (known or close.period.end + CLOSE_GRACE) + OVERDUE_AFTER


def deadline_of(period: Span, finalizes_at: datetime) -> datetime:
    """From when on a draft that will be finalized then is told nothing more.

    Where Stripe waits less than an hour, a quarter of that time is left.
    """
    return finalizes_at - min(SETTLE_BEFORE, max(finalizes_at - period.end, timedelta()) / 4)


def takes_usage_until(period: Span, close: PeriodClose | None) -> datetime:
    """From when on usage of a period reaches no invoice any more.

    `close` is None for a period of which nothing is known but its bounds. A draft that we hold
    takes usage for as long as it is held, once Stripe has said so: until then it may become final.
    """
    if close is None or close.state is PeriodState.OPEN:
        return period.end + CLOSE_GRACE
    if close.state is PeriodState.CLOSED:
        return close.closed_at or period.end + CLOSE_GRACE
    if close.finalizes_at is None:
        return period.end + CLOSE_GRACE
    return deadline_of(period, close.finalizes_at) if close.finalizes_at < NEVER else NEVER


def held_from(close: PeriodClose) -> datetime | None:
    """From when on its draft is to be held before anything else is done; None where it is not.

    By the deadline all numbers should have been found equal. Where they never were, or where
    nobody has come to the end of a look for a third of the time that is left from then on, it is
    not known what the draft would bill. A hold that Stripe has not confirmed is said again.
    """
    finalizes_at = close.finalizes_at
    is_draft = close.state is PeriodState.CLOSING and close.invoice != ""
    if not is_draft or finalizes_at is None or finalizes_at == NEVER:
        return None
    deadline = deadline_of(close.period, finalizes_at)
    if close.is_held or close.agreed_at is None:
        return deadline
    if close.agreed_at >= deadline:
        return None
    return deadline + (finalizes_at - deadline) / 3
