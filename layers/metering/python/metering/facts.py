"""All that is known of one counter and billing period when its numbers are compared."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import NamedTuple

from metering.counter import NO_USAGE, Aggregation, CounterKey, Usage, usage_of
from metering.event import LedgerEntry
from metering.evidence import Evidence
from metering.keys import digest
from metering.names import Identifier
from metering.period import Span
from metering.period_close import PeriodClose
from metering.push import (
    Push,
    PushStream,
    StreamKind,
    quantity_of,
    wanted,
)
from metering.quantity import EXACT
from metering.reconciliation import (
    Finding,
    InvoiceNumber,
)
from metering.tenant_settings import AfterClose

SETTLED_AFTER = timedelta(minutes=15)
"""From the receipt of an event to when it must be in its counter, whatever the traffic."""
SUMMARY_LAG = timedelta(minutes=30)
"""From Stripe's answer to when an event must be in its summary; Stripe publishes no figure."""
ZERO = Decimal(0)


@dataclass(slots=True)
class Recount:
    """What the ledger's entries of one counter and period add up to."""

    usage: Usage = NO_USAGE
    settled: int = 0
    """How many of the entries must have reached the counter by now."""

    def add(self, entry: LedgerEntry, now: datetime) -> None:
        """Count one more entry."""
        self.usage += usage_of(entry)
        self.settled += entry.received_at <= now - SETTLED_AFTER


def recount(entries: Iterable[LedgerEntry], now: datetime) -> Recount:
    """What entries of one counter and period add up to."""
    sums = Recount()
    for entry in entries:
        sums.add(entry, now)
    return sums


def mark_of(usage: Usage) -> str:
    """A short text that differs when the usage does: a counter that changed shows another."""
    return digest(repr(usage), size=8).hex()


def recount_kept(usage: Usage) -> Recount:
    """The recount of a counter that has not changed since its ledger was read and agreed."""
    return Recount(usage, usage.entries)


class Recounted(NamedTuple):
    """A counter's ledger, as it was read in this run or is taken to be."""

    recount: Recount
    agreed_at: datetime | None
    """When it was last read, if it agreed with the counter then."""
    mark: str
    """Of what the counter held then."""


def recounted(count: Recount, usage: Usage, now: datetime) -> Recounted:
    """A recount of this run, beside what the counter holds."""
    agrees = count.usage == usage
    return Recounted(count, now if agrees else None, mark_of(usage) if agrees else "")


@dataclass(frozen=True, slots=True)
class Reading:
    """A counter's part of what Stripe has summed up, in the metric's unit."""

    total: Decimal
    read_at: datetime
    told: Decimal | None = None
    """What Stripe had accepted by then; None for a reading of this run."""


@dataclass(frozen=True, slots=True)
class Facts:
    """All that is known of one counter and billing period."""

    counter: CounterKey
    period: Span
    aggregation: Aggregation
    ledger: Recount
    usage: Usage = NO_USAGE
    """What the counter holds."""
    standing: Decimal = ZERO
    """Of a last value: the one before the period, while the period has none of its own."""
    scale: int = 0
    """Of the mapping: Stripe is told whole units of 10^-scale."""
    streams: Sequence[PushStream] = ()
    former: Sequence[PushStream] = ()
    """Those that a later life of the store has begun anew: what they told stands in the later ones'
    totals, what was carried and billed apart by them in theirs alone."""
    no_route: str = ""
    """Why its usage is not told to Stripe (a `NoRoute`)."""
    held: str = ""
    """Why the writer holds it back (a `Held`)."""
    stripe: Reading | None = None
    recent: Sequence[Push] = ()
    """Pushes that were accepted less than `SUMMARY_LAG` before Stripe was read."""
    subscription_item_id: str = ""
    close: PeriodClose | None = None
    """How far the end of the period has come; None where nothing is known of it."""
    after_close: AfterClose = AfterClose.CARRY_FORWARD
    invoice: InvoiceNumber | None = None
    evidence: Evidence | None = None
    """What a search through Stripe's minutes found of this counter; None where none was made."""
    reported: Mapping[Identifier, str] = field(default_factory=dict)
    """What Stripe's error reports say of pushes that they name."""
    inventory: Sequence[Finding] = ()
    """What is wrong with the meter, price, customer or subscription behind it."""
    recounted_at: datetime | None = None
    """When the ledger was last read for it, if that agreed with what the counter held then."""
    recount_mark: str = ""
    """`mark_of` what the counter held then."""

    @property
    def counted(self) -> Decimal:
        """The counter's number."""
        return self.usage.value(self.aggregation)

    @property
    def recounted(self) -> Decimal:
        """The ledger's number."""
        return self.ledger.usage.value(self.aggregation)

    @property
    def pushed(self) -> Decimal:
        """What Stripe has accepted."""
        return pushed_by(self.streams)

    @property
    def of_all_lives(self) -> Sequence[PushStream]:
        """Its streams with those of former lives of the store."""
        return (*self.streams, *self.former)

    @property
    def carried_in(self) -> Decimal:
        """Usage of closed periods that is told in this one."""
        return exact_sum(carry.quantity for one in self.of_all_lives for carry in one.carried_in)

    @property
    def carried_out(self) -> Decimal:
        """Usage of this period that is told in a later one."""
        return exact_sum(one.carried_out for one in self.of_all_lives)

    @property
    def tellable(self) -> Decimal:
        """What Stripe should have been told, in whole units of what it is told in."""
        return quantity_of(wanted(self.due, self.scale), self.scale)

    @property
    def due(self) -> Decimal:
        """What the period should bill: what was counted, carried in, or stands from before."""
        return exact_sum((self.counted, self.carried_in, self.standing))


def pushed_by(streams: Sequence[PushStream]) -> Decimal:
    """What Stripe has accepted: deltas add up; of last values only the newest counts."""
    if streams and all(one.kind is StreamKind.LAST for one in streams):
        return max(streams, key=told_last).accepted_quantity
    return exact_sum(stream.accepted_quantity for stream in streams)


def told_last(stream: PushStream) -> tuple[bool, datetime]:
    """Orders streams by when Stripe took what they told last; one that told nothing comes first."""
    at = stream.accepted_at
    return at is not None, at or stream.key.period.start


def exact_sum(numbers: Iterable[Decimal]) -> Decimal:
    """The sum of some numbers, to the last digit."""
    total = ZERO
    for number in numbers:
        total = EXACT.add(total, number)
    return total
