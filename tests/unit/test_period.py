"""Billing periods and buckets, to the second."""

from datetime import UTC, datetime, timedelta

import pytest

from metering.period import CALENDAR_MONTHS, BillingCalendar, Span, month_named


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def test_without_a_subscription_a_period_is_a_calendar_month() -> None:
    assert CALENDAR_MONTHS.period_of(at("2028-02-29T23:59:59")) == Span(
        at("2028-02-01"), at("2028-03-01")
    )


def test_a_period_starts_at_the_anchor_to_the_second() -> None:
    calendar = BillingCalendar(at("2026-01-15T13:37:42"))
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
    assert BillingCalendar(at(anchor)).period_of(at(instant)) == Span(at(start), at(end))


def test_a_bucket_is_a_utc_day() -> None:
    assert CALENDAR_MONTHS.bucket_of(at("2026-11-20T23:59:59.999999")) == Span(
        at("2026-11-20"), at("2026-11-21")
    )


def test_the_day_on_which_a_period_starts_is_cut_in_two_buckets() -> None:
    calendar = BillingCalendar(at("2026-01-20T13:37:42"))
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
    assert at(instant) in BillingCalendar(at(anchor)).bucket_of(at(instant))


def test_a_month_is_found_by_name() -> None:
    assert month_named("2026-12") == Span(at("2026-12-01"), at("2027-01-01"))
    with pytest.raises(ValueError, match="unconverted data"):
        month_named("2026-13")
