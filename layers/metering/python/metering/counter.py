"""Counters: what a set of usage events adds up to, whatever their order.

A `Tally` is the aggregate of a set of events; folding is commutative and associative, so any
recount in any order gives the same number to the last digit.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from functools import reduce
from typing import NamedTuple

from metering.event import EntryKind, LedgerEntry, UsageEvent, approved_key
from metering.names import CustomerRef, IdempotencyKey, Metric, TenantId
from metering.quantity import EXACT

ZERO = Decimal(0)


class Aggregation(StrEnum):
    """How a metric's events become one number."""

    SUM = "sum"
    COUNT = "count"
    MAX = "max"
    LAST = "last"


class CounterKey(NamedTuple):
    """Whose usage of what; its numbers are kept per bucket of time (`metering.bucket`)."""

    tenant: TenantId
    customer: CustomerRef
    metric: Metric


class BucketKey(NamedTuple):
    """One counter in one bucket of time."""

    counter: CounterKey
    bucket: datetime
    """The bucket's start."""


def counter_of(event: UsageEvent) -> CounterKey:
    """The counter that an event belongs to."""
    return CounterKey(event.tenant, event.customer, event.metric)


class Last(NamedTuple):
    """The newest event: greater is newer; the idempotency key settles equal instants."""

    occurred_at: datetime
    key: IdempotencyKey
    quantity: Decimal


@dataclass(frozen=True, slots=True)
class Tally:
    """The aggregate of a set of events; quantities in the metric's unit."""

    count: int = 0
    sum: Decimal = Decimal(0)
    max: Decimal | None = None
    last: Last | None = None

    @property
    def watermark(self) -> datetime | None:
        """The greatest event time folded in."""
        return self.last.occurred_at if self.last else None

    def value(self, aggregation: Aggregation) -> Decimal:
        """The one number that an aggregation makes of the set; 0 of the empty one."""
        match aggregation:
            case Aggregation.SUM:
                return self.sum
            case Aggregation.COUNT:
                return Decimal(self.count)
            case Aggregation.MAX:
                return self.max if self.max is not None else Decimal(0)
            case Aggregation.LAST:
                return self.last.quantity if self.last else Decimal(0)

    def __add__(self, other: "Tally") -> "Tally":
        """The aggregate of both sets, which must not share an event.

        Raises:
            decimal.Inexact: the sum needs more than 38 digits.
        """
        if other is EMPTY or self is EMPTY:
            return self if other is EMPTY else other
        return Tally(
            self.count + other.count,
            EXACT.add(self.sum, other.sum),
            _greater(self.max, other.max),
            _greater(self.last, other.last),
        )


EMPTY = Tally()


def _greater[T: (Decimal, Last, datetime)](one: T | None, other: T | None) -> T | None:
    if one is None or other is None:
        return other if one is None else one
    return max(one, other)


def tally_of(event: UsageEvent) -> Tally:
    """The aggregate of a single event."""
    last = Last(event.occurred_at, event.key, event.quantity)
    return Tally(1, event.quantity, event.quantity, last)


def _taken_out(quantity: Decimal) -> Tally:
    """What removes an event from a tally's count and sum; of max and last nothing is taken back."""
    return Tally(-1, quantity.copy_negate())


@dataclass(frozen=True, slots=True)
class Usage:
    """What a counter holds: the events that count, the late ones held back, the adjustments."""

    counted: Tally = EMPTY
    late: Tally = EMPTY
    """Count and sum are of the late events that await approval; max and last also of former ones,
    for neither can be taken back."""
    adjusted: Decimal = ZERO
    """What the approved adjustments add up to, in the metric's unit."""
    entries: int = 0
    """How many entries of the ledger this is made of."""
    decided_until: datetime | None = None
    """The greatest time that an adjustment counts at: it moves no watermark."""

    def value(self, aggregation: Aggregation) -> Decimal:
        """The counter's number: of the events that count, with the adjustments."""
        return EXACT.add(self.counted.value(aggregation), self.adjusted)

    def late_value(self, aggregation: Aggregation) -> Decimal:
        """What the late events that await approval come to by themselves; see `late`."""
        return self.late.value(aggregation) if self.late.count else ZERO

    def __add__(self, other: "Usage") -> "Usage":
        """Both sets together, which must not share an entry.

        Raises:
            decimal.Inexact: a sum needs more than 38 digits.
        """
        return Usage(
            self.counted + other.counted,
            self.late + other.late,
            EXACT.add(self.adjusted, other.adjusted),
            self.entries + other.entries,
            _greater(self.decided_until, other.decided_until),
        )


NO_USAGE = Usage()

type Buckets = Mapping[datetime, Usage]
"""Usage by the start of its bucket: one UTC day has one, or several where a period is cut in it."""


def sum_of_buckets(parts: Iterable[Buckets]) -> dict[datetime, Usage]:
    """All parts together, bucket by bucket; they must not share an event."""
    added: dict[datetime, Usage] = {}
    for part in parts:
        for start, usage in part.items():
            added[start] = added.get(start, NO_USAGE) + usage
    return added


def usage_of(entry: LedgerEntry) -> Usage:
    """What one ledger entry adds to its counter."""
    event = entry.event
    match entry.kind:
        case EntryKind.USAGE:
            tally = tally_of(event)
            return Usage(late=tally, entries=1) if entry.is_late else Usage(tally, entries=1)
        case EntryKind.ADJUSTMENT:
            at = event.occurred_at
            return Usage(adjusted=event.quantity, entries=1, decided_until=at)
        case EntryKind.APPROVAL:
            # Under its own key, which settles which of two events of one instant is the last.
            held = replace(event, key=approved_key(event.key))
            return Usage(tally_of(held), _taken_out(event.quantity), entries=1)
        case EntryKind.APPROVAL_REVERT:
            return Usage(_taken_out(event.quantity.copy_negate()), entries=1)


def total(parts: Iterable[Usage]) -> Usage:
    """All parts together; they must not share an event."""
    return reduce(Usage.__add__, parts, NO_USAGE)
