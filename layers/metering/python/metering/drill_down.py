"""Looks into a running total at Stripe that is not what our pushes add up to: hours, then minutes.

Hours come in pages of a hundred; an hour that differs is halved until the minute is found, where
the second half is the hour's total less the first. So a wrong minute costs some eight reads however
much was pushed in its hour. Reads are rationed: what the budget does not reach stays unexplained.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple

from metering.evidence import (
    NEIGHBOURS,
    ByMinute,
    Evidence,
    MinuteSeen,
    Sign,
    SpanSeen,
    expected_in,
    paired,
    sign_of,
    told_by_minute,
)
from metering.names import Identifier
from metering.period import Span
from metering.ports import Billing
from metering.push import (
    ONE_MINUTE,
    Push,
    PushStream,
    Target,
    ceil_minute,
    floor_minute,
    readable,
)
from metering.quantity import floor_scaled

HOUR = timedelta(hours=1)
HOURS_A_PAGE = 100
"""Of Stripe's summaries grouped by hour."""


class Total(NamedTuple):
    """One running total at Stripe in one billing period."""

    target: Target
    meter_id: str
    period: Span


type Histories = Sequence[tuple[PushStream, Sequence[Push]]]


class _NoReadsLeftError(Exception):
    """The budget is spent."""


@dataclass(slots=True)
class Reads:
    """How many requests for reading a run may make, and how many it has made.

    `left` is what Stripe's ration leaves; reads that close a period are what it is kept for, so
    they are bounded by `most` alone.
    """

    most: int
    left: int
    spare: int = 0
    """How many may be spent on readings that could wait."""
    made: int = 0

    def take(self, number: int = 1, *, is_closing: bool = False) -> bool:
        """Whether so many more may be made; then they count as made."""
        if self.made + number > self.most or (number > self.left and not is_closing):
            return False
        self.left -= number
        self.made += number
        return True


