"""One invoice item for usage that was counted after its period's invoice was final.

Its amount is what the invoice would have been higher by. All that leaves the house is frozen when
it is planned. Its id stands in its metadata at Stripe, where invoice items can be listed: so it can
be found out whether Stripe holds it, however long ago it was sent (`metering.item_delivery`).
"""

from base64 import b32encode
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from hashlib import sha256
from typing import NamedTuple

from metering import times
from metering.keys import join
from metering.period import Span

ITEM_EVERY = timedelta(days=1)
"""Between two items of one counter and period, so that usage that trickles in fills no invoice."""


class ItemState(StrEnum):
    """How far an invoice item has come."""

    PLANNED = "planned"
    """Frozen; no request has left."""
    SENT = "sent"
    """A request may have left; Stripe is asked before the next."""
    BILLED = "billed"
    """It stands at Stripe."""


@dataclass(frozen=True, slots=True)
class InvoiceItem:
    """Usage of a closed period that is billed by itself."""

    id: str
    """Of the counter, the period and the step alone; what is found under it at Stripe is this."""
    step: int
    line: str
    """Which invoice line it adds to: several counters may have fed one."""
    units: int
    """How many units of the price; negative when usage was taken back."""
    units_before: int
    """How many had been billed apart for the line when it was planned."""
    amount: int
    """In the currency's smallest unit; negative is a credit."""
    currency: str
    price_id: str
    invoice: str
    """`in_...`, the final invoice that it comes too late for."""
    description: str
    planned_at: datetime
    state: ItemState = ItemState.PLANNED
    attempts: int = 0
    key_generation: int = 0
    key_since: datetime | None = None
    """When the present idempotency key was first sent."""
    last_attempt_at: datetime | None = None
    not_before: datetime | None = None
    """When the next step is due."""
    last_error: str = ""
    stripe_id: str = ""
    """`ii_...`; empty until it is billed."""
    billed_at: datetime | None = None

    @property
    def idempotency_key(self) -> str:
        """The request's key."""
        return f"{self.id}.g{self.key_generation}" if self.key_generation else self.id


class KnownItem(NamedTuple):
    """An invoice item of ours as Stripe holds it."""

    stripe_id: str
    id: str
    line: str
    units: int
    amount: int


def _mark_of(*parts: str) -> str:
    """32 characters without personal data that are the same for the same parts."""
    return b32encode(sha256(join(*parts).encode()).digest()).decode().lower()[:32]


def line_of(target: Iterable[str], period: Span) -> str:
    """The mark of the invoice line that a running total of a period became."""
    return _mark_of("line", *target, times.to_text(period.start))


def id_of(target: Iterable[str], counter: Iterable[str], period: Span, step: int) -> str:
    """An item's id; a later life of the store gives the same step the same id."""
    mark = _mark_of("item", *target, *counter, times.to_text(period.start))
    return f"u1.{mark}.apart.{step}"


# --- what to do next ------------------------------------------------------------------------------


def is_due(item: InvoiceItem, now: datetime) -> bool:
    """Whether the next step may be taken."""
    return item.not_before is None or now >= item.not_before


def is_overtaken(item: InvoiceItem, known: Iterable[KnownItem]) -> bool:
    """Whether more was billed for the line since the item, which never left, was priced."""
    return not item.attempts and units_billed(known, item.line) != item.units_before


def units_billed(known: Iterable[KnownItem], line: str) -> int:
    """How many units Stripe's items bill apart for a line."""
    return sum(one.units for one in known if one.line == line)


# --- what it came to ------------------------------------------------------------------------------


def billed(item: InvoiceItem, known: KnownItem, now: datetime) -> InvoiceItem:
    """The item as Stripe holds it: what stands there is what is billed, whatever was planned."""
    return ended(
        replace(item, stripe_id=known.stripe_id, units=known.units, amount=known.amount), now
    )


def ended(item: InvoiceItem, now: datetime) -> InvoiceItem:
    """An item that need not be looked at any more."""
    return replace(item, state=ItemState.BILLED, billed_at=now, not_before=None, last_error="")
