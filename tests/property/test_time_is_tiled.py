"""Every instant lies in exactly one bucket and one period, and buckets tile periods."""

from datetime import UTC, datetime, timedelta

from hypothesis import example, given
from hypothesis import strategies as st

from metering.period import CALENDAR_MONTHS, DAY, BillingCalendar

TICK = timedelta(microseconds=1)
BUCKETS_MAX = 33
"""31 days, the first and the last cut."""


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
ends_of_months = days(28, 29, 30, 31)
anchors = ends_of_months | days(*range(1, 32))
calendars = st.just(CALENDAR_MONTHS) | anchors.map(BillingCalendar)

LEAP_DAY = BillingCalendar(at("2024-02-29T23:59:59"))


@given(calendars, instants | recent)
@example(LEAP_DAY, at("2100-02-28T23:59:59"))
@example(LEAP_DAY, at("2023-02-28T23:59:58.999999"))
@example(BillingCalendar(at("2026-01-31T00:00:01")), at("2026-02-28T00:00:00.999999"))
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
    assert timedelta(days=28) <= period.end - period.start <= timedelta(days=31)


@given(calendars, recent)
@example(LEAP_DAY, at("2024-02-29"))
def test_buckets_tile_their_period(calendar: BillingCalendar, instant: datetime) -> None:
    period = calendar.period_of(instant)
    edge, number = period.start, 0
    while edge < period.end:
        bucket = calendar.bucket_of(edge)
        assert bucket.start == edge
        assert calendar.bucket_of(bucket.end - TICK) == bucket
        edge, number = bucket.end, number + 1
        assert number <= BUCKETS_MAX
    assert edge == period.end


@given(calendars, instants | recent)
def test_a_period_starts_at_the_anchors_day_and_time_or_on_the_months_last_day(
    calendar: BillingCalendar, instant: datetime
) -> None:
    start = calendar.period_of(instant).start

    assert start.time() == calendar.anchor.time()
    is_last_of_month = (start + DAY).month != start.month
    assert start.day == calendar.anchor.day or (
        is_last_of_month and start.day < calendar.anchor.day
    )
