"""Billing periods, and the buckets of time in which counters are kept.

All are half-open, `[start, end)`, in UTC. A customer's periods follow its Stripe subscription's
anchor to the second; without a subscription they are calendar months. A bucket is a UTC day, cut
where a period starts, so that a period's total is a fold of whole buckets.
"""

from calendar import monthrange
from dataclasses import dataclass
from datetime import MINYEAR, UTC, datetime, timedelta
from typing import NamedTuple

DAY = timedelta(days=1)


class Span(NamedTuple):
    """The instants from `start` up to, not including, `end`."""

    start: datetime
    end: datetime

    def __contains__(self, instant: object) -> bool:
        return isinstance(instant, datetime) and self.start <= instant < self.end


@dataclass(frozen=True, slots=True)
class BillingCalendar:
    """Where a customer's billing periods begin: once a month at the anchor's day and time.

    An anchor on a day that a month lacks falls on that month's last day, as Stripe does it.
    """

    anchor: datetime

    def period_of(self, instant: datetime) -> Span:
        """The one billing period that holds an instant."""
        start = self._start_in(instant.year, instant.month)
        if start > instant:
            return Span(self._start_in(*_month_before(instant.year, instant.month)), start)
        return Span(start, self._start_in(*_month_after(instant.year, instant.month)))

    def bucket_of(self, instant: datetime) -> Span:
        """The part of a UTC day that holds an instant and lies in one billing period."""
        midnight = day_of(instant)
        period = self.period_of(instant)
        return Span(max(midnight, period.start), min(midnight + DAY, period.end))

    def _start_in(self, year: int, month: int) -> datetime:
        if year < MINYEAR:  # the first period there is begins with time itself
            return datetime.min.replace(tzinfo=UTC)
        day = min(self.anchor.day, monthrange(year, month)[1])
        return self.anchor.replace(year=year, month=month, day=day)


def day_of(instant: datetime) -> datetime:
    """The start of the UTC day that holds an instant."""
    return instant.replace(hour=0, minute=0, second=0, microsecond=0)


CALENDAR_MONTHS = BillingCalendar(datetime(2000, 1, 1, tzinfo=UTC))
"""The periods of a customer without a subscription."""


def month_named(name: str) -> Span:
    """The calendar month `YYYY-MM`.

    Raises:
        ValueError: no such month.
    """
    start = datetime.strptime(name, "%Y-%m").replace(tzinfo=UTC)
    return CALENDAR_MONTHS.period_of(start)


def _month_before(year: int, month: int) -> tuple[int, int]:
    return (year, month - 1) if month > 1 else (year - 1, 12)


def _month_after(year: int, month: int) -> tuple[int, int]:
    return (year, month + 1) if month < 12 else (year + 1, 1)  # noqa: PLR2004 (December)
