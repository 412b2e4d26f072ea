"""Every instant lies in exactly one bucket and one period, and buckets tile periods."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

from hypothesis import example, given
from hypothesis import strategies as st

from metering.period import (
    DAY,
    FIRST,
    HOUR,
    BillingCalendar,
    Era,
    Interval,
    Span,
    Width,
    calendar_months,
)
from metering.times import parse_rfc3339

TICK = timedelta(microseconds=1)
LOOKED_THROUGH = timedelta(days=35)
"""Of a period; all of its days are alike, and some have years of them."""


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def days(*of_month: int) -> st.SearchStrategy[datetime]:
    return st.builds(
        lambda year, day, seconds: datetime(year, 1, day, tzinfo=UTC) + timedelta(seconds=seconds),
        st.integers(2000, 2030),
        st.sampled_from(of_month),
        st.integers(0, 86_399),
    )


instants = st.datetimes(datetime(2, 1, 1), datetime(9990, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
recent = st.datetimes(datetime(2019, 12, 1), datetime(2029, 3, 1), timezones=st.just(UTC))  # noqa: DTZ001
anchors = days(28, 29, 30, 31) | days(*range(1, 32))
rules = st.builds(
    Era,
    begins_at=recent,
    anchor=anchors,
    interval=st.sampled_from(Interval),
    count=st.integers(1, 3),
    day=st.sampled_from([0, 0, 0, 31]),
) | recent.map(calendar_months)


def row_of(eras: list[Era]) -> BillingCalendar:
    """Eras by their beginnings, as they would have been appended."""
    calendar = BillingCalendar()
    for era in sorted(eras, key=lambda one: one.begins_at):
        calendar = calendar.with_era(era)
    return calendar


calendars = st.lists(rules, max_size=4).map(row_of)


def anchored(anchor: str) -> BillingCalendar:
    return BillingCalendar((Era(FIRST, at(anchor)),))


LEAP_DAY = BillingCalendar((Era(at("2000-02-29T23:59:59"), at("2000-02-29T23:59:59")),))


@given(calendars, instants | recent)
@example(LEAP_DAY, at("2100-02-28T23:59:59"))
@example(LEAP_DAY, at("2023-02-28T23:59:58.999999"))
@example(anchored("2025-01-31T00:00:01"), at("2026-02-28T00:00:00.999999"))
def test_an_instant_lies_in_its_bucket_and_its_bucket_in_its_period(
    calendar: BillingCalendar, instant: datetime
) -> None:
    period, bucket = calendar.period_of(instant), calendar.bucket_of(instant)

    assert period.start <= bucket.start <= instant < bucket.end <= period.end
    assert bucket.end - bucket.start <= DAY
    assert bucket.start.date() == instant.date() == (bucket.end - TICK).date()


@given(calendars, instants | recent)
def test_periods_follow_one_another_without_a_gap_or_an_overlap(
    calendar: BillingCalendar, instant: datetime
) -> None:
    period = calendar.period_of(instant)

    assert calendar.period_of(period.start) == calendar.period_of(period.end - TICK) == period
    assert calendar.period_of(period.end).start == period.end
    assert calendar.period_of(period.start - TICK).end == period.start


@given(calendars, recent)
@example(LEAP_DAY, at("2024-02-29"))
def test_buckets_tile_their_period(calendar: BillingCalendar, instant: datetime) -> None:
    period = calendar.period_of(instant)
    edge = period.start
    while edge < min(period.end, period.start + LOOKED_THROUGH):
        bucket = calendar.bucket_of(edge)
        assert bucket.start == edge
        assert calendar.bucket_of(bucket.end - TICK) == bucket
        edge = bucket.end
    assert edge <= period.end == calendar.bucket_of(period.end - TICK).end


@given(anchors, recent, st.integers(1, 3))
def test_a_monthly_period_starts_at_the_anchors_day_and_time_or_on_the_months_last_day(
    anchor: datetime, instant: datetime, count: int
) -> None:
    calendar = BillingCalendar((Era(anchor, anchor, count=count),))
    start = calendar.period_of(max(instant, anchor)).start

    assert start.time() == anchor.time()
    assert (start.year * 12 + start.month - anchor.year * 12 - anchor.month) % count == 0
    is_last_of_month = (start + DAY).month != start.month
    assert start.day == anchor.day or (is_last_of_month and start.day < anchor.day)


walls = st.datetimes(datetime(2024, 2, 28), datetime(2026, 11, 1))  # noqa: DTZ001 (a clock's face)
offsets = st.integers(-14 * 60, 14 * 60)


@given(calendars, walls, offsets, offsets)
@example(BillingCalendar(), datetime(2026, 10, 25, 2, 30), 120, 60)  # noqa: DTZ001 (set back an hour)
@example(BillingCalendar(), datetime(2024, 2, 29, 23, 59, 59), -60, 0)  # noqa: DTZ001 (March in UTC)
def test_a_clock_that_is_set_back_shows_one_time_of_two_instants_each_in_a_place_of_its_own(
    calendar: BillingCalendar, wall: datetime, before: int, after: int
) -> None:
    first, second = _at_offset(wall, before), _at_offset(wall, after)

    assert second - first == timedelta(minutes=before - after)
    for width, length in (Width.HOUR, HOUR), (Width.DAY, DAY):
        bucket = calendar.bucket_of(first, width)
        assert first in bucket
        assert (second in bucket) == (calendar.bucket_of(second, width) == bucket)
        if abs(second - first) >= length:
            assert second not in bucket


def _at_offset(wall: datetime, minutes: int) -> datetime:
    """The instant at which a clock so far from UTC shows a time, as a client would write it."""
    sign, (hours, rest) = "-" if minutes < 0 else "+", divmod(abs(minutes), 60)
    return parse_rfc3339(f"{wall.isoformat()}{sign}{hours:02d}:{rest:02d}")


@given(calendars, rules)
def test_a_new_era_leaves_every_earlier_period_but_the_one_it_shortens(
    calendar: BillingCalendar, era: Era
) -> None:
    later = calendar.with_era(era)
    cut = calendar.period_of(era.begins_at)

    for instant in (cut.start - TICK, cut.start - 40 * DAY):
        assert later.period_of(instant) == calendar.period_of(instant)
    assert later.period_of(era.begins_at).start == era.begins_at
    if cut.start < era.begins_at:
        assert later.period_of(cut.start) == Span(cut.start, era.begins_at)


@given(calendars, recent)
def test_every_period_begins_in_exactly_one_month(
    calendar: BillingCalendar, instant: datetime
) -> None:
    month = BillingCalendar().period_of(instant)
    found = list(calendar.periods_beginning_in(month))

    assert all(calendar.period_of(one.start) == one for one in found)
    assert all(one.start in month for one in found)
    for earlier, later in pairwise(found):
        assert earlier.end == later.start
    own = calendar.period_of(instant)
    assert (own in found) == (own.start in month)
