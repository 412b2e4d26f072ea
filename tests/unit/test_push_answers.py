"""The failure table of the push protocol, row by row, as far as it is a matter of one stream."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from metering.counter import CounterKey
from metering.delivery import (
    Accepted,
    AlreadyExists,
    Answer,
    InFlight,
    KeyReused,
    NotAllowed,
    OutcomeUnknown,
    RateLimited,
    Refused,
    ServerError,
    Step,
    Verdict,
    abandon,
    classify,
    resolve,
)
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
    stamp,
)
from tests.push_steps import next_step, plan

NOVEMBER = Span(datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC))
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
KEY = StreamKey(
    Target("", Mode.TEST, "api_calls", "cus_ann"),
    CounterKey(TenantId("acme"), CustomerRef("ann"), Metric("api_calls")),
    NOVEMBER,
)


def planned(
    stream: PushStream | None = None, desired: int = 10, now: datetime = NOON
) -> PushStream:
    result = plan(stream or PushStream(KEY, "mtr_1", scale=0), desired, now, now)
    assert isinstance(result, PushStream), result
    return result


def push_of(stream: PushStream) -> Push:
    assert stream.open is not None
    return stream.open


def closed(verdict: Verdict) -> Push:
    assert verdict.closed is not None
    return verdict.closed


SENT = stamp(planned(), NOON)
RESENT = stamp(SENT, NOON + MINUTE)
"""Its first attempt ended in a crash: nobody knows what Stripe made of it."""


def test_row_1_crash_before_stamp_sends_it_as_it_is() -> None:
    stream = planned()

    assert next_step(stream, NOON + 5 * HOUR) is Step.SEND
    assert not push_of(stamp(stream, NOON)).is_doubtful


def test_row_2_crash_after_stamp_resends_with_the_same_key_and_identifier() -> None:
    assert next_step(SENT, NOON + 29 * SECOND) is Step.WAIT  # the request may still be under way
    assert next_step(SENT, NOON + 30 * SECOND) is Step.SEND

    assert push_of(RESENT).identifier == push_of(SENT).identifier
    assert push_of(RESENT).idempotency_key == push_of(SENT).idempotency_key
    assert push_of(RESENT).first_attempt_at == NOON
    assert push_of(RESENT).is_doubtful


@pytest.mark.parametrize("answer", [Accepted(replayed=True), AlreadyExists("already exists")])
def test_row_3_crash_after_stripes_200_is_committed_by_the_repeat(answer: Answer) -> None:
    verdict = classify(RESENT, answer, NOON + MINUTE)

    assert verdict.stream.accepted == 10
    assert closed(verdict).state is PushState.ACCEPTED


@pytest.mark.parametrize("replayed", [False, True])
def test_row_5_a_200_is_committed(replayed: bool) -> None:  # noqa: FBT001 (a parameter of pytest)
    verdict = classify(SENT, Accepted(replayed), NOON)

    assert verdict.stream.accepted == 10
    assert verdict.stream.open is None
    assert closed(verdict).state is PushState.ACCEPTED
    assert not verdict.alarm


def test_row_6_already_exists_after_an_attempt_of_ours_is_a_delivery() -> None:
    verdict = classify(RESENT, AlreadyExists("An event already exists"), NOON)

    assert closed(verdict).resolution == "duplicate"
    assert verdict.stream.accepted == 10
    assert not verdict.alarm


def test_row_7_already_exists_on_the_very_first_attempt_is_unknown_and_alarms() -> None:
    verdict = classify(SENT, AlreadyExists("An event already exists"), NOON)

    assert push_of(verdict.stream).state is PushState.UNKNOWN
    assert verdict.stream.accepted == 0
    assert "restored backup" in verdict.alarm
    assert next_step(verdict.stream, NOON + 29 * MINUTE) is Step.WAIT
    assert next_step(verdict.stream, NOON + 30 * MINUTE) is Step.RESOLVE


def test_row_7_holds_after_calls_that_stripe_did_not_execute() -> None:
    limited = classify(SENT, RateLimited("global-rate"), NOON).stream

    verdict = classify(stamp(limited, NOON + MINUTE), AlreadyExists("exists"), NOON + MINUTE)

    assert push_of(verdict.stream).state is PushState.UNKNOWN


def test_row_8_another_400_rejects_the_push_and_stops_the_stream_for_a_while() -> None:
    verdict = classify(SENT, Refused("resource_missing", "No such customer"), NOON)

    assert closed(verdict).state is PushState.REJECTED
    assert verdict.stream.accepted == 0
    assert plan(verdict.stream, 10, NOON + 59 * MINUTE, NOON) is Held.STOPPED
    again = planned(verdict.stream, 10, NOON + HOUR)
    assert push_of(again).seq == 2
    assert again.stopped is None


def test_row_8_a_refusal_after_an_attempt_that_may_have_counted_is_unknown() -> None:
    verdict = classify(RESENT, Refused("", "No active meter"), NOON + MINUTE)

    assert push_of(verdict.stream).state is PushState.UNKNOWN
    assert verdict.closed is None


def test_row_9_a_reused_key_stops_the_stream_until_a_person_looks() -> None:
    verdict = classify(SENT, KeyReused("Keys for idempotent requests"), NOON)

    assert push_of(verdict.stream).state is PushState.UNKNOWN
    assert verdict.stream.stopped is not None
    assert verdict.stream.stopped.until is None
    assert verdict.alarm


def test_row_10_a_refused_key_keeps_the_push_as_it_was_and_alarms() -> None:
    verdict = classify(SENT, NotAllowed("401: Invalid API Key"), NOON)

    assert "refuses our key" in verdict.alarm
    assert push_of(verdict.stream).state is PushState.PLANNED
    assert push_of(verdict.stream).first_attempt_at is None


def test_row_11_a_twin_in_flight_is_waited_for_under_the_same_key() -> None:
    stream = classify(SENT, InFlight(), NOON).stream

    assert push_of(stream).idempotency_key == push_of(SENT).idempotency_key
    assert next_step(stream, NOON + SECOND) is Step.WAIT
    assert next_step(stream, NOON + 5 * SECOND) is Step.SEND
    assert push_of(stream).is_doubtful


def test_row_12_a_rate_limit_is_no_attempt_and_backs_off() -> None:
    stream, pauses = SENT, []
    for _ in range(8):
        stream = classify(stream, RateLimited("global-rate"), NOON).stream
        push = push_of(stream)
        assert push.state is PushState.PLANNED
        assert push.idempotency_key == push_of(SENT).idempotency_key
        assert push.not_before is not None
        pauses.append((push.not_before - NOON).total_seconds())
        stream = stamp(stream, NOON)

    assert 2.5 <= pauses[0] <= 5
    assert all(
        later > 1.1 * sooner for sooner, later in zip(pauses[::2], pauses[2::2], strict=False)
    )
    assert pauses[-1] <= 600


def test_row_13_a_500_is_sent_again_under_a_new_key_with_the_same_identifier() -> None:
    stream = classify(SENT, ServerError("oops"), NOON).stream

    assert push_of(stream).state is PushState.SENT
    assert push_of(stream).identifier == push_of(SENT).identifier
    assert push_of(stream).idempotency_key == push_of(SENT).identifier + ".g1"


@pytest.mark.parametrize("answer", [Accepted(), AlreadyExists("exists")])
def test_row_13_after_a_500_both_answers_are_committed(answer: Answer) -> None:
    stream = stamp(classify(SENT, ServerError("oops"), NOON).stream, NOON + MINUTE)

    assert classify(stream, answer, NOON + MINUTE).stream.accepted == 10


def test_row_14_an_unknown_outcome_keeps_its_key_and_renews_it_after_three() -> None:
    stream, keys = SENT, []
    for _ in range(4):
        stream = classify(stream, OutcomeUnknown("timeout"), NOON).stream
        keys.append(push_of(stream).key_generation)
        stream = stamp(stream, NOON)

    assert keys == [0, 0, 1, 1]
    assert push_of(stream).state is PushState.SENT


def test_row_15_nothing_is_sent_23_hours_after_the_first_attempt() -> None:
    stream = classify(RESENT, OutcomeUnknown("timeout"), NOON + MINUTE).stream

    assert next_step(stream, NOON + 23 * HOUR - SECOND) is Step.SEND
    assert next_step(stream, NOON + 23 * HOUR) is Step.RESOLVE


def test_row_15_the_first_look_is_half_an_hour_after_the_last_attempt() -> None:
    late = stamp(SENT, NOON + 22 * HOUR + 50 * MINUTE)

    assert next_step(late, NOON + 23 * HOUR + 19 * MINUTE) is Step.WAIT
    assert next_step(late, NOON + 23 * HOUR + 20 * MINUTE) is Step.RESOLVE


def test_row_18_a_later_life_of_the_store_uses_other_identifiers() -> None:
    later = PushStream(KEY._replace(incarnation=1), "mtr_1", scale=0)

    assert push_of(planned(later)).identifier != push_of(planned()).identifier


def test_row_20_another_stripe_customer_is_another_stream() -> None:
    other = KEY._replace(target=KEY.target._replace(customer="cus_new"))

    assert other.id != KEY.id


# --- resolve --------------------------------------------------------------------------------------

LATER = NOON + 24 * HOUR


def test_a_push_found_in_its_minute_was_accepted() -> None:
    verdict = resolve(RESENT, 10, LATER)

    assert closed(verdict).state is PushState.ACCEPTED
    assert closed(verdict).resolution == "minute_window"
    assert verdict.stream.accepted == 10


def test_a_minute_that_is_empty_twice_an_hour_apart_voids_the_push() -> None:
    once = resolve(RESENT, 0, LATER).stream

    assert push_of(once).state is PushState.UNKNOWN
    assert next_step(once, LATER + 59 * MINUTE) is Step.WAIT
    assert next_step(once, LATER + HOUR) is Step.RESOLVE

    twice = resolve(once, 0, LATER + HOUR)

    assert closed(twice).state is PushState.VOID
    assert twice.stream.accepted == 0
    assert push_of(planned(twice.stream, 10, LATER + HOUR)).seq == 2


def test_a_push_that_appears_at_the_second_look_was_accepted() -> None:
    once = resolve(RESENT, 0, LATER).stream

    assert closed(resolve(once, 10, LATER + HOUR)).state is PushState.ACCEPTED


def test_a_minute_that_holds_something_else_waits_for_a_person() -> None:
    verdict = resolve(RESENT, 7, LATER)

    assert verdict.stream.stopped is not None
    assert "holds 7, neither 0 nor our 10" in verdict.alarm
    assert push_of(verdict.stream).state is PushState.UNKNOWN
    assert verdict.stream.accepted == 0


def test_an_ambiguous_minute_that_clears_up_lets_the_stream_go_on() -> None:
    stream = resolve(RESENT, 7, LATER).stream

    verdict = resolve(stream, 10, LATER + 24 * HOUR)

    assert verdict.stream.stopped is None
    assert verdict.stream.accepted == 10


# --- a period that closes over an open push -------------------------------------------------------


def test_a_push_that_never_left_is_given_up_when_its_period_is_closed() -> None:
    stream = planned()
    after = NOVEMBER.end + HOUR

    assert next_step(stream, after) is Step.ABANDON
    assert abandon(stream, after).push.state is PushState.VOID
    assert abandon(stream, after).stream.accepted == 0


def test_a_push_that_may_have_left_is_looked_up_when_its_period_is_closed() -> None:
    before = NOVEMBER.end + HOUR - MINUTE
    stream = stamp(planned(now=before), before)

    assert next_step(stream, NOVEMBER.end + HOUR) is Step.WAIT
    assert next_step(stream, before + 30 * MINUTE) is Step.RESOLVE


def test_an_accepted_push_keeps_its_history() -> None:
    push = closed(classify(replace(SENT, accepted=5), Accepted(), NOON + MINUTE))

    assert (push.delta, push.attempts, push.closed_at) == (10, 1, NOON + MINUTE)
