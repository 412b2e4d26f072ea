"""Streams that set a value: `last` meters, meters with a window, legacy prices."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from metering.counter import Aggregation, CounterKey
from metering.delivery import (
    AMBIGUOUS,
    Accepted,
    OutcomeUnknown,
    Step,
    classify,
    next_step,
    resolve,
    without_request,
)
from metering.mapping import Customer, Mapping
from metering.names import CustomerRef, Metric, TenantId
from metering.period import Span
from metering.ports import MeterEvent, UsageRecord
from metering.push import (
    Held,
    Mode,
    Push,
    PushState,
    PushStream,
    Role,
    StreamKey,
    StreamKind,
    Target,
    close,
    reject_async,
    stamp,
)
from metering.pusher import request_of
from metering.route import (
    NoRoute,
    beside,
    conflict,
    fresh_stream,
    is_even,
    no_route,
    stream_kind,
    window_of,
)
from tests.builders import A_MAPPING
from tests.push_steps import plan

NOVEMBER = Span(datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC))
CLOSED = NOVEMBER.end + timedelta(hours=1)
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
COUNTER = CounterKey(TenantId("acme"), CustomerRef("ann"), Metric("seats"))
KEY = StreamKey(Target("", Mode.TEST, "seats", "cus_ann"), COUNTER, NOVEMBER)
DELTA = PushStream(KEY, "mtr_1", scale=0)
LAST = replace(DELTA, kind=StreamKind.LAST)
HOURLY = PushStream(KEY._replace(hour=NOON), "mtr_1", scale=0, kind=StreamKind.HOURLY)
LEGACY_TARGET = Target("acct_1", Mode.TEST, "", "cus_ann", "si_1")
LEGACY = PushStream(KEY._replace(target=LEGACY_TARGET), "", scale=0, kind=StreamKind.LEGACY)
SETTING = pytest.mark.parametrize(
    "stream", [LAST, HOURLY, LEGACY], ids=lambda stream: str(stream.kind)
)


def planned(
    stream: PushStream, desired: int, now: datetime = NOON, used_at: datetime = NOON
) -> PushStream:
    result = plan(stream, desired, now, used_at)
    assert isinstance(result, PushStream), result
    return result


def told(stream: PushStream, desired: int, now: datetime = NOON) -> PushStream:
    sent = stamp(planned(stream, desired, now, now), now)
    return classify(sent, Accepted(), now).stream


def push_of(stream: PushStream) -> Push:
    assert stream.open is not None
    return stream.open


# --- what is sent ---------------------------------------------------------------------------------


@SETTING
def test_a_stream_that_sets_a_value_sends_the_whole_of_it(stream: PushStream) -> None:
    first = told(stream, 10)
    second = planned(first, 17, NOON + MINUTE, NOON + MINUTE)

    assert (push_of(second).delta, push_of(second).value) == (7, "17")
    assert told(first, 17, NOON + MINUTE).accepted == 17


@SETTING
def test_a_lower_value_is_set_as_it_is(stream: PushStream) -> None:
    second = planned(told(stream, 10), 4, NOON + MINUTE, NOON + MINUTE)

    assert (push_of(second).delta, push_of(second).value) == (-6, "4")


@SETTING
def test_a_value_that_stripe_has_is_not_set_again(stream: PushStream) -> None:
    assert plan(told(stream, 10), 10, NOON + MINUTE, NOON + MINUTE) is Held.NOTHING_NEW


def test_each_last_value_carries_a_later_minute_than_all_before() -> None:
    first = told(LAST, 10)
    earlier = planned(first, 11, NOON + 5 * MINUTE, NOON - HOUR)

    assert push_of(earlier).occurred_at == NOON + MINUTE


def test_a_last_value_waits_for_a_minute_that_is_later_than_the_one_before() -> None:
    assert plan(told(LAST, 10), 11, NOON + timedelta(seconds=59), NOON) is Held.NO_FREE_MINUTE


def test_an_hourly_value_is_stamped_with_the_start_of_its_window_however_late_it_is_told() -> None:
    first = planned(HOURLY, 10, NOON + 3 * HOUR)
    second = planned(told(HOURLY, 10), 12, NOON + 5 * HOUR)

    assert push_of(first).occurred_at == push_of(second).occurred_at == NOON
    assert push_of(first).identifier != push_of(second).identifier


def test_an_hourly_value_older_than_stripe_takes_is_held_back() -> None:
    long_period = KEY._replace(period=Span(NOVEMBER.start, NOVEMBER.end + timedelta(days=300)))
    stream = replace(HOURLY, key=long_period._replace(hour=NOON))

    assert plan(stream, 10, NOON + timedelta(days=34, seconds=1), NOON) is Held.TOO_OLD
    assert isinstance(plan(stream, 10, NOON + timedelta(days=34), NOON), PushStream)


def test_each_hour_of_a_period_has_a_stream_of_its_own() -> None:
    ids = {KEY._replace(hour=hour).id for hour in (None, NOON, NOON + HOUR)}

    assert len(ids) == 3


def test_a_usage_record_always_stands_at_the_first_whole_minute_of_the_period() -> None:
    odd = KEY._replace(
        target=LEGACY_TARGET, period=Span(NOVEMBER.start + timedelta(seconds=7), NOVEMBER.end)
    )
    stream = replace(LEGACY, key=odd)

    stamps = {push_of(planned(stream, value, NOON + value * HOUR)).occurred_at for value in (1, 2)}

    assert stamps == {NOVEMBER.start + MINUTE}


def test_a_legacy_push_is_a_usage_record_and_any_other_a_meter_event() -> None:
    record = request_of(planned(LEGACY, 10))
    event = request_of(planned(LAST, 10))

    assert record == UsageRecord(
        "acct_1", "si_1", "10", NOVEMBER.start, push_of(planned(LEGACY, 10)).idempotency_key
    )
    assert isinstance(event, MeterEvent)
    assert (event.event_name, event.value) == ("seats", "10")


# --- unknown outcomes -----------------------------------------------------------------------------


def lost(stream: PushStream) -> PushStream:
    """A push of 10 was sent; its answer never came."""
    sent = stamp(planned(stream, 10), NOON)
    return classify(sent, OutcomeUnknown("timeout"), NOON).stream


@SETTING
def test_a_value_with_unknown_outcome_is_repeated_for_a_day_and_then_told_anew(
    stream: PushStream,
) -> None:
    open_ = lost(stream)
    day_later = NOON + 24 * HOUR

    assert next_step(open_, NOON + 22 * HOUR, closes_at=CLOSED) is Step.SEND
    assert next_step(open_, day_later, closes_at=CLOSED) is Step.REPLACE
    verdict = without_request(open_, Step.REPLACE, day_later)
    assert verdict.closed is not None
    assert (verdict.closed.state, verdict.closed.resolution) == (PushState.VOID, "told_again")
    assert push_of(planned(verdict.stream, 10, day_later)).seq == 2


@SETTING
def test_a_value_that_fell_back_meanwhile_is_told_though_it_was_the_last_accepted(
    stream: PushStream,
) -> None:
    open_ = stamp(planned(told(stream, 3), 10, NOON + MINUTE, NOON + MINUTE), NOON + MINUTE)
    now = NOON + 25 * HOUR
    replaced = without_request(open_, Step.REPLACE, now).stream

    assert replaced.needs_attention
    again = planned(replaced, 3, now)
    assert (push_of(again).delta, push_of(again).value) == (0, "3")
    after = classify(stamp(again, now), Accepted(), now).stream
    assert (after.accepted, after.needs_attention) == (3, False)


def test_a_delta_with_unknown_outcome_is_resolved_and_never_told_anew() -> None:
    assert next_step(lost(DELTA), NOON + 24 * HOUR, closes_at=CLOSED) is Step.RESOLVE


@pytest.mark.parametrize("stream", [LAST, HOURLY], ids=["last", "hourly"])
def test_of_a_closed_period_even_a_value_is_only_looked_up(stream: PushStream) -> None:
    assert next_step(lost(stream), CLOSED, closes_at=CLOSED) is Step.RESOLVE
    assert resolve(lost(stream), 10, CLOSED).stream.accepted == 10


def test_an_hour_that_holds_what_it_held_before_took_no_newer_value() -> None:
    open_ = stamp(planned(told(HOURLY, 4), 10, NOON + MINUTE), NOON + MINUTE)

    once = resolve(open_, 4, CLOSED)
    twice = resolve(once.stream, 4, CLOSED + HOUR)

    assert once.closed is None
    assert twice.closed is not None
    assert (twice.closed.state, twice.stream.accepted) == (PushState.VOID, 4)


def test_an_unknown_usage_record_of_a_closed_period_waits_for_a_person() -> None:
    open_ = lost(LEGACY)
    assert next_step(open_, CLOSED, closes_at=CLOSED) is Step.ASK

    verdict = without_request(open_, Step.ASK, CLOSED)

    assert verdict.stream.stopped is not None
    assert verdict.stream.stopped.reason == AMBIGUOUS
    assert "si_1" in verdict.alarm
    assert next_step(verdict.stream, CLOSED + HOUR, closes_at=CLOSED) is Step.WAIT


# --- taken back -----------------------------------------------------------------------------------


def accepted_push(stream: PushStream, desired: int) -> tuple[PushStream, Push]:
    closed = close(
        stamp(planned(stream, desired), NOON), PushState.ACCEPTED, NOON, resolution="answered"
    )
    return closed.stream, closed.push


def test_a_push_that_stripe_rejects_later_returns_under_a_new_number_an_hour_later() -> None:
    first, push = accepted_push(DELTA, 10)
    second, _ = accepted_push(first, 12)

    back, rejected = reject_async(second, push, NOON, "meter_event_customer_not_found")

    assert rejected.state is PushState.ASYNC_REJECTED
    assert rejected.last_error == "meter_event_customer_not_found"
    assert back.accepted == 2
    assert plan(back, 12, NOON + 59 * MINUTE, NOON) is Held.STOPPED
    again = push_of(planned(back, 12, NOON + HOUR))
    assert (again.seq, again.value) == (3, "10")


def test_an_open_push_goes_on_when_an_earlier_one_is_taken_back() -> None:
    first, push = accepted_push(DELTA, 10)
    open_ = stamp(planned(first, 12, NOON + MINUTE), NOON + MINUTE)

    back, _ = reject_async(open_, push, NOON + MINUTE, "gone")
    after = classify(back, Accepted(), NOON + MINUTE).stream

    assert after.accepted == 2
    assert push_of(planned(after, 12, NOON + 2 * HOUR)).delta == 10


def test_a_rejected_value_is_set_again_unless_a_newer_one_took_its_place() -> None:
    first, old = accepted_push(LAST, 10)
    second, newest = accepted_push(replace(first, minutes=LAST.minutes), 12)

    assert reject_async(second, old, NOON, "gone").stream == second
    back = reject_async(second, newest, NOON, "gone").stream
    assert back.accepted == 10
    assert push_of(planned(back, 12, NOON + HOUR, NOON + HOUR)).value == "12"


def test_a_push_that_never_counted_is_not_taken_back() -> None:
    closed = close(stamp(planned(DELTA, 10), NOON), PushState.VOID, NOON, resolution="answered")

    with pytest.raises(AssertionError, match="never counted"):
        reject_async(closed.stream, closed.push, NOON, "gone")


# --- routes ---------------------------------------------------------------------------------------


ANN = Customer(TenantId("acme"), CustomerRef("ann"), "cus_ann", subscription="sub_1")


def a_mapping(aggregation: Aggregation = Aggregation.SUM, **changes: object) -> Mapping:
    mapping = replace(
        A_MAPPING,
        tenant=COUNTER.tenant,
        metric=COUNTER.metric,
        aggregation=aggregation,
        meter_event_name="seats",
    )
    return replace(mapping, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("mapping", "kind"),
    [
        (a_mapping(), StreamKind.DELTA),
        (a_mapping(Aggregation.MAX), StreamKind.DELTA),
        (a_mapping(Aggregation.LAST), StreamKind.LAST),
        (a_mapping(meter_window="hour"), StreamKind.HOURLY),
        (a_mapping(Aggregation.LAST, is_legacy=True), StreamKind.LEGACY),
    ],
)
def test_the_mapping_says_in_which_form_usage_is_told(mapping: Mapping, kind: StreamKind) -> None:
    stream = fresh_stream(COUNTER, NOVEMBER, mapping, ANN, (Mode.TEST, 0, Role.PRIMARY))

    assert stream_kind(mapping) is stream.kind is kind


def test_a_legacy_price_needs_a_subscription_and_no_meter() -> None:
    mapping = a_mapping(is_legacy=True, meter_id="", meter_event_name="")

    assert no_route(mapping, ANN) is None
    assert no_route(mapping, replace(ANN, subscription="")) is NoRoute.SUBSCRIPTION_ITEM_MISSING
    stream = fresh_stream(
        COUNTER, NOVEMBER, mapping, ANN, (Mode.TEST, 0, Role.PRIMARY), subscription_item="si_1"
    )
    assert stream.key.target == Target("", Mode.TEST, "", "cus_ann", "si_1")


def test_hours_of_a_period_do_not_stand_in_each_others_way() -> None:
    next_hour = stamp(planned(replace(HOURLY, key=KEY._replace(hour=NOON + HOUR)), 5), NOON)

    assert beside(HOURLY, [HOURLY, next_hour]) == []
    assert conflict(HOURLY, [next_hour], a_mapping(meter_window="hour")) is None


@pytest.mark.parametrize(
    ("own", "other", "mapping"),
    [
        (LAST, told(DELTA, 3), a_mapping(Aggregation.LAST)),
        (DELTA, told(HOURLY, 3), a_mapping()),
        (HOURLY, told(DELTA, 3), a_mapping(meter_window="hour")),
        (told(DELTA, 3), LAST, a_mapping(Aggregation.LAST)),
        (
            LAST,
            told(replace(LAST, key=KEY._replace(target=KEY.target._replace(event_name="x"))), 3),
            a_mapping(Aggregation.LAST),
        ),
    ],
    ids=["delta then last", "hourly then delta", "delta then hourly", "same meter", "other meter"],
)
def test_usage_that_was_told_in_another_way_is_not_told_twice(
    own: PushStream, other: PushStream, mapping: Mapping
) -> None:
    elsewhere = replace(other, key=other.key._replace(incarnation=7))

    assert conflict(own, [elsewhere], mapping) is Held.TOLD_OTHERWISE


def test_a_window_of_the_meter_must_lie_in_one_period() -> None:
    hours = Span(NOVEMBER.start + 8 * HOUR, NOVEMBER.end)
    seconds = Span(NOVEMBER.start + timedelta(seconds=30), NOVEMBER.end)

    assert [is_even(NOVEMBER, window) for window in ("hour", "day")] == [True, True]
    assert [is_even(hours, window) for window in ("hour", "day")] == [True, False]
    assert [is_even(seconds, window) for window in ("hour", "day")] == [False, False]
    at = NOON + 59 * MINUTE
    assert (window_of(at, "hour"), window_of(at, "day")) == (NOON, NOON - 12 * HOUR)
