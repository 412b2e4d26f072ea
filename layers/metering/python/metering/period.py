"""Billing periods, and the buckets of time in which counters are kept.

All are half-open, `[start, end)`, in UTC. A customer's time is a row of eras, each with its own
rule for periods: calendar months until its first subscription, then what the subscription says, to
the second. A bucket is a UTC day, or where a metric asks for it an hour, cut where a period starts,
so that a period's total is a fold of whole buckets.
"""

from bisect import bisect_right
from calendar import monthrange
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import MAXYEAR, UTC, datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
FIRST = datetime.min.replace(tzinfo=UTC)
"""Where time begins; on the first of a month, at midnight."""
NEVER = datetime.max.replace(tzinfo=UTC)
"""After all instants that there can be."""
MONTHS_OF_A_YEAR = 12


class Span(NamedTuple):
    """The instants from `start` up to, not including, `end`."""

    start: datetime
    end: datetime

    def __contains__(self, instant: object) -> bool:
        return isinstance(instant, datetime) and self.start <= instant < self.end


class Interval(StrEnum):
    """How far apart the boundaries of billing periods are, in Stripe's words."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    YEAR = "year"


class Width(StrEnum):
    """How much time a counter keeps in one bucket, in UTC."""

    DAY = "day"
    HOUR = "hour"


_LENGTHS = {Interval.DAY: DAY, Interval.WEEK: 7 * DAY}
_MONTHS = {Interval.MONTH: 1, Interval.YEAR: MONTHS_OF_A_YEAR}


@dataclass(frozen=True, slots=True)
class Era:
    """A time in which a customer's billing periods follow one rule; it lasts until the next one.

    Boundaries are counted from the anchor: every `count` intervals, on its day and at its time. A
    day that a month lacks is that month's last one, and comes back afterwards. Before the anchor
    there are no boundaries: what an era has there (a trial, the first part of a month) is one
    period.
    """

    begins_at: datetime
    anchor: datetime
    interval: Interval = Interval.MONTH
    count: int = 1
    day: int = 0
    """The day of the month that is meant where the anchor's month lacks it; 0: the anchor's."""
    subscription: str = ""
    """`sub_...`, whose periods these are; empty for calendar months."""

    def period_of(self, instant: datetime) -> Span:
        """The boundaries around an instant of this era; the first period begins with the era."""
        if instant < self.anchor:
            return Span(self.begins_at, self.anchor)
        number = self._number_of(instant)
        start = max(self._boundary(number), self.begins_at)
        return Span(start, self._boundary(number + 1))

    def _number_of(self, instant: datetime) -> int:
        """How many whole intervals lie between the anchor and an instant."""
        if self.interval in _LENGTHS:
            return (instant - self.anchor) // (_LENGTHS[self.interval] * self.count)
        number = (_month_number(instant) - _month_number(self.anchor)) // self._months
        return number if self._boundary(number) <= instant else number - 1

    def _boundary(self, number: int) -> datetime:
        """The instant so many intervals after the anchor."""
        if number == 0:
            return self.anchor
        if self.interval in _LENGTHS:
            length = _LENGTHS[self.interval] * self.count
            is_in_time = (NEVER - self.anchor) // length >= number
            return self.anchor + length * number if is_in_time else NEVER
        year, month = divmod(_month_number(self.anchor) + number * self._months, MONTHS_OF_A_YEAR)
        if year > MAXYEAR:
            return NEVER
        day = min(self.day or self.anchor.day, monthrange(year, month + 1)[1])
        return self.anchor.replace(year=year, month=month + 1, day=day)

    @property
    def _months(self) -> int:
        return _MONTHS[self.interval] * self.count


def _month_number(instant: datetime) -> int:
    return instant.year * MONTHS_OF_A_YEAR + instant.month - 1


def calendar_months(begins_at: datetime = FIRST) -> Era:
    """The era of a customer without a subscription: months from midnight of the first, UTC."""
    return Era(begins_at, FIRST)


_BEFORE_ALL = calendar_months()


@dataclass(frozen=True, slots=True)
class BillingCalendar:
    """Where a customer's billing periods begin: calendar months until the first era, then eras.

    `eras` are in the order of their beginnings. A period under way when an era begins ends there.
    """

    eras: tuple[Era, ...] = ()

    def era_of(self, instant: datetime) -> Era:
        """The era that holds an instant."""
        after = self._eras_begun(instant)
        return self.eras[after - 1] if after else _BEFORE_ALL

    def period_of(self, instant: datetime) -> Span:
        """The one billing period that holds an instant."""
        after = self._eras_begun(instant)
        era = self.eras[after - 1] if after else _BEFORE_ALL
        start, end = era.period_of(instant)
        if after < len(self.eras):
            end = min(end, self.eras[after].begins_at)
        return Span(start, end)

    def bucket_of(self, instant: datetime, width: Width = Width.DAY) -> Span:
        """The part of a UTC day, or hour, that holds an instant and lies in one billing period."""
        is_hour = width is Width.HOUR
        start = hour_of(instant) if is_hour else day_of(instant)
        period = self.period_of(instant)
        end = start + (HOUR if is_hour else DAY)
        return Span(max(start, period.start), min(end, period.end))

    def periods_beginning_in(self, month: Span) -> Iterator[Span]:
        """The billing periods that begin within a span of time, in their order.

        None in most months of a calendar of years, several in one of weeks.
        """
        period = self.period_of(month.start)
        if period.start < month.start:
            period = self.period_of(period.end)
        while period.start < month.end:
            yield period
            period = self.period_of(period.end)

    def is_cut_short(self, period: Span) -> bool:
        """Whether something ended one of its periods, of a subscription, before its time."""
        era = self.era_of(period.start)
        return era.subscription != "" and era.period_of(period.start).end > period.end

    def with_era(self, era: Era) -> "BillingCalendar":
        """The calendar in which everything from an era's beginning on follows that era."""
        earlier = tuple(one for one in self.eras if one.begins_at < era.begins_at)
        return BillingCalendar((*earlier, era))

    def _eras_begun(self, instant: datetime) -> int:
        """How many eras have begun at an instant."""
        if not self.eras:
            return 0
        return bisect_right(self.eras, instant, key=lambda era: era.begins_at)


def day_of(instant: datetime) -> datetime:
    """The start of the UTC day that holds an instant."""
    return instant.replace(hour=0, minute=0, second=0, microsecond=0)


def hour_of(instant: datetime) -> datetime:
    """The start of the UTC hour that holds an instant."""
    return instant.replace(minute=0, second=0, microsecond=0)


CALENDAR_MONTHS = BillingCalendar()
"""The periods of a customer without a subscription."""


def month_named(name: str) -> Span:
    """The calendar month `YYYY-MM`.

    Raises:
        ValueError: no such month.
    """
    start = datetime.strptime(name, "%Y-%m").replace(tzinfo=UTC)
    return CALENDAR_MONTHS.period_of(start)
