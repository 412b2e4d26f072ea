"""Reads the running totals at Stripe that a reconciliation needs, within a budget.

Stripe rations reads. First come totals of periods that close and rows that did not agree or were
never read, then those that were last read a day ago, the oldest reading first; a row that agreed
keeps its reading for a day. What was told since then is read again at once only as far as a
small, steady part of the budget goes.
"""

import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import IntEnum
from typing import NamedTuple

from metering.drill_down import Reads, Total
from metering.errors import NotFoundError, RetryableError
from metering.evidence import Evidence
from metering.facts import Reading, pushed_by
from metering.period import Span
from metering.period_close import PeriodClose, PeriodState
from metering.ports import Billing, SetupError
from metering.push import PushStream, StreamKind, Target, quantity_of, readable
from metering.quantity import EXACT, floor_scaled
from metering.reconciliation import Row, Status
from metering.work import Work

log = logging.getLogger("metering.reconciler")

READING_LASTS = timedelta(hours=23)
"""How long a row that agrees keeps its reading."""
SPARE_PART = 30 * 24
"""One part in so many of what is left may be spent on readings that could wait: as budgets are for
30 days and runs are hourly, that never uses them up."""
_NEVER = datetime.min.replace(tzinfo=UTC)

type Streams = Mapping[Work, list[PushStream]]


class Due(IntEnum):
    """Why a total is read; the least is read first."""

    CLOSING = 0
    """Its period has ended, and was not read since it was closed."""
    IN_DOUBT = 1
    """It was never read, or did not agree."""
    DAILY = 2
    SPARE = 3
    """Something was told since its last reading, less than a day ago."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What Stripe said of a total, in scaled units."""

    scaled: int
    at: datetime


class Wish(NamedTuple):
    """A total that should be read."""

    due: Due
    read_at: datetime
    """When it was last read."""
    total: Total


def total_of(stream: PushStream) -> Total:
    """The running total at Stripe that a stream's pushes go into."""
    return Total(stream.key.target, stream.meter_id, stream.key.period)


def totals_of(streams: Iterable[PushStream]) -> set[Total]:
    """The totals that streams go into."""
    return {total_of(one) for one in streams}


def due_for(
    row: Row | None, streams: Sequence[PushStream], close: PeriodClose | None, now: datetime
) -> Due | None:
    """Why a row's totals should be read; None while its former reading will do."""
    if not streams:
        return None
    read_at = row.stripe_read_at if row else None
    if _is_closing(streams[0].key.period.end, read_at, close, now):
        return Due.CLOSING
    if row is None or read_at is None or row.stripe != row.told_at_reading:
        return Due.IN_DOUBT
    if row.status is Status.INVESTIGATE and any(one.looks for one in row.findings):
        return Due.IN_DOUBT
    if now - read_at >= READING_LASTS:
        return Due.DAILY
    return Due.SPARE if pushed_by(streams) != row.told_at_reading else None


def _is_closing(
    end: datetime, read_at: datetime | None, close: PeriodClose | None, now: datetime
) -> bool:
    if now < end:
        return False
    if close is None or close.state is not PeriodState.CLOSED:
        # Nobody follows its close: then it is read until it has been, after its end.
        return close is not None or read_at is None or read_at < end
    return read_at is None or read_at < (close.closed_at or end)


def summed_up(billing: Billing, target: Target, meter_id: str, period: Span, now: datetime) -> int:
    """What Stripe has summed up in a target in a billing period up to now, in scaled units.

    Raises:
        RetryableError: Stripe cannot answer now.
        SetupError: Stripe refuses our key.
        NotFoundError: of a legacy price, Stripe does not tell what its usage records come to.
    """
    if target.subscription_item:
        found = billing.records_total(target.subscription_item, period, target.account)
        return floor_scaled(found, 0)
    span = readable(period, now)
    if span.start >= span.end:
        return 0
    return floor_scaled(billing.total(meter_id, target.customer, span, target.account), 0)


