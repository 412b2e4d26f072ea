"""Streams and pushes: what is planned, with which number, identifier and minute."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as some

from metering.counter import CounterKey
from metering.minutes import GAPS_MAX, Minutes
from metering.names import CustomerRef, Metric, TenantId
from metering.period import Span
from metering.push import (
    Held,
    Mode,
    Push,
    PushState,
    PushStream,
    StreamKey,
    Target,
    close,
    recall,
    stamp,
    wanted,
)
from tests.push_steps import plan

NOVEMBER = Span(datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC))
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
COUNTER = CounterKey(TenantId("acme"), CustomerRef("ann"), Metric("api_calls"))
TARGET = Target("acct_1", Mode.TEST, "api_calls", "cus_ann")
KEY = StreamKey(TARGET, COUNTER, NOVEMBER)
STREAM = PushStream(KEY, "mtr_1", scale=0)
MINUTE = timedelta(minutes=1)


def planned(
    stream: PushStream = STREAM, desired: int = 10, now: datetime = NOON, used_at: datetime = NOON
) -> PushStream:
    result = plan(stream, desired, now, used_at)
    assert isinstance(result, PushStream), result
    return result


def push_of(stream: PushStream) -> Push:
    assert stream.open is not None
    return stream.open


def accepted(stream: PushStream, now: datetime = NOON) -> PushStream:
    return close(stream, PushState.ACCEPTED, now, resolution="answered").stream


# --- identity -------------------------------------------------------------------------------------


def test_a_push_is_identified_by_its_stream_and_number_alone() -> None:
    first = push_of(planned(desired=10))
    other_value = push_of(planned(desired=99, now=NOON + MINUTE))

    assert first.identifier == other_value.identifier
    assert first.identifier == f"u1.{KEY.id}.1"
    assert len(first.identifier) < 100
    assert "ann" not in first.identifier


def test_streams_differ_by_every_part_of_their_key() -> None:
    keys = [
        KEY,
        KEY._replace(target=TARGET._replace(account="")),
        KEY._replace(target=TARGET._replace(mode=Mode.LIVE)),
        KEY._replace(target=TARGET._replace(event_name="other")),
        KEY._replace(target=TARGET._replace(customer="cus_bob")),
        KEY._replace(counter=COUNTER._replace(tenant=TenantId("other"))),
        KEY._replace(counter=COUNTER._replace(customer=CustomerRef("bob"))),
        KEY._replace(counter=COUNTER._replace(metric=Metric("other"))),
        KEY._replace(period=Span(NOVEMBER.start + MINUTE, NOVEMBER.end)),
        KEY._replace(incarnation=1),
    ]

    assert len({key.id for key in keys}) == len(keys)


def test_parts_of_a_stream_key_cannot_flow_into_each_other() -> None:
    one = KEY._replace(target=TARGET._replace(account="a", event_name="bc"))
    other = KEY._replace(target=TARGET._replace(account="ab", event_name="c"))

    assert one.id != other.id


def test_the_first_idempotency_key_is_the_identifier_and_later_ones_carry_their_generation() -> (
    None
):
    push = push_of(planned())

    assert push.idempotency_key == push.identifier
    assert replace(push, key_generation=2).idempotency_key == push.identifier + ".g2"


# --- deltas ---------------------------------------------------------------------------------------


def test_a_push_carries_the_difference_between_wanted_and_accepted() -> None:
    stream = accepted(planned(desired=10))

    assert push_of(planned(stream, desired=17)).delta == 7
    assert push_of(planned(stream, desired=17)).value == "7"
    assert push_of(planned(stream, desired=17)).seq == 2


def test_accepted_pushes_add_up() -> None:
    stream = accepted(planned(accepted(planned(desired=10)), desired=17))

    assert stream.accepted == 17
    assert stream.open is None


def test_a_decrease_is_pushed_as_a_negative_delta() -> None:  # W6
    stream = accepted(planned(desired=10))

    assert push_of(planned(stream, desired=4)).value == "-6"


def test_nothing_is_planned_when_stripe_has_it_all() -> None:
    stream = accepted(planned(desired=10))

    assert plan(stream, 10, NOON, NOON) is Held.NOTHING_NEW


def test_a_stream_has_at_most_one_open_push() -> None:
    assert plan(planned(), 11, NOON, NOON) is Held.PUSH_OPEN


def test_a_value_is_frozen_when_it_is_planned() -> None:
    stream = stamp(planned(desired=10), NOON)

    assert push_of(stamp(stream, NOON + MINUTE)).value == push_of(stream).value == "10"


@pytest.mark.parametrize("desired", [10**15, -(10**15)])
def test_a_total_of_more_than_15_digits_is_held_back(desired: int) -> None:
    assert plan(STREAM, desired, NOON, NOON) is Held.TOO_MANY_DIGITS
    assert isinstance(plan(STREAM, desired - (1 if desired > 0 else -1), NOON, NOON), PushStream)


def test_a_delta_of_more_than_15_digits_is_held_back() -> None:
    stream = replace(STREAM, accepted=-(10**14))

    assert plan(stream, 10**15 - 1, NOON, NOON) is Held.TOO_MANY_DIGITS


totals = some.decimals(-(10**9), 10**9, places=6)


@given(some.lists(totals, min_size=1, max_size=20), some.integers(0, 6))
def test_deltas_of_floored_totals_never_lose_a_remainder(values: list[Decimal], scale: int) -> None:
    """W9: after any way of totals, Stripe's sum is the last total floored in scaled units."""
    told = 0
    for total in values:
        told += wanted(total, scale) - told

    assert Decimal(told) <= values[-1].scaleb(scale) < told + 1


