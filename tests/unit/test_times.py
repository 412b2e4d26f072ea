"""An event's time names one instant, and has one text that sorts as time does."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from metering.times import (
    InvalidTimestampError,
    from_text,
    is_finer_than_microsecond,
    parse_rfc3339,
    to_iso_ms,
    to_text,
)

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-20T12:00:00Z",
        "2026-11-20t12:00:00z",
        "2026-11-20 12:00:00Z",
        "2026-11-20T12:00:00.000Z",
        "2026-11-20T13:30:00+01:30",
        "2026-11-20T07:00:00.0-05:00",
        "2026-11-20T12:00:00-00:00",
        "2026-11-20T12:00:00.000000999Z",
    ],
)
def test_every_spelling_of_an_instant_is_that_instant(text: str) -> None:
    assert parse_rfc3339(text) == NOON


@pytest.mark.parametrize(
    "sent",
    [
        "2026-11-20T12:00:00",
        "2026-11-20",
        "2026-11-20T12:00Z",
        "20261120T120000Z",
        "2026-11-20T12:00:00 Z",
        "2026-11-20T12:00:00.Z",
        "2026-11-20T12:00:00.1234567890Z",
        "2026-11-20T12:00:00+0100",
        "٢٠٢٦-11-20T12:00:00Z",
        "1795176000",
        1795176000,
        None,
        "",
    ],
)
def test_a_time_without_its_offset_is_refused(sent: object) -> None:
    with pytest.raises(InvalidTimestampError, match="date-time with an offset"):
        parse_rfc3339(sent)


@pytest.mark.parametrize(
    "text",
    [
        "2026-02-29T12:00:00Z",
        "2026-13-01T12:00:00Z",
        "2026-11-20T25:00:00Z",
        "2026-11-20T12:00:60Z",
        "2026-11-20T12:00:00+25:00",
        "0000-01-01T00:00:00Z",
        "0001-01-01T00:00:00+01:00",
        "9999-12-31T23:59:59-01:00",
    ],
)
def test_a_time_that_never_was_is_refused(text: str) -> None:
    with pytest.raises(InvalidTimestampError, match=r"^names no real instant$"):
        parse_rfc3339(text)


def test_microseconds_are_kept() -> None:
    instant = parse_rfc3339("2026-11-20T12:00:00.123456Z")

    assert to_text(instant) == "2026-11-20T12:00:00.123456Z"
    assert from_text(to_text(instant)) == instant


def test_what_a_microsecond_cannot_hold_is_noticed() -> None:
    assert is_finer_than_microsecond("2026-11-20T12:00:00.1234567Z")
    assert not is_finer_than_microsecond("2026-11-20T12:00:00.123456000Z")
    assert not is_finer_than_microsecond("2026-11-20T12:00:00Z")
    assert not is_finer_than_microsecond("noon")


def test_texts_are_utc_and_sort_as_time_does() -> None:
    abroad = timezone(timedelta(hours=9))
    earlier, later = NOON.astimezone(abroad), NOON + timedelta(microseconds=1)

    assert to_text(earlier) == "2026-11-20T12:00:00.000000Z"
    assert to_text(earlier) < to_text(later)
    assert to_text(datetime(1, 1, 1, tzinfo=UTC)) == "0001-01-01T00:00:00.000000Z"


def test_the_api_answers_in_milliseconds() -> None:
    assert to_iso_ms(NOON + timedelta(microseconds=1999)) == "2026-11-20T12:00:00.001Z"