class Totals:
    """The totals of one run: chosen, read, and divided among the counters that feed them."""

    def __init__(self, billing: Billing, reads: Reads, now: datetime) -> None:
        self._billing = billing
        self._reads = reads
        self._now = now
        self.seen: dict[Total, Seen] = {}

    def read(self, wishes: Iterable[Wish], pool: Executor) -> None:
        """Read as many of the wished totals as the budget allows, the most urgent first."""
        chosen = self._chosen(sorted(_most_urgent(wishes)))
        for total, seen in pool.map(self._read, chosen):
            if seen is not None:
                self.seen[total] = seen

    def _chosen(self, wishes: Sequence[Wish]) -> list[Total]:
        spare = self._reads.spare
        chosen: list[Total] = []
        for wish in wishes:
            if wish.due is Due.SPARE and spare <= 0:
                break
            if not self._reads.take(is_closing=wish.due is Due.CLOSING):
                continue
            spare -= wish.due is Due.SPARE
            chosen.append(wish.total)
        left = sum(wish.due is not Due.SPARE for wish in wishes) - len(chosen)
        if left > 0:
            log.warning("%d of %d totals are not read: budget", left, len(wishes))
        return chosen

    def _read(self, total: Total) -> tuple[Total, Seen | None]:
        target = total.target
        try:
            found = summed_up(self._billing, target, total.meter_id, total.period, self._now)
        except (RetryableError, SetupError, NotFoundError) as error:
            name = target.event_name or target.subscription_item
            log.warning("%s of %s is not read: %s", name, target.customer, error)
            return total, None
        return total, Seen(found, self._now)

    # --- each counter's part ---

    def readings(self, streams: Streams, evidence: Mapping[Total, Evidence]) -> dict[Work, Reading]:
        """Each counter's part of what Stripe said, for those whose totals were all read.

        Where several counters feed one total, each is given what it pushed, less what the minutes
        of its own pushes are found to lack; the first of them also what is over or missing beyond
        that: Stripe cannot say whose that is.
        """
        parts = self._parts(streams, evidence)
        readings = {}
        for work, own in streams.items():
            found = [parts.get(one.key.id) for one in own]
            known = [part for part in found if part is not None]
            if known and len(known) == len(found):
                readings[work] = Reading(_told_together(own, known), self._now)
        return readings

    def _parts(self, streams: Streams, evidence: Mapping[Total, Evidence]) -> dict[str, Decimal]:
        """By stream id: the stream's part of its total at Stripe, in the metric's unit."""
        feeders: dict[Total, list[PushStream]] = defaultdict(list)
        for own in streams.values():
            for stream in own:
                if total_of(stream) in self.seen:
                    feeders[total_of(stream)].append(stream)
        parts: dict[str, Decimal] = {}
        for total, feeding in feeders.items():
            parts |= _divided(self.seen[total].scaled, feeding, evidence.get(total))
        return parts


def _most_urgent(wishes: Iterable[Wish]) -> list[Wish]:
    """One wish per total."""
    best: dict[Total, Wish] = {}
    for wish in wishes:
        if wish.total not in best or wish < best[wish.total]:
            best[wish.total] = wish
    return list(best.values())


def _divided(
    seen: int, feeding: Sequence[PushStream], evidence: Evidence | None
) -> dict[str, Decimal]:
    lacks: dict[str, int] = defaultdict(int)
    for one in evidence.minutes if evidence else ():
        if one.told is not None:
            lacks[one.told.stream_id] += one.effect
    ordered = in_order(feeding)
    parts = {stream.key.id: stream.accepted - lacks[stream.key.id] for stream in ordered}
    told = sum(parts.values())
    if ordered[0].kind is StreamKind.LAST:
        told = floor_scaled(pushed_by(ordered), ordered[0].scale) - sum(lacks.values())
    over = seen - told
    first = ordered[0].key.id
    parts[first] += over
    return {stream.key.id: quantity_of(parts[stream.key.id], stream.scale) for stream in ordered}


def in_order(feeding: Iterable[PushStream]) -> list[PushStream]:
    """The streams that feed a total; what nobody can be named for is told of the first."""
    return sorted(feeding, key=lambda one: one.key.id)


def _told_together(own: Sequence[PushStream], parts: Sequence[Decimal]) -> Decimal:
    if all(one.kind is StreamKind.LAST for one in own):
        newest = pushed_by(own)
        by_stream = zip(own, parts, strict=True)
        return next(part for one, part in by_stream if one.accepted_quantity == newest)
    total = Decimal(0)
    for part in parts:
        total = EXACT.add(total, part)
    return total


def kept_reading(row: Row) -> Reading:
    """The reading of a former row."""
    assert row.stripe is not None
    assert row.stripe_read_at is not None
    return Reading(row.stripe, row.stripe_read_at, row.told_at_reading)
