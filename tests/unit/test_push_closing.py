"""What a push leaves behind when it comes to an end, to the last field; corrections among them."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from metering.counter import CounterKey
from metering.minutes import Minutes
from metering.names import CustomerRef, Identifier, Metric, TenantId
from metering.period import NEVER, Span
from metering.push import (
    Closed,
    Correction,
    Held,
    Mode,
    Push,
    PushState,
    PushStream,
    Stop,
    StreamKey,
    StreamKind,
    Target,
    close,
    floor_minute,
    plan,
    quantity_of,
    readable,
    reject_async,
    retired,
    stamp,
    wanted,
    whole_units,
)

NOVEMBER = Span(datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC))
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
THEN = NOON + MINUTE
COUNTER = CounterKey(TenantId("acme"), CustomerRef("ann"), Metric("api_calls"))
TARGET = Target("", Mode.TEST, "api_calls", "cus_ann")
KEY = StreamKey(TARGET, COUNTER, NOVEMBER)
NEW = PushStream(KEY, "mtr_1", scale=0, accepted=3, accepted_at=NOON)
FOREIGN = replace(NEW, corrections=(Correction(-4, NOON, "api:bob", "foreign usage"),))
CLOSES_AT = NOVEMBER.end + HOUR
REFUSED = Stop("refused", "archived", THEN, THEN + HOUR)
FOR_A_PERSON = Stop("key_reused", "m", NOON, None)
FOR_A_WHILE = Stop("refused", "m", NOON, NOON + HOUR)


def planned(stream: PushStream, desired: int = 10, now: datetime = NOON) -> PushStream:
    result = plan(stream, desired, now, now, closes_at=CLOSES_AT)
    assert isinstance(result, PushStream), result
    return result


def push_of(stream: PushStream) -> Push:
    assert stream.open is not None
    return stream.open


def accepted(stream: PushStream) -> Closed:
    return close(stamp(stream, NOON), PushState.ACCEPTED, THEN, resolution="answered")


# --- numbers --------------------------------------------------------------------------------------


def test_parts_add_up_to_the_floored_total_of_all() -> None:
    values = [Decimal("0.6"), Decimal("0.6"), Decimal("-2.5"), Decimal(3), Decimal("0.39")]

    assert whole_units(values, 0) == [0, 1, -3, 3, 1]
    assert whole_units(values, 1) == [6, 6, -25, 30, 3]
    assert whole_units([], 0) == []


def test_thirty_eight_digits_are_scaled_and_floored_without_losing_one() -> None:
    digits = "12345678901234567890123456.789012345678"

    assert wanted(Decimal(digits), 12) == int(digits.replace(".", ""))
    assert quantity_of(int(digits.replace(".", "")), 12) == Decimal(digits)


# --- planning and stamping ------------------------------------------------------------------------


def test_a_plan_freezes_all_of_a_push() -> None:
    minute = NOON - HOUR

    stream = plan(NEW, 10, NOON, minute + SECOND, closes_at=CLOSES_AT)

    assert isinstance(stream, PushStream)
    assert push_of(stream) == Push(
        seq=1,
        identifier=Identifier(f"u1.{KEY.id}.1"),
        delta=7,
        value="7",
        occurred_at=minute,
        planned_at=NOON,
        is_correction=False,
    )


def test_a_correction_is_told_before_usage_and_marked() -> None:
    push = push_of(planned(FOREIGN))

    assert (push.delta, push.value, push.is_correction) == (-4, "-4", True)


def test_a_first_stamp_says_since_when_a_request_may_have_left() -> None:
    stream = planned(NEW)

    once, twice = stamp(stream, NOON), stamp(stamp(stream, NOON), THEN)

    assert push_of(once) == replace(
        push_of(stream),
        state=PushState.SENT,
        attempts=1,
        first_attempt_at=NOON,
        last_attempt_at=NOON,
        not_before=NOON + 30 * SECOND,
    )
    assert push_of(twice) == replace(
        push_of(once),
        attempts=2,
        last_attempt_at=THEN,
        is_doubtful=True,
        not_before=THEN + 30 * SECOND,
    )


def test_a_push_in_doubt_stays_in_doubt_when_it_is_stamped_anew() -> None:
    stream = planned(NEW)
    doubtful = replace(stream, open=replace(push_of(stream), is_doubtful=True))

    assert push_of(stamp(doubtful, NOON)).is_doubtful


def test_what_sets_a_value_at_one_instant_uses_up_no_minutes() -> None:
    hourly = replace(NEW, key=KEY._replace(hour=NOON), kind=StreamKind.HOURLY)
    legacy = replace(NEW, kind=StreamKind.LEGACY)

    assert planned(hourly).minutes == planned(legacy).minutes == Minutes()
    assert push_of(planned(hourly)).occurred_at == NOON
    assert push_of(planned(legacy)).occurred_at == NOVEMBER.start
    oldest = NOON + timedelta(days=34)
    assert isinstance(plan(hourly, 10, oldest, NOON, closes_at=NEVER), PushStream)
    late = oldest + timedelta(microseconds=1)
    assert plan(hourly, 10, late, NOON, closes_at=NEVER) is Held.TOO_OLD


def test_at_the_very_end_of_a_period_its_last_minutes_may_be_used() -> None:
    at_the_end = planned(NEW, now=NOVEMBER.end)
    just_before = planned(NEW, now=NOVEMBER.end - SECOND)

    assert push_of(at_the_end).occurred_at == NOVEMBER.end - MINUTE
    assert push_of(just_before).occurred_at == NOVEMBER.end - 31 * MINUTE


def test_a_whole_minute_has_no_seconds_and_no_parts_of_one() -> None:
    assert floor_minute(NOON + timedelta(seconds=59, microseconds=999_999)) == NOON
    assert floor_minute(NOON + timedelta(microseconds=1)) == NOON


def test_a_period_is_read_up_to_the_minute_that_has_begun() -> None:
    assert readable(NOVEMBER, NOON + SECOND) == Span(NOVEMBER.start, NOON + MINUTE)
    assert readable(NOVEMBER, NOVEMBER.end + HOUR) == NOVEMBER
    assert readable(NOVEMBER, NOVEMBER.start - HOUR) == Span(NOVEMBER.start, NOVEMBER.start)


# --- closing --------------------------------------------------------------------------------------


def test_an_accepted_push_moves_the_total_and_says_when() -> None:
    stream = planned(NEW)

    assert accepted(stream) == Closed(
        replace(stream, open=None, accepted=10, accepted_at=THEN),
        replace(
            push_of(stamp(stream, NOON)),
            state=PushState.ACCEPTED,
            closed_at=THEN,
            resolution="answered",
            not_before=None,
        ),
    )


def test_an_accepted_correction_moves_no_usage_and_lets_usage_go_on() -> None:
    stream = planned(FOREIGN)

    after = accepted(stream).stream

    assert after == replace(stream, open=None, compensated=-4, accepted_at=THEN, is_due=True)
    assert accepted(stream).push.is_correction
    assert push_of(planned(after)).delta == 7


@pytest.mark.parametrize(
    ("stream", "is_due"),
    [
        (NEW, False),
        (replace(NEW, is_due=True), True),
        (FOREIGN, True),
        (replace(NEW, kind=StreamKind.LAST), True),
    ],
)
def test_a_push_that_came_to_nothing_leaves_due_what_must_be_told_anyway(
    stream: PushStream,
    is_due: bool,  # noqa: FBT001 (a parameter of pytest)
) -> None:
    opened = replace(planned(stream), is_due=stream.is_due)

    after, push = close(opened, PushState.VOID, THEN, resolution="period_closed")

    assert after == replace(opened, open=None, is_due=is_due)
    assert push == replace(
        push_of(opened), state=PushState.VOID, closed_at=THEN, resolution="period_closed"
    )


def test_the_last_error_stays_with_a_push_unless_there_is_a_newer_one() -> None:
    stream = planned(NEW)
    troubled = replace(stream, open=replace(push_of(stream), last_error="500"))

    errors = [
        close(troubled, PushState.VOID, THEN, resolution="x", error=error).push.last_error
        for error in ("", "400")
    ]

    assert errors == ["500", "400"]


# --- taken back -----------------------------------------------------------------------------------


def test_a_push_that_stripe_did_not_count_returns_after_an_hour() -> None:
    after, push = accepted(planned(NEW))

    back = reject_async(after, push, THEN, "archived")

    assert back == Closed(
        replace(after, accepted=3, stopped=REFUSED, is_due=False),
        replace(push, state=PushState.ASYNC_REJECTED, last_error="archived"),
    )


@pytest.mark.parametrize(
    ("stopped", "stop"),
    [(None, REFUSED), (FOR_A_WHILE, REFUSED), (FOR_A_PERSON, FOR_A_PERSON)],
)
def test_a_stream_that_waits_for_a_person_goes_on_waiting(stopped: Stop | None, stop: Stop) -> None:
    after, push = accepted(planned(NEW))

    assert reject_async(replace(after, stopped=stopped), push, THEN, "archived").stream.stopped == (
        stop
    )


def test_a_correction_that_stripe_did_not_count_is_due_again() -> None:
    after, push = accepted(planned(FOREIGN))

    back = reject_async(replace(after, is_due=False), push, THEN, "archived")

    assert back == Closed(
        replace(after, compensated=0, stopped=REFUSED, is_due=True),
        replace(push, state=PushState.ASYNC_REJECTED, last_error="archived"),
    )


def test_a_value_that_stripe_did_not_count_is_told_again_unless_a_newer_one_stands() -> None:
    after, push = accepted(planned(replace(NEW, kind=StreamKind.LAST)))
    rejected = replace(push, state=PushState.ASYNC_REJECTED, last_error="archived")

    back = reject_async(after, push, THEN, "archived")
    newer = accepted(planned(after, 12, THEN)).stream

    assert back == Closed(replace(after, accepted=3, stopped=REFUSED, is_due=True), rejected)
    assert reject_async(newer, push, THEN, "archived") == Closed(newer, rejected)


def test_what_was_due_stays_due_when_a_push_is_taken_back() -> None:
    after, push = accepted(planned(NEW))

    assert reject_async(replace(after, is_due=True), push, THEN, "archived").stream.is_due


@pytest.mark.parametrize(
    ("stopped", "kept"), [(None, None), (FOR_A_WHILE, None), (FOR_A_PERSON, FOR_A_PERSON)]
)
def test_a_closed_periods_stream_is_looked_at_no_more_unless_a_person_must(
    stopped: Stop | None, kept: Stop | None
) -> None:
    stream = replace(NEW, stopped=stopped, is_due=True)

    assert retired(stream) == replace(NEW, stopped=kept, is_due=False)
