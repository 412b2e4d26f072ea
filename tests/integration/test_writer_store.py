"""Streams, pushes, pauses and the writer's desk in DynamoDB Local."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from metering.counter import CounterKey
from metering.mapping import Customer
from metering.minutes import Gap, Minutes
from metering.names import CustomerRef, Metric, TenantId
from metering.period import Span
from metering.ports import Change, Cursor, Pass
from metering.push import (
    Carry,
    Mode,
    PushState,
    PushStream,
    Stop,
    StreamKey,
    StreamKind,
    Target,
    close,
    stamp,
)
from metering.wiring import Wiring
from tests.builders import DEMO, NOON, a_counter, monthly
from tests.faults import FaultyClient
from tests.push_steps import plan

NOVEMBER = Span(datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC))
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


def a_stream(counter: CounterKey | None = None, period: Span = NOVEMBER) -> PushStream:
    target = Target("acct_1", Mode.TEST, "api_calls", "cus_A")
    return PushStream(StreamKey(target, counter or a_counter(), period), "mtr_1", scale=2)


def sent(stream: PushStream, desired: int = 10) -> PushStream:
    planned = plan(stream, desired, NOON, NOON)
    assert isinstance(planned, PushStream)
    return stamp(planned, NOON)


def stored(wiring: Wiring, stream: PushStream) -> PushStream:
    result = wiring.pushes.store(stream)
    assert result is not None
    return result


def test_a_stream_comes_back_as_it_was_stored_whatever_it_holds(wiring: Wiring) -> None:
    stop = Stop("refused", "No such customer", NOON, NOON + HOUR)
    begun = a_stream()
    target = begun.key.target._replace(subscription_item="si_1")
    stream = replace(
        sent(replace(begun, key=begun.key._replace(target=target, hour=NOON))),
        kind=StreamKind.HOURLY,
        carried_in=(
            Carry(NOVEMBER.start, Decimal("-1.5")),
            Carry(NOON, Decimal("12345678901234.123457")),
        ),
        carried_out=Decimal("0.000000000001"),
        counted_seq=7,
        is_due=True,
        accepted=-5,
        accepted_at=NOON,
        stopped=stop,
        minutes=Minutes((Gap(0, 5), Gap(7, 9))),
    )

    kept = stored(wiring, stream)

    assert wiring.pushes.streams(a_counter(), NOVEMBER) == [kept]
    assert kept == replace(stream, version=1, is_listed=True)


def test_of_two_who_change_a_stream_at_once_the_second_is_told(wiring: Wiring) -> None:
    before = stored(wiring, sent(a_stream()))
    answered = close(before, PushState.ACCEPTED, NOON, resolution="answered")

    assert wiring.pushes.store(*answered) is not None
    assert wiring.pushes.store(stamp(before, NOON + MINUTE)) is None
    assert wiring.pushes.store(*answered) is None
    (stream,) = wiring.pushes.streams(a_counter(), NOVEMBER)
    assert (stream.accepted, stream.open, stream.version) == (10, None, 2)


def test_of_two_who_begin_a_stream_at_once_the_second_is_told(wiring: Wiring) -> None:
    assert wiring.pushes.store(sent(a_stream(), 10)) is not None
    assert wiring.pushes.store(sent(a_stream(), 11)) is None


def test_a_stream_is_in_need_while_it_has_an_open_push_or_a_stop(wiring: Wiring) -> None:
    opened = stored(wiring, sent(a_stream()))
    assert wiring.pushes.in_need() == [opened]

    closed = close(opened, PushState.REJECTED, NOON, resolution="answered")
    stop = Stop("refused", "No such customer", NOON, None)
    stopped = wiring.pushes.store(replace(closed.stream, stopped=stop), closed.push)
    assert stopped is not None
    assert wiring.pushes.in_need() == [stopped]

    stored(wiring, replace(stopped, stopped=None))
    assert wiring.pushes.in_need() == []


def test_for_one_tenant_no_stream_of_another_is_read(wiring: Wiring) -> None:
    ours = stored(wiring, sent(a_stream()))
    stored(wiring, sent(a_stream(a_counter()._replace(tenant=TenantId("demo-2")))))
    faulty = FaultyClient(wiring.dynamodb)
    counted = Wiring(wiring.config, clock=wiring.clock, dynamodb=faulty.client)

    assert counted.pushes.in_need(DEMO) == [ours]
    assert counted.pushes.in_need(TenantId("dem")) == []
    assert faulty.calls.count("batch_get_item") == 1
    assert len(wiring.pushes.in_need()) == 2


def test_a_hundred_and_more_streams_in_need_are_all_found(wiring: Wiring) -> None:
    for number in range(120):
        stored(wiring, sent(a_stream(a_counter(f"cus_{number}"))))

    assert len(wiring.pushes.in_need()) == 120


def test_the_history_holds_every_push_in_order_with_the_open_one_last(wiring: Wiring) -> None:
    stream = a_stream()
    for desired in range(1, 12):
        opened = stored(wiring, sent(stream, desired))
        closed = close(opened, PushState.ACCEPTED, NOON, resolution="answered")
        after = wiring.pushes.store(*closed)
        assert after is not None
        stream = after
    stream = stored(wiring, sent(stream, 99))

    (history,) = wiring.pushes.of_period(a_counter(), NOVEMBER)

    assert history.stream == stream
    assert [push.seq for push in history.pushes] == list(range(1, 13))
    assert history.pushes[-1].state is PushState.SENT


def test_counters_and_periods_keep_their_streams_apart(wiring: Wiring) -> None:
    december = Span(NOVEMBER.end, datetime(2027, 1, 1, tzinfo=UTC))
    stored(wiring, sent(a_stream()))
    stored(wiring, sent(a_stream(a_counter("cus_AB"))))
    stored(wiring, a_stream(period=december))

    assert len(wiring.pushes.streams(a_counter(), NOVEMBER)) == 1
    assert wiring.pushes.streams(a_counter("cus_B"), NOVEMBER) == []
    assert len(list(wiring.pushes.of_month(DEMO, "2026-11"))) == 2
    assert len(list(wiring.pushes.of_month(DEMO, "2026-12"))) == 1


@pytest.mark.parametrize(
    ("period", "overlaps"),
    [
        (NOVEMBER, False),  # its own period is no other cut
        (Span(NOON - timedelta(days=30), NOON), True),
        (Span(NOON, NOON + timedelta(days=30)), True),
        (Span(NOVEMBER.start - timedelta(days=31), NOVEMBER.start), False),
        (Span(NOVEMBER.end, NOVEMBER.end + timedelta(days=31)), False),
        (Span(NOON - timedelta(days=3 * 365), NOON), True),  # the longest that Stripe bills
    ],
)
def test_streams_under_another_cut_of_periods_are_found(
    wiring: Wiring,
    period: Span,
    overlaps: bool,  # noqa: FBT001 (a parameter of pytest)
) -> None:
    stored(wiring, a_stream(period=period))

    assert bool(wiring.pushes.overlapping(a_counter(), NOVEMBER)) is overlaps


def test_streams_of_a_short_period_are_found_by_a_long_one(wiring: Wiring) -> None:
    short = Span(NOON, NOON + timedelta(days=7))
    year = Span(NOON - timedelta(days=300), NOON + timedelta(days=65))
    stored(wiring, a_stream(period=short))

    assert wiring.pushes.overlapping(a_counter(), year)


def test_the_hours_of_a_period_are_found_with_it(wiring: Wiring) -> None:
    begun = a_stream()
    hours = [replace(begun, key=begun.key._replace(hour=NOON + n * HOUR)) for n in range(3)]
    for hour in hours:
        stored(wiring, hour)

    found = wiring.pushes.streams(a_counter(), NOVEMBER)

    assert {one.key.hour for one in found} == {one.key.hour for one in hours}
    assert (
        len(wiring.pushes.of_customer(DEMO, CustomerRef("cus_A"), NOVEMBER)[Metric("api_calls")])
        == 3
    )


def test_each_life_of_the_store_has_the_next_number(wiring: Wiring) -> None:
    assert wiring.pushes.incarnation() == 0
    assert [wiring.pushes.raise_incarnation() for _ in range(2)] == [1, 2]
    assert wiring.pushes.incarnation() == 2


def test_a_customers_streams_of_a_period_are_read_at_once(wiring: Wiring) -> None:
    december = Span(NOVEMBER.end, datetime(2027, 1, 1, tzinfo=UTC))
    calls = stored(wiring, sent(a_stream()))
    bytes_ = stored(wiring, a_stream(a_counter(metric="egress_bytes")))
    stored(wiring, a_stream(period=december))
    stored(wiring, a_stream(a_counter("cus_B")))

    found = wiring.pushes.of_customer(DEMO, CustomerRef("cus_A"), NOVEMBER)

    assert found == {"api_calls": [calls], "egress_bytes": [bytes_]}
    assert wiring.pushes.streams(a_counter(), NOVEMBER) == [calls]


# --- many at once ---------------------------------------------------------------------------------


def customer(ref: str = "cus_A", recuts: int = 0) -> Customer:
    return Customer(DEMO, CustomerRef(ref), "cus_A", recuts=recuts)


def test_many_streams_are_stored_by_one_call_each_with_all_that_belongs_to_it(
    wiring: Wiring,
) -> None:
    opened = [sent(a_stream(a_counter(f"cus_{number}"))) for number in range(60)]
    begun = wiring.pushes.store_all([Change(one, customer=customer()) for one in opened])
    streams = [one for one in begun if one is not None]

    assert len(wiring.pushes.in_need()) == 60
    faulty = FaultyClient(wiring.dynamodb)
    counted = Wiring(wiring.config, clock=wiring.clock, dynamodb=faulty.client)
    closed = [close(one, PushState.ACCEPTED, NOON, resolution="answered") for one in streams]
    kept = counted.pushes.store_all([Change(*one) for one in closed])

    assert faulty.calls == ["transact_write_items"] * 3
    assert wiring.pushes.in_need() == []
    assert {one.accepted for one in kept if one} == {10}
    assert [len(wiring.pushes.history(one)) for one in kept if one] == [1] * 60


def test_of_many_streams_one_that_somebody_else_has_stored_leaves_the_others_alone(
    wiring: Wiring,
) -> None:
    streams = [sent(a_stream(a_counter(f"cus_{number}"))) for number in range(3)]
    theirs = stored(wiring, sent(a_stream(a_counter("cus_1")), 99))

    first, second, third = wiring.pushes.store_all([Change(one) for one in streams])

    assert (first and first.version, second, third and third.version) == (1, None, 1)
    assert wiring.pushes.streams(a_counter("cus_1"), NOVEMBER) == [theirs]


@pytest.mark.parametrize(
    ("known", "begins"),
    [(0, [True, False, True]), (1, [True, True, True])],
    ids=["known as it was", "known as it is"],
)
def test_a_stream_begins_only_under_the_calendar_that_cut_its_period(
    wiring: Wiring,
    known: int,
    begins: list[bool],
) -> None:
    ann = customer("ann")
    wiring.settings_store.put_customer(ann)
    wiring.settings_store.put_customer(replace(ann, eras=monthly(NOON)))
    changes = [
        Change(sent(a_stream(a_counter("cus_A"))), customer=customer()),  # nobody set it up
        Change(sent(a_stream(a_counter("ann"))), customer=replace(ann, recuts=known)),
        Change(sent(a_stream(a_counter("cus_B")))),
    ]

    outcomes = wiring.pushes.store_all(changes)

    assert [one is not None for one in outcomes] == begins


def test_names_as_long_as_they_may_be_are_kept(wiring: Wiring) -> None:
    counter = a_counter("\U0001f600" * 255, "\U0001f600" * 100)

    kept = stored(wiring, sent(a_stream(counter)))

    assert wiring.pushes.streams(counter, NOVEMBER) == [kept]
    assert kept.key.counter.customer == CustomerRef("\U0001f600" * 255)


def test_a_pause_is_of_one_account_and_mode(wiring: Wiring) -> None:
    wiring.pushes.pause("acct_1", Mode.LIVE, NOON, "401")

    assert wiring.pushes.paused_until("acct_1", Mode.LIVE) == NOON
    assert wiring.pushes.paused_until("acct_1", Mode.TEST) is None
    assert wiring.pushes.paused_until("", Mode.LIVE) is None


# --- the desk -------------------------------------------------------------------------------------


def test_a_lease_is_one_writers_until_it_ends(wiring: Wiring) -> None:
    desk = wiring.writer_desk

    assert desk.take_lease("one", NOON, NOON + MINUTE) == 1
    assert desk.take_lease("two", NOON + MINUTE / 2, NOON + HOUR) is None
    assert desk.take_lease("two", NOON + MINUTE, NOON + HOUR) == 2
    desk.end_lease(1)  # not its own any more: changes nothing
    assert desk.take_lease("one", NOON + 2 * MINUTE, NOON + HOUR) is None
    desk.end_lease(2)
    assert desk.take_lease("one", NOON + 2 * MINUTE, NOON + HOUR) == 3


@pytest.mark.parametrize("must_return", [False, True])
def test_the_cursor_moves_only_under_the_lease(wiring: Wiring, *, must_return: bool) -> None:
    desk = wiring.writer_desk
    first = desk.take_lease("one", NOON, NOON + MINUTE)
    assert first is not None
    cursor = Cursor(
        NOON, NOON - HOUR, Pass(NOON, is_sweep=True, after="cus_A", must_return=must_return)
    )

    assert desk.cursor() is None
    assert desk.move_cursor(cursor, first)
    assert desk.cursor() == cursor

    desk.take_lease("two", NOON + MINUTE, NOON + HOUR)
    assert not desk.move_cursor(Cursor(NOON, NOON), first)
    assert desk.cursor() == cursor
