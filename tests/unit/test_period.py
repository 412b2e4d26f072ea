"""Billing periods and buckets, to the second."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from metering.period import (
    CALENDAR_MONTHS,
    NEVER,
    BillingCalendar,
    Era,
    Interval,
    Span,
    calendar_months,
    month_named,
)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def anchored(anchor: str, **rule: Any) -> BillingCalendar:
    return BillingCalendar((Era(at(anchor), at(anchor), **rule),))


def test_without_a_subscription_a_period_is_a_calendar_month() -> None:
    assert CALENDAR_MONTHS.period_of(at("2028-02-29T23:59:59")) == Span(
        at("2028-02-01"), at("2028-03-01")
    )


def test_a_period_starts_at_the_anchor_to_the_second() -> None:
    calendar = anchored("2026-01-15T13:37:42")
    start = at("2026-11-15T13:37:42")

    assert calendar.period_of(start) == Span(start, at("2026-12-15T13:37:42"))
    assert calendar.period_of(start - timedelta(microseconds=1)) == Span(
        at("2026-10-15T13:37:42"), start
    )


@pytest.mark.parametrize(
    ("anchor", "instant", "start", "end"),
    [
        ("2026-01-31", "2026-02-15", "2026-01-31", "2026-02-28"),
        ("2026-01-31", "2026-03-01", "2026-02-28", "2026-03-31"),
        ("2026-01-31", "2026-04-30", "2026-04-30", "2026-05-31"),
        ("2026-01-30", "2028-02-29", "2028-02-29", "2028-03-30"),
        ("2026-01-29", "2027-02-28", "2027-02-28", "2027-03-29"),
        (
            "2026-01-31T10:00:00",
            "2026-12-31T09:59:59",
            "2026-11-30T10:00:00",
            "2026-12-31T10:00:00",
        ),
        ("2026-01-31T10:00:00", "2027-01-01", "2026-12-31T10:00:00", "2027-01-31T10:00:00"),
    ],
)
def test_an_anchor_that_a_month_lacks_falls_on_its_last_day(
    anchor: str, instant: str, start: str, end: str
) -> None:
    assert anchored(anchor).period_of(at(instant)) == Span(at(start), at(end))


def test_a_bucket_is_a_utc_day() -> None:
    assert CALENDAR_MONTHS.bucket_of(at("2026-11-20T23:59:59.999999")) == Span(
        at("2026-11-20"), at("2026-11-21")
    )


def test_the_day_on_which_a_period_starts_is_cut_in_two_buckets() -> None:
    calendar = anchored("2026-01-20T13:37:42")
    cut = at("2026-11-20T13:37:42")

    assert calendar.bucket_of(cut - timedelta(microseconds=1)) == Span(at("2026-11-20"), cut)
    assert calendar.bucket_of(cut) == Span(cut, at("2026-11-21"))


def test_a_span_holds_its_start_and_not_its_end() -> None:
    day = Span(at("2026-11-20"), at("2026-11-21"))

    assert day.start in day
    assert day.end not in day
    assert "2026-11-20" not in day


@pytest.mark.parametrize("anchor", ["2026-01-15T13:37:42", "2000-01-01"])
@pytest.mark.parametrize("instant", ["0001-01-01", "9998-12-31T23:59:59.999999"])
def test_the_first_and_the_last_instants_have_a_bucket_too(anchor: str, instant: str) -> None:
    assert at(instant) in anchored(anchor).bucket_of(at(instant))


def test_a_month_is_found_by_name() -> None:
    assert month_named("2026-12") == Span(at("2026-12-01"), at("2027-01-01"))
    with pytest.raises(ValueError, match="unconverted data"):
        month_named("2026-13")


def test_until_its_first_era_a_customers_periods_are_calendar_months() -> None:
    calendar = anchored("2026-11-20T13:37:42")
    begin = at("2026-11-20T13:37:42")

    assert calendar.period_of(at("2026-10-05")) == Span(at("2026-10-01"), at("2026-11-01"))
    assert calendar.period_of(begin - timedelta(microseconds=1)) == Span(at("2026-11-01"), begin)
    assert calendar.period_of(begin) == Span(begin, at("2026-12-20T13:37:42"))


@pytest.mark.parametrize(
    ("interval", "count", "instant", "start", "end"),
    [
        (Interval.DAY, 1, "2026-12-25T01:00:00", "2026-12-24T10:00:00", "2026-12-25T10:00:00"),
        (Interval.DAY, 90, "2026-12-25", "2026-11-20T10:00:00", "2027-02-18T10:00:00"),
        (Interval.WEEK, 1, "2026-12-04T10:00:00", "2026-12-04T10:00:00", "2026-12-11T10:00:00"),
        (Interval.WEEK, 2, "2026-12-04T09:59:59", "2026-11-20T10:00:00", "2026-12-04T10:00:00"),
        (Interval.MONTH, 3, "2027-02-20T10:00:00", "2027-02-20T10:00:00", "2027-05-20T10:00:00"),
        (Interval.YEAR, 1, "2028-02-29", "2027-11-20T10:00:00", "2028-11-20T10:00:00"),
    ],
)
def test_periods_last_as_many_intervals_as_the_price_says(
    interval: Interval, count: int, instant: str, start: str, end: str
) -> None:
    calendar = anchored("2026-11-20T10:00:00", interval=interval, count=count)

    assert calendar.period_of(at(instant)) == Span(at(start), at(end))


def test_a_leap_day_of_a_yearly_plan_falls_on_the_28th_and_comes_back() -> None:
    calendar = anchored("2028-02-29T10:00:00", interval=Interval.YEAR)

    assert calendar.period_of(at("2029-02-28T10:00:00")).start == at("2029-02-28T10:00:00")
    assert calendar.period_of(at("2032-03-01")).start == at("2032-02-29T10:00:00")


def test_a_new_era_takes_the_place_of_all_that_begin_with_it_or_after_it() -> None:
    first, second = Era(at("2026-03-05"), at("2026-03-05")), Era(at("2026-06-05"), at("2026-06-05"))
    calendar = BillingCalendar((first, second))

    assert calendar.with_era(calendar_months(at("2026-07-01"))).eras[:2] == (first, second)
    moved = calendar.with_era(Era(at("2026-06-05"), at("2026-06-07")))
    assert moved.eras == (first, Era(at("2026-06-05"), at("2026-06-07")))
    assert calendar.with_era(Era(at("2026-01-01"), at("2026-01-01"))).eras[0].begins_at == at(
        "2026-01-01"
    )


@pytest.mark.parametrize(
    ("interval", "month", "days"),
    [
        (Interval.MONTH, "2026-12", [20]),
        (Interval.WEEK, "2026-12", [4, 11, 18, 25]),
        (Interval.YEAR, "2026-12", []),
        (Interval.YEAR, "2027-11", [20]),
        (Interval.WEEK, "2026-11", [1, 20, 27]),
    ],
)
def test_the_periods_that_begin_in_a_month_are_found(
    interval: Interval, month: str, days: list[int]
) -> None:
    calendar = anchored("2026-11-20T10:00:00", interval=interval)

    found = [period.start.day for period in calendar.periods_beginning_in(month_named(month))]

    assert found == days


def test_a_period_is_cut_short_when_its_subscription_changes_before_its_end() -> None:
    started, changed = at("2026-01-15T09:00:00"), at("2026-11-20T12:00:00")
    rule = Era(started, started, subscription="sub_1")
    calendar = BillingCalendar((rule, Era(changed, changed, subscription="sub_1")))

    cut = calendar.period_of(changed - timedelta(microseconds=1))

    assert cut == Span(at("2026-11-15T09:00:00"), changed)
    assert calendar.is_cut_short(cut)
    assert not calendar.is_cut_short(calendar.period_of(at("2026-10-20")))
    assert not calendar.is_cut_short(calendar.period_of(changed))


def test_a_calendar_month_that_a_subscription_ends_is_not_cut_short_by_anybody() -> None:
    started = at("2026-11-20T12:00:00")
    calendar = BillingCalendar((Era(started, started, subscription="sub_1"),))

    assert not calendar.is_cut_short(Span(at("2026-11-01"), started))


def test_the_last_periods_before_the_end_of_time_end_where_they_should() -> None:
    daily = anchored("2026-01-15", interval=Interval.DAY)

    assert daily.period_of(at("9999-12-30T12:00:00")) == Span(at("9999-12-30"), at("9999-12-31"))
    assert daily.period_of(at("9999-12-31T12:00:00")) == Span(at("9999-12-31"), NEVER)
    assert anchored("2026-01-15").period_of(at("9999-06-20")) == Span(
        at("9999-06-15"), at("9999-07-15")
    )


def test_before_its_first_era_a_customer_is_in_that_of_calendar_months() -> None:
    calendar = anchored("2026-01-15")

    assert calendar.era_of(at("2026-01-14")) == calendar_months()
    assert calendar.era_of(at("2026-01-15")) == calendar.eras[0]