@dataclass(slots=True)
class DrillDown:
    """One total's search; `neighbours` are the histories of the periods before and after."""

    billing: Billing
    reads: Reads
    total: Total
    own: Callable[[], Histories]
    neighbours: Callable[[], Histories]
    now: datetime
    _minutes: ByMinute = field(default_factory=dict)
    _found: list[MinuteSeen] = field(default_factory=list)
    _is_complete: bool = True

    def search(self, first_looks: Mapping[Identifier, datetime]) -> Evidence:
        """What the total's hours and minutes say.

        Raises:
            RetryableError: Stripe cannot answer now.
            SetupError: Stripe refuses our key.
        """
        hours: list[SpanSeen] = []
        try:
            hours = list(self._hours())
            for hour in (one for one in hours if one.seen != one.expected):
                self._halve(hour.span, hour.seen)
            self._look_beyond()
        except _NoReadsLeftError:
            self._is_complete = False
        minutes = paired(self._found, self.total.period)
        looks = {
            one.told.push.identifier: first_looks.get(one.told.push.identifier, self.now)
            for one in minutes
            if one.told is not None and one.sign is Sign.MISSING
        }
        return Evidence(
            [hour for hour in hours if hour.seen or hour.expected],
            minutes,
            looks,
            self._is_complete,
        )

    # --- hours ---

    def _hours(self) -> Iterator[SpanSeen]:
        """Every hour of the period up to now, and the parts of hours at its bounds."""
        seen = list(self._read_hours())
        # Our pushes after Stripe's numbers: what is told meanwhile is then missing for a moment,
        # which passes for lag, and never in excess.
        self._minutes = told_by_minute(self.own())
        read = {hour for span, _ in seen for hour in _hours_of(span)}
        told = {_floor_hour(at) for at in self._minutes} - read
        silent = [(Span(start, start + HOUR), 0) for start in told]
        for span, total in sorted([*seen, *silent]):
            yield SpanSeen(span, expected_in(self._minutes, span), total)

    def _read_hours(self) -> Iterator[tuple[Span, int]]:
        whole = readable(self.total.period, self.now)
        first, last = _ceil_hour(whole.start), _floor_hour(whole.end)
        if first >= last:
            yield from self._read_part(whole)
            return
        yield from self._read_part(Span(whole.start, first))
        yield from self._read_whole_hours(Span(first, last))
        yield from self._read_part(Span(last, whole.end))

    def _read_whole_hours(self, span: Span) -> Iterator[tuple[Span, int]]:
        self._take(-(-(span.end - span.start) // (HOUR * HOURS_A_PAGE)))
        target = self.total.target
        seen = self.billing.hourly(self.total.meter_id, target.customer, span, target.account)
        for start, total in seen.items():
            yield Span(start, start + HOUR), floor_scaled(total, 0)

    def _read_part(self, span: Span) -> Iterator[tuple[Span, int]]:
        if span.start < span.end:
            yield span, self._read(span)

    # --- minutes ---

    def _halve(self, span: Span, seen: int) -> None:
        """Find the minutes of a stretch of time whose total is not what we put there."""
        if seen == expected_in(self._minutes, span):
            return
        minutes = (span.end - span.start) // ONE_MINUTE
        if minutes == 1:
            self._judge(span)
            return
        middle = span.start + ONE_MINUTE * (minutes // 2)
        first = self._read(Span(span.start, middle))
        self._halve(Span(span.start, middle), first)
        self._halve(Span(middle, span.end), seen - first)

    def _judge(self, minute: Span) -> None:
        """Read the minute itself: its number may have been reckoned from two moments' totals."""
        all_told = self._minutes.get(minute.start, ())
        found = sign_of(minute.start, all_told, self._read(minute))
        if found is not None:
            self._found.append(found)

    # --- beyond the period ---

    def _look_beyond(self) -> None:
        """A push near a bound may have been counted on its other side, or one from there here."""
        before, after = _edges(self.total.period)
        for edge, beyond in (before, after):
            if beyond.start < self.now and any(self._may_cross(one, edge) for one in self._found):
                self._search_beyond(Span(beyond.start, min(beyond.end, floor_minute(self.now))))

    def _may_cross(self, one: MinuteSeen, edge: Span) -> bool:
        return one.at in edge and one.sign in {Sign.MISSING, Sign.OTHER}

    def _search_beyond(self, span: Span) -> None:
        inside = self._minutes
        self._minutes = told_by_minute(self.neighbours())
        try:
            if span.start < span.end:
                self._halve(span, self._read(span))
        finally:
            self._minutes = inside

    # --- reading ---

    def _read(self, span: Span) -> int:
        self._take(1)
        target = self.total.target
        total = self.billing.total(self.total.meter_id, target.customer, span, target.account)
        return floor_scaled(total, 0)

    def _take(self, reads: int) -> None:
        if not self.reads.take(reads):
            raise _NoReadsLeftError


def _edges(period: Span) -> tuple[tuple[Span, Span], tuple[Span, Span]]:
    """What lies next to each bound of a period: within it, and beyond it."""
    start, end = ceil_minute(period.start), ceil_minute(period.end)
    return (
        (Span(start, start + NEIGHBOURS), Span(start - NEIGHBOURS, start)),
        (Span(end - NEIGHBOURS, end), Span(end, end + NEIGHBOURS)),
    )


def _floor_hour(instant: datetime) -> datetime:
    return instant.replace(minute=0, second=0, microsecond=0)


def _hours_of(span: Span) -> Iterator[datetime]:
    """The starts of the hours that a span of time lies in; it may begin and end within them."""
    hour = _floor_hour(span.start)
    while hour < span.end:
        yield hour
        hour += HOUR


def _ceil_hour(instant: datetime) -> datetime:
    floored = _floor_hour(instant)
    return floored if floored == instant else floored + HOUR
