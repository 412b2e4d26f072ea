"""What a person decides about a push that nobody else can judge."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from metering.counter import CounterKey
from metering.decisions import Decision, Decisions, decide, is_for_a_person
from metering.errors import ConflictError, NotFoundError, RetryableError
from metering.names import CustomerRef, Metric, TenantId
from metering.period import CALENDAR_MONTHS
from metering.ports import Change
from metering.push import (
    Mode,
    PushState,
    PushStream,
    Stop,
    StreamKey,
    Target,
    plan,
    stamp,
)
from tests.conftest import SetClock
from tests.held_pushes import HeldPushes

ACME, OTHER = TenantId("acme"), TenantId("other")
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
THEN = NOON + timedelta(days=2)
NOVEMBER = CALENDAR_MONTHS.period_of(NOON)
FOR_A_PERSON = Stop("ambiguous_minute", "m", NOON, None)
FOR_A_WHILE = Stop("refused", "m", NOON, THEN)


def a_stream(customer: str = "ann", tenant: TenantId = ACME) -> PushStream:
    target = Target("", Mode.TEST, "calls", f"cus_{customer}")
    counter = CounterKey(tenant, CustomerRef(customer), Metric("calls"))
    return PushStream(StreamKey(target, counter, NOVEMBER), "mtr_1", scale=0, accepted=3)


def an_open_one() -> PushStream:
    planned = plan(a_stream(), 10, NOON, NOON, closes_at=NOVEMBER.end)
    assert isinstance(planned, PushStream)
    return replace(stamp(planned, NOON), stopped=FOR_A_PERSON)


def test_only_a_stop_without_an_end_is_for_a_person() -> None:
    stops = [None, FOR_A_WHILE, FOR_A_PERSON]

    assert [is_for_a_person(replace(a_stream(), stopped=stop)) for stop in stops] == [
        False,
        False,
        True,
    ]


@pytest.mark.parametrize(
    ("decision", "state", "accepted", "accepted_at"),
    [
        (Decision.COUNTED, PushState.ACCEPTED, 10, THEN),
        (Decision.NOT_COUNTED, PushState.VOID, 3, None),
    ],
)
def test_a_push_is_closed_as_the_person_says(
    decision: Decision, state: PushState, accepted: int, accepted_at: datetime | None
) -> None:
    stream = an_open_one()
    assert stream.open is not None

    change = decide(stream, decision, THEN, by="api:ann")

    assert change.stream == replace(
        stream, open=None, stopped=None, is_due=True, accepted=accepted, accepted_at=accepted_at
    )
    assert change.closed == replace(
        stream.open,
        state=state,
        closed_at=THEN,
        resolution="decided_by:api:ann",
        not_before=None,
    )


def test_a_stop_without_a_push_is_only_lifted() -> None:
    stream = replace(a_stream(), stopped=FOR_A_PERSON)

    assert decide(stream, Decision.COUNTED, THEN, by="b") == Change(
        replace(stream, stopped=None, is_due=True)
    )


def test_a_decision_is_stored_with_the_push_that_it_closes() -> None:
    stream, pushes = an_open_one(), HeldPushes(an_open_one())

    stored = Decisions(pushes, SetClock(THEN)).take(ACME, stream.key.id, Decision.COUNTED, by="b")  # type: ignore[arg-type]

    assert (stored.accepted, stored.stopped, stored.version) == (10, None, 2)
    (closed,) = pushes.closed
    assert (closed.resolution, closed.closed_at) == ("decided_by:b", THEN)
    assert pushes.held[stream.key.id] == stored


def test_a_tenants_streams_in_need_are_told_by_id() -> None:
    streams = [a_stream("ann"), a_stream("bob"), a_stream("cyd"), a_stream("dan", OTHER)]

    waiting = Decisions(HeldPushes(*streams), SetClock(NOON)).waiting(ACME)  # type: ignore[arg-type]

    ids = [one.key.id for one in waiting]
    assert ids == sorted(one.key.id for one in streams[:3])


def test_what_cannot_be_decided_says_why() -> None:
    waiting = replace(a_stream(), stopped=FOR_A_WHILE)
    pushes = HeldPushes(waiting, an_open_one())
    pushes.held[waiting.key.id] = waiting
    decisions = Decisions(pushes, SetClock(NOON))  # type: ignore[arg-type]

    with pytest.raises(NotFoundError, match=r"^no stream x has an open push or a stop$"):
        decisions.take(ACME, "x", Decision.COUNTED, by="b")
    with pytest.raises(NotFoundError):
        decisions.take(OTHER, waiting.key.id, Decision.COUNTED, by="b")
    with pytest.raises(ConflictError, match="does not wait for a person: the writer goes on with"):
        decisions.take(ACME, waiting.key.id, Decision.COUNTED, by="b")


def test_who_comes_second_is_told_to_look_again() -> None:
    stream, pushes = an_open_one(), HeldPushes(an_open_one())
    pushes.is_busy = True

    with pytest.raises(RetryableError, match="was changed at the same time; look again"):
        Decisions(pushes, SetClock(NOON)).take(ACME, stream.key.id, Decision.COUNTED, by="b")  # type: ignore[arg-type]