def test_what_another_stream_told_is_not_told_again() -> None:
    assert wanted(Decimal("10.5"), 1, told_elsewhere=Decimal("4.2")) == 63


# --- minutes --------------------------------------------------------------------------------------


def test_a_push_is_stamped_with_the_minute_of_its_newest_usage() -> None:
    used_at = datetime(2026, 11, 20, 9, 30, 59, tzinfo=UTC)

    assert push_of(planned(used_at=used_at)).occurred_at == datetime(
        2026, 11, 20, 9, 30, tzinfo=UTC
    )


def test_no_two_pushes_of_a_stream_share_a_minute() -> None:
    stream, used = STREAM, []
    for desired in range(1, 50):
        stream = planned(stream, desired)
        used.append(push_of(stream).occurred_at)
        stream = accepted(stream)

    assert len(set(used)) == 49
    assert max(used) == NOON  # never in the future: the rest lies before
    assert min(used) == NOON - 48 * MINUTE


@given(some.lists(some.integers(0, 40), min_size=1, max_size=200))
def test_minutes_are_taken_once_however_they_are_asked_for(wishes: list[int]) -> None:
    window = Span(NOON, NOON + 41 * MINUTE)
    minutes, used = Minutes(), []
    for wish in wishes:
        taken = minutes.take(window, NOON + wish * MINUTE)
        if taken is None:
            break
        used.append(taken.taken)
        minutes = taken.rest
        assert len(minutes.gaps) <= GAPS_MAX

    assert len(used) == len(set(used))
    assert all(one in window for one in used)


def test_usage_of_the_partial_first_minute_is_stamped_into_the_first_whole_one() -> None:
    start = datetime(2026, 11, 20, 11, 58, 7, tzinfo=UTC)
    stream = replace(STREAM, key=KEY._replace(period=Span(start, NOVEMBER.end)))

    push = push_of(planned(stream, used_at=start))

    assert push.occurred_at == datetime(2026, 11, 20, 11, 59, tzinfo=UTC)


def test_the_last_half_hour_is_kept_for_the_pushes_that_close_the_period() -> None:
    end = NOVEMBER.end
    last = end - timedelta(seconds=1)

    routine = push_of(planned(now=last, used_at=last))
    closing = push_of(planned(now=end + MINUTE, used_at=last))

    assert routine.occurred_at == end - 31 * MINUTE
    assert closing.occurred_at == end - MINUTE


def test_a_period_that_ends_within_a_minute_keeps_clear_of_it() -> None:
    end = datetime(2026, 11, 20, 11, 30, 30, tzinfo=UTC)
    stream = replace(STREAM, key=KEY._replace(period=Span(NOVEMBER.start, end)))

    assert push_of(planned(stream, used_at=end)).occurred_at == datetime(
        2026, 11, 20, 11, 29, tzinfo=UTC
    )


def test_nothing_is_stamped_further_back_than_stripe_takes() -> None:
    long_period = Span(NOON - timedelta(days=60), NOON + timedelta(days=1))
    stream = replace(STREAM, key=KEY._replace(period=long_period))

    push = push_of(planned(stream, used_at=long_period.start))

    assert push.occurred_at == NOON - timedelta(days=34)


def test_without_a_free_minute_nothing_is_planned_yet() -> None:
    now = NOVEMBER.start + timedelta(seconds=90)
    stream = accepted(planned(now=now, used_at=now, desired=1))
    stream = accepted(planned(stream, now=now, used_at=now, desired=2))

    assert plan(stream, 3, now, now) is Held.NO_FREE_MINUTE
    assert isinstance(plan(stream, 3, now + MINUTE, now), PushStream)


# --- closed periods -------------------------------------------------------------------------------


def test_usage_that_arrives_after_the_grace_is_not_pushed_into_the_closed_period() -> None:
    grace_ends = NOVEMBER.end + timedelta(hours=1)

    assert isinstance(plan(STREAM, 1, grace_ends - MINUTE, NOON), PushStream)
    assert plan(STREAM, 1, grace_ends, NOON) is Held.LATE_AFTER_CLOSE


# --- recalling ------------------------------------------------------------------------------------


def test_a_push_that_was_stamped_and_not_sent_is_as_it_was_planned() -> None:
    before = planned()

    assert recall(stamp(before, NOON)) == before


def test_a_push_that_may_have_left_is_never_recalled() -> None:
    twice = stamp(stamp(planned(), NOON), NOON + MINUTE)

    with pytest.raises(AssertionError, match="may have left"):
        recall(twice)
