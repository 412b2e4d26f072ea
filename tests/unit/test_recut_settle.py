"""A counter's streams that were cut otherwise are found, and stored together or not at all."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from metering.counter import CounterKey, Usage, usage_of
from metering.mapping import Customer
from metering.names import CustomerRef, Metric, TenantId
from metering.period import BillingCalendar, Era, Span
from metering.push import (
    Carry,
    Held,
    Mode,
    Push,
    PushState,
    PushStream,
    Received,
    Stop,
    StreamKey,
    StreamKind,
    Target,
    close,
    plan,
    stamp,
)
from metering.recut import Recut
from tests.builders import an_entry
from tests.held_pushes import HeldPushes

ACME = TenantId("acme")
COUNTER = CounterKey(ACME, CustomerRef("ann"), Metric("calls"))
TARGET = Target("", Mode.TEST, "calls", "cus_ann")
START = datetime(2026, 11, 1, 9, 30, 7, tzinfo=UTC)
CUT = datetime(2026, 11, 20, 12, 0, 13, tzinfo=UTC)
NOW = CUT + timedelta(hours=5)
HOUR = timedelta(hours=1)
BEFORE = BillingCalendar((Era(START, START, subscription="sub"),))
AFTER = BEFORE.with_era(Era(CUT, CUT, subscription="sub"))
WHOLE = BEFORE.period_of(CUT)
FIRST, SECOND = AFTER.period_of(START), AFTER.period_of(CUT)
ANN = Customer(ACME, COUNTER.customer, "cus_ann", eras=AFTER.eras)


class Counted:
    """A counter whose newest usage in each period is known."""

    def __init__(self, newest: datetime | None = None, metric: str = "calls") -> None:
        self._newest = newest
        self._metric = Metric(metric)
        self.asked: list[Span] = []

    def usage(
        self, tenant: TenantId, customer: CustomerRef, span: Span
    ) -> dict[tuple[Metric, datetime], Usage]:
        assert (tenant, customer) == (ACME, COUNTER.customer)
        self.asked.append(span)
        usage = usage_of(an_entry(at=self._newest)) if self._newest else Usage()
        return {(self._metric, span.start): usage, (Metric("other"), span.start): usage_of(LATEST)}


LATEST = an_entry(at=CUT + timedelta(days=300))


def begin(period: Span, kind: StreamKind = StreamKind.DELTA) -> PushStream:
    return PushStream(StreamKey(TARGET, COUNTER, period), "mtr_1", scale=0, kind=kind)


def told(stream: PushStream, *steps: tuple[int, datetime]) -> tuple[PushStream, list[Push]]:
    """The stream after pushes that each brought it to a number at an instant."""
    pushes = []
    for desired, at in steps:
        planned = plan(stream, desired, at, at, closes_at=stream.key.period.end)
        assert isinstance(planned, PushStream), planned
        closed = close(stamp(planned, at), PushState.ACCEPTED, at, resolution="answered")
        stream = closed.stream
        pushes.append(closed.push)
    return replace(stream, version=1), pushes


OWN, PUSHES = told(begin(WHOLE), (5, CUT - HOUR), (8, CUT + HOUR))


def kept(own: PushStream = OWN, pushes: list[Push] = PUSHES, *others: PushStream) -> HeldPushes:
    held = HeldPushes(own, *others)
    held.pushes[own.key.id] = pushes
    return held


def settle(
    held: HeldPushes,
    own: PushStream = OWN,
    customer: Customer = ANN,
    counters: Counted | None = None,
    make: Callable[[Span], PushStream] = begin,
) -> Held | None:
    recut = Recut(held, counters or Counted(), NOW)  # type: ignore[arg-type]
    return recut.settle(own, customer, make)


def test_without_a_new_cut_there_is_nothing_to_do() -> None:
    held = kept()
    uncut = replace(ANN, eras=BEFORE.eras)

    assert settle(held, begin(WHOLE), uncut) is None
    assert settle(HeldPushes(), begin(WHOLE), uncut) is None
    assert held.together == []


def test_pushes_behind_a_new_cut_are_left_to_the_period_that_they_are_stamped_in() -> None:
    held = kept()

    assert settle(held) is Held.RECUT

    first, second = (change.stream for change in held.together)
    assert [change.customer for change in held.together] == [ANN, ANN]
    assert [change.closed for change in held.together] == [None, None]
    assert (first.key.period, first.accepted, first.ceded, first.ceded_from) == (
        FIRST,
        5,
        3,
        FIRST.end,
    )
    assert (second.key.period, second.accepted, second.received) == (
        SECOND,
        3,
        (Received(OWN.key.id, 3),),
    )
    assert first.accepted_at == second.accepted_at == NOW
    assert first.is_due
    assert second.is_due


def test_the_stream_that_begins_finds_what_it_is_to_take_over() -> None:
    held = kept()

    assert settle(held, begin(SECOND)) is Held.RECUT
    assert [change.stream.key.period for change in held.together] == [FIRST, SECOND]


def test_a_stream_between_two_cuts_that_takes_nothing_over_may_go_on() -> None:
    twice = AFTER.with_era(Era(CUT + 2 * HOUR, CUT + 2 * HOUR, subscription="sub"))
    own, pushes = told(begin(WHOLE), (5, CUT - HOUR), (9, CUT + 3 * HOUR))
    held = kept(own, pushes)

    assert settle(held, begin(twice.period_of(CUT)), replace(ANN, eras=twice.eras)) is None
    assert [change.stream.accepted for change in held.together] == [5, 4]


def test_who_comes_second_stores_nothing() -> None:
    held = kept()
    held.is_busy = True

    assert settle(held) is Held.PUSH_OPEN
    assert held.held[OWN.key.id].accepted == 8


@pytest.mark.parametrize(
    ("newest", "held"),
    [
        (None, Held.RECUT),
        (CUT - timedelta(microseconds=1), Held.RECUT),
        (CUT, Held.PERIOD_CHANGED),
    ],
)
def test_while_a_bucket_holds_usage_of_two_periods_nothing_is_moved(
    newest: datetime | None, held: Held
) -> None:
    counters = Counted(newest)

    assert settle(kept(), counters=counters) is held
    assert set(counters.asked) <= {FIRST, SECOND}
    assert settle(kept(), counters=Counted(newest, metric="another")) is Held.RECUT


@pytest.mark.parametrize(("is_claimed", "held"), [(True, Held.RECUT), (False, Held.PERIOD_CHANGED)])
def test_a_value_is_set_in_a_new_period_by_the_counter_that_may(
    is_claimed: bool,  # noqa: FBT001 (a parameter of pytest)
    held: Held,
) -> None:
    def make(period: Span) -> PushStream:
        return begin(period, StreamKind.LAST)

    own, pushes = told(make(WHOLE), (5, CUT - HOUR), (8, CUT + HOUR))
    store = kept(own, pushes)
    store.is_claimed = is_claimed

    assert settle(store, own, make=make) is held
    assert [one.key.period for one in store.claimed] == [SECOND]


def test_deltas_need_no_claim() -> None:
    held = kept()

    settle(held)

    assert held.claimed == []


def test_an_open_push_is_waited_for() -> None:
    planned = plan(OWN, 9, NOW, NOW, closes_at=WHOLE.end)
    assert isinstance(planned, PushStream)

    assert settle(kept(planned), planned) is Held.PUSH_OPEN


@pytest.mark.parametrize(
    ("other", "held"),
    [
        (TARGET._replace(customer="cus_former"), Held.PERIOD_CHANGED),
        (TARGET._replace(event_name="former"), Held.PERIOD_CHANGED),
    ],
)
def test_what_was_told_elsewhere_behind_the_cut_is_in_the_way(other: Target, held: Held) -> None:
    former = replace(OWN, key=OWN.key._replace(target=other))
    harmless = replace(former, accepted=0)
    for stream, expected in ((former, held), (harmless, Held.RECUT)):
        store = kept(OWN, PUSHES, stream)
        store.pushes[stream.key.id] = PUSHES

        assert settle(store) is expected


def test_a_former_life_of_the_store_is_apart_too() -> None:
    former = replace(OWN, key=OWN.key._replace(incarnation=1))
    store = kept(OWN, PUSHES, former)
    store.pushes[former.key.id] = PUSHES

    assert settle(store) is Held.PERIOD_CHANGED


def test_streams_of_a_meters_windows_are_not_mixed_with_those_of_others() -> None:
    hourly = replace(
        OWN, key=OWN.key._replace(hour=CUT.replace(minute=0, second=0)), kind=StreamKind.HOURLY
    )

    assert settle(kept(OWN, PUSHES, hourly)) is Held.RECUT


def test_streams_that_were_left_apart_by_several_cuts_are_all_found() -> None:
    """The push behind the second cut lies in a period that shares no time with the own one's."""
    twice = AFTER.with_era(Era(CUT + 2 * HOUR, CUT + 2 * HOUR, subscription="sub"))
    own, pushes = told(
        begin(WHOLE), (5, CUT - HOUR), (8, CUT + HOUR), (9, CUT + 3 * HOUR), (13, CUT + 4 * HOUR)
    )
    third = replace(begin(twice.period_of(NOW)), version=1, carried_in=(Carry(START, Decimal(1)),))
    second = replace(begin(twice.period_of(CUT)), version=1)
    store = kept(own, pushes, second, third)

    assert settle(store, own, replace(ANN, eras=twice.eras)) is Held.RECUT

    after = {change.stream.key.period.start: change.stream for change in store.together}
    assert [one.accepted for one in after.values()] == [5, 3, 5]
    assert after[CUT + 2 * HOUR].carried_in == third.carried_in


def test_a_stream_whose_period_is_gone_with_nothing_in_it_is_left_behind() -> None:
    gone = replace(begin(Span(CUT + HOUR, WHOLE.end)), version=1)
    needy = replace(gone, stopped=Stop("refused", "m", NOW, NOW + HOUR))
    idle, busy = kept(gone, []), kept(needy, [])

    assert settle(idle, gone) is Held.RECUT
    assert settle(busy, needy) is Held.RECUT
    assert settle(kept(gone, []), replace(gone, version=0)) is None

    assert idle.held[gone.key.id] == gone
    assert busy.held[gone.key.id] == replace(gone, version=2)
