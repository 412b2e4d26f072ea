"""What is stored after each answer, to the last field: the next step reads every one of them."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

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
    classify,
    next_step,
    resolve,
    without_request,
)
from metering.errors import InvariantBrokenError
from metering.names import CustomerRef, Metric, TenantId
from metering.period import Span
from metering.push import (
    Mode,
    Push,
    PushState,
    PushStream,
    Stop,
    StreamKey,
    StreamKind,
    Target,
    plan,
    stamp,
)

NOVEMBER = Span(datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC))
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
THEN = NOON + MINUTE
COUNTER = CounterKey(TenantId("acme"), CustomerRef("ann"), Metric("api_calls"))
TARGET = Target("", Mode.TEST, "api_calls", "cus_ann", "si_1")
CLOSES_AT = NOVEMBER.end + HOUR


def sent(kind: StreamKind = StreamKind.DELTA, *, attempts: int = 1) -> PushStream:
    """A stream that has accepted 3 and whose push of 7 more has been stamped so many times."""
    stream = PushStream(StreamKey(TARGET, COUNTER, NOVEMBER), "mtr_1", 0, kind, accepted=3)
    planned = plan(stream, 10, NOON, NOON, closes_at=CLOSES_AT)
    assert isinstance(planned, PushStream)
    for _ in range(attempts):
        planned = stamp(planned, NOON)
    return planned


def push_of(stream: PushStream) -> Push:
    assert stream.open is not None
    return stream.open


def opened(stream: PushStream, **changes: Any) -> PushStream:
    """The stream with a changed open push."""
    return replace(stream, open=replace(push_of(stream), **changes))


def closed(stream: PushStream, state: PushState, resolution: str, error: str = "") -> Push:
    return replace(
        push_of(stream),
        state=state,
        closed_at=THEN,
        resolution=resolution,
        not_before=None,
        last_error=error,
    )


ONCE, TWICE, THRICE = (sent(attempts=number) for number in (1, 2, 3))
PAUSES = [timedelta(microseconds=us) for us in (2_718_201, 7_401_886, 19_729_156)]
"""After one, two and three attempts: half of 5, 10 and 20 seconds, and a part by the hash."""
RESOLVED = THEN + 30 * MINUTE
REFUSAL = f"Stripe refuses the usage of {COUNTER}: "
UNSENT = "Stripe knows an identifier that this store never sent (restored backup, second store?)"
CHANGED = "A push's parameters changed under its idempotency key, our own bug: "


def accepted(stream: PushStream, resolution: str) -> Verdict:
    after = replace(stream, open=None, accepted=10, accepted_at=THEN)
    return Verdict(after, closed(stream, PushState.ACCEPTED, resolution))


def refused(error: str) -> Verdict:
    stop = Stop("refused", error, THEN, THEN + HOUR)
    after = replace(ONCE, open=None, stopped=stop)
    return Verdict(after, closed(ONCE, PushState.REJECTED, "answered", error), REFUSAL + error)


def unknown(stream: PushStream, error: str, alarm: str) -> Verdict:
    state = PushState.UNKNOWN
    return Verdict(opened(stream, state=state, last_error=error, not_before=RESOLVED), alarm=alarm)


def again(stream: PushStream, error: str, *, generation: int = 0) -> Verdict:
    later = opened(
        stream,
        is_doubtful=True,
        key_generation=generation,
        not_before=THEN + PAUSES[push_of(stream).attempts - 1],
        last_error=error,
    )
    return Verdict(later)


def unsent(error: str, alarm: str = "") -> Verdict:
    later = opened(
        ONCE,
        state=PushState.PLANNED,
        first_attempt_at=None,
        not_before=THEN + PAUSES[0],
        last_error=error,
    )
    return Verdict(later, alarm=alarm)


def stopped(verdict: Verdict, reason: str, message: str) -> Verdict:
    stop = Stop(reason, message, THEN, None)
    return verdict._replace(stream=replace(verdict.stream, stopped=stop))


@pytest.mark.parametrize(
    ("stream", "answer", "stored"),
    [
        (ONCE, Accepted(), accepted(ONCE, "answered")),
        (ONCE, Accepted(replayed=True), accepted(ONCE, "replayed")),
        (TWICE, AlreadyExists("m"), accepted(TWICE, "duplicate")),
        (ONCE, AlreadyExists("m"), unknown(ONCE, "m", UNSENT)),
        (ONCE, Refused("c", "m"), refused("c: m")),
        (ONCE, Refused("", "m"), refused("m")),
        (TWICE, Refused("c", "m"), unknown(TWICE, "c: m", REFUSAL + "c: m")),
        (
            ONCE,
            KeyReused("m"),
            stopped(unknown(ONCE, "m", CHANGED + "m"), "key_reused", "m"),
        ),
        (ONCE, NotAllowed("m"), unsent("m", "Stripe refuses our key: m")),
        (ONCE, InFlight(), again(ONCE, "409: a twin request is in flight")),
        (ONCE, RateLimited("r"), unsent("429: r")),
        (TWICE, RateLimited("r"), again(TWICE, "429: r")),
        (ONCE, ServerError("m"), again(ONCE, "500: m", generation=1)),
        (TWICE, OutcomeUnknown("m"), again(TWICE, "m")),
        (THRICE, OutcomeUnknown("m"), again(THRICE, "m", generation=1)),
    ],
)
def test_after_an_answer_this_is_stored(
    stream: PushStream, answer: Answer, stored: Verdict
) -> None:
    assert classify(stream, answer, THEN) == stored


def test_a_value_with_unknown_outcome_is_told_again_and_one_that_never_left_is_void() -> None:
    planned, last = sent(attempts=0), sent(StreamKind.LAST)

    assert without_request(planned, Step.ABANDON, THEN) == Verdict(
        replace(planned, open=None), closed(planned, PushState.VOID, "period_closed")
    )
    assert without_request(last, Step.REPLACE, THEN) == Verdict(
        replace(last, open=None, is_due=True), closed(last, PushState.VOID, "told_again")
    )
    with pytest.raises(InvariantBrokenError, match=r"^Step\.SEND is no such step$"):
        without_request(planned, Step.SEND, THEN)


def test_a_usage_record_that_nobody_can_read_is_left_for_a_person() -> None:
    legacy = sent(StreamKind.LEGACY)
    message = (
        "nobody knows whether 10 was set on si_1 for the period from 2026-11-01T00:00Z, which is"
        " closed"
    )

    verdict = without_request(legacy, Step.ASK, THEN)

    kept = opened(legacy, state=PushState.UNKNOWN, not_before=None)
    stop = Stop("ambiguous_minute", message, THEN, None)
    assert verdict == Verdict(replace(kept, stopped=stop), alarm=message)
    assert next_step(verdict.stream, THEN, closes_at=THEN) is Step.WAIT


def test_a_minute_that_holds_the_push_proves_it_and_one_that_is_empty_twice_disproves_it() -> None:
    look = opened(ONCE, state=PushState.UNKNOWN, not_before=THEN)
    seen_once = opened(look, seen_empty_at=THEN, not_before=THEN + HOUR)

    assert resolve(look, 7, THEN) == accepted(look, "minute_window")
    assert resolve(look, 0, THEN) == Verdict(seen_once)
    assert resolve(seen_once, 0, THEN) == Verdict(
        replace(look, open=None),
        replace(closed(look, PushState.VOID, "minute_window"), seen_empty_at=THEN),
    )


def test_a_minute_that_holds_something_else_is_for_a_person_and_looked_at_daily() -> None:
    look = opened(ONCE, state=PushState.UNKNOWN, seen_empty_at=NOON, not_before=THEN)
    message = "the minute 2026-11-20T12:00Z of api_calls for cus_ann holds 6, neither 0 nor our 7"

    verdict = resolve(look, 6, THEN)

    daily = opened(look, seen_empty_at=None, not_before=THEN + 24 * HOUR)
    stop = Stop("ambiguous_minute", message, THEN, None)
    assert verdict == Verdict(replace(daily, stopped=stop), alarm=message)
    assert resolve(verdict.stream, 7, THEN) == accepted(daily, "minute_window")


def test_before_its_first_attempt_a_push_is_fenced_by_when_it_was_planned() -> None:
    limited = opened(ONCE, first_attempt_at=None, last_attempt_at=None, not_before=None)

    assert next_step(limited, NOON + 23 * HOUR - MINUTE, closes_at=CLOSES_AT) is Step.SEND
    assert next_step(limited, NOON + 23 * HOUR, closes_at=CLOSES_AT) is Step.RESOLVE
