"""Counters: what a set of usage events adds up to, whatever their order.

A `Tally` is the aggregate of a set of events; folding is commutative and associative, so any
recount in any order gives the same number to the last digit.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from functools import reduce
from typing import NamedTuple

from metering.event import LedgerEntry, UsageEvent
from metering.names import CustomerRef, IdempotencyKey, Metric, TenantId
from metering.quantity import EXACT


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
        return Tally(
            self.count + other.count,
            EXACT.add(self.sum, other.sum),
            _greater(self.max, other.max),
            _greater(self.last, other.last),
        )


EMPTY = Tally()


def _greater[T: (Decimal, Last)](one: T | None, other: T | None) -> T | None:
    if one is None or other is None:
        return other if one is None else one
    return max(one, other)


def tally_of(event: UsageEvent) -> Tally:
    """The aggregate of a single event."""
    last = Last(event.occurred_at, event.key, event.quantity)
    return Tally(1, event.quantity, event.quantity, last)


@dataclass(frozen=True, slots=True)
class Usage:
    """What a counter holds: the events that count, and the late ones that await approval."""

    counted: Tally = EMPTY
    late: Tally = EMPTY

    def __add__(self, other: "Usage") -> "Usage":
        """Both sets together, which must not share an event."""
        return Usage(self.counted + other.counted, self.late + other.late)


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
    tally = tally_of(entry.event)
    return Usage(late=tally) if entry.is_late else Usage(counted=tally)


def total(parts: Iterable[Usage]) -> Usage:
    """All parts together; they must not share an event."""
    return reduce(Usage.__add__, parts, NO_USAGE)
