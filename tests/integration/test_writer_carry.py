"""Usage that is counted after its period was closed: told once, where the tenant's policy says."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from threading import Thread
from typing import Any

import pytest

from metering.adapters.dynamodb import counters
from metering.errors import RetryableError
from metering.names import Metric
from metering.period import CALENDAR_MONTHS, DAY, NEVER, Era, Span
from metering.period_close import PeriodClose, PeriodState
from metering.ports import Cursor, Pushes, WriterDesk
from metering.push import Carry, PushStream
from metering.tenant_settings import AfterClose, TenantSettings
from tests.billing_world import (
    HOUR,
    MINUTE,
    NOVEMBER,
    BillingWorld,
    Doom,
    connected,
    crash_a_writer,
)
from tests.builders import DEMO, a_counter, a_subscriber, an_entry
from tests.faults import FaultyClient, KilledError

DECEMBER = CALENDAR_MONTHS.period_of(NOVEMBER.end)
JANUARY = CALENDAR_MONTHS.period_of(DECEMBER.end)
LATE = NOVEMBER.end - MINUTE
TOLD_LATE = NOVEMBER.end + 12 * HOUR


@pytest.fixture
def mapped(billing: BillingWorld) -> BillingWorld:
    """`api_calls` goes to a meter in whole units; `cus_A` exists at Stripe."""
    billing.map()
    billing.stand_in.add_customers(["cus_A"])
    return billing


@pytest.fixture
def closed(mapped: BillingWorld) -> BillingWorld:
    """November was told 10 and is closed; it is the first of December, noon."""
    mapped.use("10")
    mapped.write()
    mapped.set_time(TOLD_LATE)
    return mapped


def use_late(world: BillingWorld, quantity: str) -> None:
    world.use_all([an_entry(quantity, at=LATE, received_at=world.clock.now())])


def settle(world: BillingWorld) -> None:
    """What is carried is told by the next run."""
    world.write()
    world.advance(MINUTE)
    world.write_until_settled()


def the_writer_looked_at_everything(world: BillingWorld) -> None:
    desk, now = world.wiring.writer_desk, world.clock.now()
    fence = desk.take_lease("former", now, now)
    assert fence is not None
    assert desk.move_cursor(Cursor(now, now), fence)


def streams(world: BillingWorld, period: Span) -> list[PushStream]:
    return world.wiring.pushes.streams(a_counter(), period)


def test_usage_after_the_close_is_told_in_the_period_that_is_open(closed: BillingWorld) -> None:
    use_late(closed, "5")
    closed.use("100")

    assert closed.write()["carried"] == 1
    closed.advance(MINUTE)
    closed.write_until_settled()

    november, december = closed.stream(), closed.stream(period=DECEMBER)
    assert (november.accepted, november.carried_out) == (10, Decimal(5))
    assert (december.accepted, december.carried_in) == (105, (Carry(NOVEMBER.start, Decimal(5)),))
    assert closed.told_in(NOVEMBER) == 10
    assert closed.told_in(DECEMBER) == 105
    assert closed.wiring.pushes.in_need() == []


def test_a_customer_that_uses_nothing_any_more_is_told_what_was_carried(
    closed: BillingWorld,
) -> None:
    late = an_entry("5", at=NOVEMBER.end - 24 * HOUR, received_at=closed.clock.now())
    closed.use_all([late])
    settle(closed)

    assert closed.told_in(DECEMBER) == 5


@pytest.mark.parametrize("read_at_once", [500, 1])
def test_what_came_late_while_the_writer_was_away_is_found_when_it_is_back(
    closed: BillingWorld, monkeypatch: pytest.MonkeyPatch, read_at_once: int
) -> None:
    monkeypatch.setattr(counters, "PARTS_MAX", read_at_once)
    closed.set_time(NOVEMBER.end + 9 * DAY)  # No sweep sees November any more.
    the_writer_looked_at_everything(closed)
    for quantity in ("5", "2", "1"):
        closed.advance(HOUR)
        use_late(closed, quantity)
    closed.advance(7 * HOUR)

    for _ in range(3):
        closed.write()
        closed.advance(MINUTE)
    settle(closed)

    assert closed.told_in(DECEMBER) == 8
    assert closed.wiring.readiness.now().writer_lag == timedelta(0)


def test_what_came_late_before_the_first_whole_run_is_found(mapped: BillingWorld) -> None:
    mapped.set_time(NOVEMBER.end + 9 * DAY)  # No sweep sees November any more.
    use_late(mapped, "5")
    mapped.advance(HOUR)  # Whatever ran in it died before it came to its end.

    settle(mapped)

    assert mapped.told_in(DECEMBER) == 5


def test_what_a_run_that_died_could_not_carry_is_found(closed: BillingWorld) -> None:
    closed.set_time(NOVEMBER.end + 9 * DAY)  # No sweep sees November any more.
    the_writer_looked_at_everything(closed)
    use_late(closed, "5")
    closed.advance(HOUR)

    run = connected(closed.wiring, closed.stand_in)
    run.pushes = NoTransactions(run.pushes)
    run.writer_desk = LastDesk(run.writer_desk)
    with pytest.raises(KilledError):
        run.writer.run("doomed", lambda: timedelta(seconds=55))
    closed.advance(MINUTE)
    settle(closed)

    assert closed.told_in(DECEMBER) == 5


class NoTransactions:
    """A store of pushes that cannot store two of them together now."""

    def __init__(self, pushes: Pushes) -> None:
        self._pushes = pushes

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pushes, name)

    def store_together(self, changes: object) -> None:
        raise RetryableError("DynamoDB cannot answer now")


class LastDesk:
    """The desk of a run that dies once it has noted how far it came."""

    def __init__(self, desk: WriterDesk) -> None:
        self._desk = desk

    def __getattr__(self, name: str) -> Any:
        return getattr(self._desk, name)

    def move_cursor(self, cursor: Cursor, fence: int) -> bool:
        self._desk.move_cursor(cursor, fence)
        raise KilledError


def test_a_carry_grows_while_its_period_is_open_and_goes_on_in_the_next(
    closed: BillingWorld,
) -> None:
    use_late(closed, "5")
    settle(closed)
    use_late(closed, "2")
    settle(closed)
    assert closed.stream(period=DECEMBER).carried_in == (Carry(NOVEMBER.start, Decimal(7)),)

    closed.set_time(JANUARY.start + 12 * HOUR)
    use_late(closed, "1")
    settle(closed)

    assert closed.stream().carried_out == 8
    assert closed.stream(period=DECEMBER).carried_in == (Carry(NOVEMBER.start, Decimal(7)),)
    assert closed.stream(period=JANUARY).carried_in == (Carry(NOVEMBER.start, Decimal(1)),)
    told = [closed.told_in(period) for period in (NOVEMBER, DECEMBER, JANUARY)]
    assert told == [10, 7, 1]


def test_usage_that_is_taken_back_after_the_close_lowers_the_open_period(
    closed: BillingWorld,
) -> None:
    closed.use("100")
    use_late(closed, "-4")
    settle(closed)

    assert closed.stream(period=DECEMBER).carried_in == (Carry(NOVEMBER.start, Decimal(-4)),)
    assert closed.told_in(DECEMBER) == 96


def test_what_is_carried_and_taken_back_leaves_no_line(closed: BillingWorld) -> None:
    use_late(closed, "4")
    settle(closed)
    use_late(closed, "-4")
    settle(closed)

    assert closed.stream(period=DECEMBER).carried_in == ()
    assert closed.stream().carried_out == 0
    assert closed.told_in(DECEMBER) == 0


def test_a_remainder_of_a_closed_period_is_not_carried(billing: BillingWorld) -> None:
    billing.map()
    billing.stand_in.add_customers(["cus_A"])
    billing.use("10.7")
    billing.write()
    billing.set_time(TOLD_LATE)
    use_late(billing, "0.2")
    settle(billing)
    assert billing.stream().carried_out == 0

    use_late(billing, "0.1")
    settle(billing)

    assert billing.stream().carried_out == 1
    assert billing.told_in(DECEMBER) == 1


def test_a_period_that_was_never_told_at_all_is_carried(mapped: BillingWorld) -> None:
    mapped.use("5")
    mapped.set_time(TOLD_LATE)  # no writer ran since
    settle(mapped)

    assert (mapped.stream().accepted, mapped.stream().carried_out) == (0, Decimal(5))
    assert mapped.told_in(NOVEMBER) == 0
    assert mapped.told_in(DECEMBER) == 5


def test_a_period_that_closed_before_its_metric_was_mapped_is_not_carried(
    billing: BillingWorld,
) -> None:
    billing.use("5")
    billing.set_time(TOLD_LATE)
    billing.map()
    billing.stand_in.add_customers(["cus_A"])

    assert billing.write()["held"] == {"before_mapping": 1}
    assert billing.told() == 0


def test_what_a_push_lost_with_its_period_is_carried(mapped: BillingWorld) -> None:
    mapped.use("10", customer="cus_missing")
    mapped.write()  # Stripe refuses it
    mapped.stand_in.add_customers(["cus_missing"])
    mapped.set_time(TOLD_LATE)
    settle(mapped)

    (november,) = mapped.wiring.pushes.streams(a_counter("cus_missing"), NOVEMBER)
    assert (november.accepted, november.carried_out) == (0, Decimal(10))
    assert november.stopped is None
    assert mapped.told_in(DECEMBER, "cus_missing") == 10


def test_a_period_whose_invoice_is_held_still_takes_its_usage(closed: BillingWorld) -> None:
    customer = a_counter().customer
    held = PeriodClose(
        DEMO,
        customer,
        NOVEMBER,
        PeriodState.CLOSING,
        NOVEMBER.end,
        finalizes_at=NEVER,  # Stripe has said so.
        invoice="in_1",
        is_held=True,
    )
    assert closed.wiring.period_closes.store(held) is not None
    use_late(closed, "5")
    settle(closed)

    assert closed.told_in(NOVEMBER) == 15
    assert closed.stream().carried_out == 0


def test_a_period_whose_invoice_is_final_takes_none_however_young_it_is(
    mapped: BillingWorld,
) -> None:
    now = NOVEMBER.end + 10 * MINUTE
    mapped.set_time(now)
    final = PeriodClose(
        DEMO, a_counter().customer, NOVEMBER, PeriodState.CLOSED, NOVEMBER.end, closed_at=now
    )
    assert mapped.wiring.period_closes.store(final) is not None
    use_late(mapped, "5")
    settle(mapped)

    assert mapped.told_in(NOVEMBER) == 0
    assert mapped.told_in(DECEMBER) == 5


@pytest.mark.parametrize("policy", [AfterClose.UNBILLED, AfterClose.INVOICE_ITEM])
def test_where_the_tenant_decides_so_nothing_is_carried(
    closed: BillingWorld, policy: AfterClose
) -> None:
    closed.wiring.settings_store.put_tenant(TenantSettings(DEMO, after_close=policy))
    use_late(closed, "5")

    run = closed.write()

    assert (run["held"], run["carried"]) == ({"late_after_close": 1}, 0)
    assert closed.told() == 10
    assert streams(closed, DECEMBER) == []


def test_usage_told_to_a_former_meter_is_not_carried_again(closed: BillingWorld) -> None:
    former = closed.wiring.settings.active_mapping(DEMO, Metric("api_calls"))
    assert former is not None
    closed.wiring.settings_store.delete_mapping(former)
    closed.map(event_name="api_calls_v2")
    use_late(closed, "5")
    settle(closed)

    assert closed.told(metric="api_calls_v2") == 5
    assert closed.told() == 10


# --- once only ------------------------------------------------------------------------------------


def test_a_writer_killed_at_any_call_carries_nothing_twice(closed: BillingWorld) -> None:
    used = 0
    for at in range(1, 60):
        used += at
        use_late(closed, str(at))
        doom = Doom(at, after=True)  # before a call is after the one before
        crash_a_writer(closed, doom)
        closed.advance(2 * MINUTE)
        settle(closed)
        assert closed.told_in(DECEMBER) == used, f"killed at call {at}"
        assert closed.stream().carried_out == used
        if not doom.struck:
            break

    assert at > 10
    assert not doom.struck


def test_two_writers_at_once_carry_nothing_twice(closed: BillingWorld) -> None:
    use_late(closed, "5")
    closed.use("1")
    now = closed.clock.now()
    lone = [connected(closed.wiring, closed.stand_in) for _ in range(2)]
    for wired in lone:
        wired.writer_desk = NoDesk()
    threads = [
        Thread(target=wired.writer.run, args=("twin", lambda: timedelta(seconds=55)))
        for wired in lone
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    closed.set_time(now + 2 * MINUTE)
    settle(closed)

    assert closed.stream().carried_out == 5
    assert closed.told_in(DECEMBER) == 6


class NoDesk:
    """A desk at which every writer may work at once."""

    def take_lease(self, owner: str, now: datetime, until: datetime) -> int:
        return 1

    def end_lease(self, fence: int) -> None: ...

    def cursor(self) -> None:
        return None

    def move_cursor(self, cursor: object, fence: int) -> bool:
        return True


def test_two_streams_that_belong_together_are_stored_both_or_neither(closed: BillingWorld) -> None:
    closed.use("1")
    closed.write_until_settled()
    november, december = closed.stream(), closed.stream(period=DECEMBER)
    pushes = closed.wiring.pushes
    stale = replace(december, version=december.version - 1)

    from metering.ports import Change  # noqa: PLC0415

    carried = replace(november, carried_out=Decimal(5))
    assert pushes.store_together([Change(carried), Change(stale)]) is None
    assert closed.stream() == november
    stored = pushes.store_together([Change(carried), Change(replace(december, is_due=True))])
    assert stored is not None
    assert [closed.stream(), closed.stream(period=DECEMBER)] == stored


def test_a_carry_costs_one_transaction_more(closed: BillingWorld) -> None:
    use_late(closed, "5")
    faulty = FaultyClient(closed.wiring.dynamodb)
    counted = connected(closed.wiring, closed.stand_in)
    counted.__dict__["dynamodb"] = faulty.client

    run = counted.writer.run("counted", lambda: timedelta(seconds=55))

    assert run["carried"] == 1
    # The carry; the commit of the push that tells it, which is another stream's by now.
    assert faulty.calls.count("transact_write_items") == 2
    assert closed.told_in(DECEMBER) == 5


# --- calendars ------------------------------------------------------------------------------------


CUT = datetime(2026, 11, 21, 8, tzinfo=UTC)


def cut_november(world: BillingWorld) -> None:
    """A subscription begins in the middle of a calendar month, which ends there."""
    subscriber = a_subscriber("cus_A", CUT)
    cut = replace(subscriber, eras=(Era(CUT, CUT, subscription="sub_1"),))
    world.wiring.settings_store.put_customer(cut)


def test_a_stream_whose_period_was_shortened_is_told_as_the_period_it_is_now(
    mapped: BillingWorld,
) -> None:
    mapped.use("10")
    mapped.write()
    mapped.set_time(CUT + HOUR)
    cut_november(mapped)
    mapped.use("1")

    assert mapped.write()["held"] == {}
    settle(mapped)
    assert mapped.told() == 11
    november = mapped.stream()
    assert (november.accepted, november.key.period.end) == (10, CUT)
    assert mapped.stream(period=Span(CUT, CUT)).accepted == 1
    assert mapped.wiring.pushes.in_need() == []


def test_usage_that_was_told_behind_the_new_end_of_a_period_waits_for_its_counter(
    mapped: BillingWorld,
) -> None:
    """While the counters are not rebuilt nobody can say what is left to tell of each period."""
    mapped.set_time(CUT + HOUR)
    mapped.use("10")
    mapped.write()
    cut_november(mapped)
    mapped.use("1")

    assert mapped.write()["held"] == {"period_changed": 2}
    assert mapped.told() == 10


def test_late_usage_of_a_shortened_period_is_carried_into_the_one_that_took_its_place(
    mapped: BillingWorld,
) -> None:
    mapped.use("10")
    mapped.write()
    mapped.set_time(CUT + 2 * HOUR)
    cut_november(mapped)
    mapped.use_all([an_entry("5", at=CUT - HOUR, received_at=mapped.clock.now())])
    mapped.write()  # The stream takes on its shorter period.
    settle(mapped)

    assert mapped.stream().carried_out == 5
    assert mapped.stream(period=Span(CUT, CUT)).accepted == 5
    assert mapped.told() == 15
