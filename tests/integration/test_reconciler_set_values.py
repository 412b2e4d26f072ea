"""Values that Stripe takes and drops afterwards are set again: last values and windows'."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from decimal import Decimal

import pytest

from metering.counter import Aggregation
from metering.names import Metric
from metering.period_close import PeriodClose, PeriodState
from metering.push import Push, PushState
from metering.reconciliation import Cause, Row, Status
from metering.stripe_event import read_event
from tests.billing_world import HOUR, MINUTE, NOVEMBER, BillingWorld
from tests.builders import DEMO, NOON, a_counter
from tests.stripe_events import a_thin_event

LAG = timedelta(minutes=31)
DROPPED, TAKEN = PushState.ASYNC_REJECTED, PushState.ACCEPTED


@pytest.fixture
def seats(billing: BillingWorld) -> BillingWorld:
    """`api_calls` is a gauge on a `last` meter, which holds 5 since an hour ago."""
    billing.map(aggregation=Aggregation.LAST)
    return told(billing, "5")


@pytest.fixture
def hourly(billing: BillingWorld) -> BillingWorld:
    """`api_calls` goes to a meter that keeps the newest event of each hour: 5 for the day."""
    billing.map(window="hour")
    return told(billing, "5")


def told(world: BillingWorld, quantity: str) -> BillingWorld:
    world.stand_in.add_customers(["cus_A"])
    world.use(quantity)
    world.write()
    world.advance(HOUR)
    return world


@contextmanager
def archived(world: BillingWorld) -> Iterator[None]:
    """The meter is switched off for a while, and Stripe refuses its events only afterwards."""
    mapping = world.wiring.settings.active_mapping(DEMO, Metric("api_calls"))
    assert mapping is not None
    meters = world.stripe.v1.billing.meters
    world.stand_in.set(asynchronous=["archived_meter"])
    meters.deactivate(mapping.meter_id)
    yield
    meters.reactivate(mapping.meter_id)


def drop(world: BillingWorld, quantity: str) -> Push:
    """Have a value told that Stripe answers with 200 and drops."""
    with archived(world):
        world.use(quantity)
        world.write()
    world.advance(LAG)
    *_, push = pushes(world)
    assert (push.value, push.state) == (quantity, TAKEN), "it was answered 200"
    return push


def report(world: BillingWorld) -> None:
    """Let the notice of Stripe's error reports come in."""
    for event in world.stripe.v2.core.events.list().data:
        notice = read_event(a_thin_event(id=event.id, context=None), world.clock.now())
        assert notice is not None
        world.wiring.notices.keep(notice)


def write_by_somebody_else(world: BillingWorld, value: str) -> None:
    at = int(world.clock.now().timestamp())
    world.stand_in.send_foreign_event("api_calls", "cus_A", value, timestamp=at)


def hold_open(world: BillingWorld, until: datetime) -> None:
    """November's invoice is a draft until then."""
    closing = PeriodClose(
        DEMO,
        a_counter().customer,
        NOVEMBER,
        PeriodState.CLOSING,
        world.clock.now(),
        invoice="in_1",
        finalizes_at=until,
    )
    world.wiring.period_closes.store(closing)


def pushes(world: BillingWorld) -> list[Push]:
    """All of the period, in the order in which they were planned."""
    histories = world.wiring.pushes.of_period(a_counter(), NOVEMBER)
    found = [push for history in histories for push in history.pushes]
    return sorted(found, key=lambda push: push.planned_at)


def states(world: BillingWorld) -> list[tuple[str, PushState]]:
    return [(push.value, push.state) for push in pushes(world)]


def causes(row: Row) -> list[tuple[Cause, Decimal]]:
    return [
        (one.cause, one.amount) for one in row.findings if one.cause is not Cause.NO_SUBSCRIPTION
    ]


def looks_until_proven(world: BillingWorld) -> list[tuple[Cause, Decimal]]:
    """Two looks an hour apart; what the second one finds."""
    world.row()
    world.advance(HOUR)
    return causes(world.row())


def settle(world: BillingWorld) -> None:
    world.advance(HOUR)
    world.write_until_settled()
    world.advance(LAG)


# --- last values ----------------------------------------------------------------------------------


def test_a_last_value_that_an_error_report_names_is_told_again(seats: BillingWorld) -> None:
    push = drop(seats, "8")
    report(seats)

    first = seats.row()

    assert causes(first) == [(Cause.ASYNC_REJECTED, Decimal(3))]
    assert f"Push {push.identifier}, which set 8, was accepted" in first.explanation
    assert "archived_meter" in first.explanation
    assert seats.report().repairs == ()
    seats.advance(HOUR)
    seats.row()
    (repair,) = seats.report().repairs
    assert (repair.amount, repair.identifier) == (Decimal(3), push.identifier)
    assert f"Push {push.identifier}, which set 8, was taken back (archived_meter" in repair.text
    assert "what is counted by now is set under a new number" in repair.text
    assert list(seats.wiring.suspects.open()) == []
    settle(seats)
    assert seats.told_in(NOVEMBER) == 8
    assert states(seats) == [("5", TAKEN), ("8", DROPPED), ("8", TAKEN)]
    assert causes(seats.row()) == []


def test_a_last_value_that_no_report_names_is_proven_missing_by_two_looks(
    seats: BillingWorld,
) -> None:
    drop(seats, "8")

    assert causes(seats.row()) == [(Cause.LOST_PUSH, Decimal(3))]
    seats.advance(59 * MINUTE)
    assert causes(seats.row()) == [(Cause.LOST_PUSH, Decimal(3))]
    seats.advance(MINUTE)
    assert causes(seats.row()) == [(Cause.ASYNC_REJECTED, Decimal(3))]
    settle(seats)
    assert seats.told_in(NOVEMBER) == 8
    assert seats.row().status is Status.OK


@pytest.mark.parametrize(("value", "lacks"), [("0", -5), ("2", -3)], ids=["to 0", "downwards"])
def test_a_lower_last_value_that_was_dropped_is_told_again(
    seats: BillingWorld, value: str, lacks: int
) -> None:
    drop(seats, value)

    assert looks_until_proven(seats) == [(Cause.ASYNC_REJECTED, Decimal(lacks))]
    settle(seats)

    assert seats.told_in(NOVEMBER) == int(value)
    assert seats.row().status is Status.OK


def test_the_first_last_value_of_a_period_that_was_dropped_is_told_again(
    billing: BillingWorld,
) -> None:
    billing.map(aggregation=Aggregation.LAST)
    billing.stand_in.add_customers(["cus_A"])
    drop(billing, "8")

    assert looks_until_proven(billing) == [(Cause.ASYNC_REJECTED, Decimal(8))]
    settle(billing)

    assert billing.told_in(NOVEMBER) == 8
    assert states(billing) == [("8", DROPPED), ("8", TAKEN)]


def test_of_several_last_values_that_were_dropped_only_the_newest_is_told_again(
    seats: BillingWorld,
) -> None:
    drop(seats, "8")
    drop(seats, "6")

    assert looks_until_proven(seats) == [(Cause.ASYNC_REJECTED, Decimal(1))]
    settle(seats)

    assert seats.told_in(NOVEMBER) == 6
    assert states(seats) == [("5", TAKEN), ("8", TAKEN), ("6", DROPPED), ("6", TAKEN)]
    assert seats.row().status is Status.OK


def test_last_values_that_were_dropped_are_taken_back_one_after_the_other(
    seats: BillingWorld,
) -> None:
    drop(seats, "8")
    drop(seats, "6")
    looks_until_proven(seats)
    assert seats.stream().accepted == 8, "the older one is looked at next"

    assert looks_until_proven(seats) == [
        (Cause.AWAITING_PUSH, Decimal(-2)),
        (Cause.ASYNC_REJECTED, Decimal(3)),
    ]
    assert seats.stream().accepted == 5
    settle(seats)

    assert seats.told_in(NOVEMBER) == 6
    assert states(seats) == [("5", TAKEN), ("8", DROPPED), ("6", DROPPED), ("6", TAKEN)]
    assert seats.row().status is Status.OK


def test_a_newer_last_value_takes_the_place_of_one_that_was_dropped(seats: BillingWorld) -> None:
    drop(seats, "8")
    seats.row()
    seats.use("9")
    seats.write()
    seats.advance(HOUR)

    assert seats.row().status is Status.OK

    assert seats.report().repairs == ()
    assert seats.told_in(NOVEMBER) == 9
    assert states(seats) == [("5", TAKEN), ("8", TAKEN), ("9", TAKEN)]


def test_a_meter_that_stays_off_has_its_last_value_told_until_it_is_on_again(
    seats: BillingWorld,
) -> None:
    with archived(seats):
        seats.use("8")
        seats.write()
        for _ in range(2):
            seats.advance(LAG)
            looks_until_proven(seats)
            seats.advance(HOUR)
            seats.write()
    seats.advance(LAG)
    looks_until_proven(seats)
    settle(seats)

    assert seats.told_in(NOVEMBER) == 8
    assert states(seats) == [("5", TAKEN), *[("8", DROPPED)] * 3, ("8", TAKEN)]
    assert seats.row().status is Status.OK


def test_a_later_last_value_of_somebody_else_is_named_and_left_alone(seats: BillingWorld) -> None:
    write_by_somebody_else(seats, "12")
    seats.advance(LAG)

    assert looks_until_proven(seats) == [(Cause.FOREIGN_WRITER, Decimal(-7))]

    assert "Stripe's last value is 12, and it was told 5; look for other" in seats.row().explanation
    assert seats.report().repairs == ()
    seats.advance(HOUR)
    assert seats.write()["planned"] == 0


def test_a_zero_of_somebody_else_after_our_last_value_is_named(seats: BillingWorld) -> None:
    write_by_somebody_else(seats, "0")
    seats.advance(LAG)

    assert looks_until_proven(seats) == [(Cause.FOREIGN_WRITER, Decimal(5))]
    assert seats.report().repairs == ()


def test_another_value_in_the_minute_of_ours_is_named_with_that_minute(
    seats: BillingWorld,
) -> None:
    (push,) = pushes(seats)
    at = int(push.occurred_at.timestamp()) + 1
    seats.stand_in.send_foreign_event("api_calls", "cus_A", "12", timestamp=at)
    seats.advance(LAG)

    assert looks_until_proven(seats) == [(Cause.FOREIGN_WRITER, Decimal(-7))]

    assert f"(in {push.occurred_at:%Y-%m-%dT%H:%MZ})" in seats.row().explanation
    assert seats.report().repairs == ()


def test_a_last_value_that_was_dropped_before_somebody_else_wrote_is_told_again_once(
    seats: BillingWorld,
) -> None:
    drop(seats, "8")
    write_by_somebody_else(seats, "12")
    seats.advance(LAG)

    assert looks_until_proven(seats) == [(Cause.ASYNC_REJECTED, Decimal(-4))]
    settle(seats)

    assert looks_until_proven(seats) == [(Cause.FOREIGN_WRITER, Decimal(-4))]
    assert states(seats) == [("5", TAKEN), ("8", DROPPED), ("8", TAKEN)]


def test_a_last_value_dropped_in_a_closed_period_is_named_and_never_told_again(
    seats: BillingWorld,
) -> None:
    seats.set_time(NOVEMBER.end - 2 * HOUR)
    drop(seats, "8")
    seats.set_time(NOVEMBER.end + 2 * HOUR)

    assert looks_until_proven(seats) == [(Cause.ASYNC_REJECTED, Decimal(3))]

    assert seats.report().repairs == ()
    (proposal,) = seats.report().proposals
    assert "its period is closed" in proposal.text


def test_a_last_value_dropped_in_the_last_minute_of_its_period_is_told_again(
    seats: BillingWorld,
) -> None:
    seats.set_time(NOVEMBER.end + MINUTE)
    hold_open(seats, until=NOVEMBER.end + 9 * HOUR)
    with archived(seats):
        seats.use("8", at=NOVEMBER.end - timedelta(seconds=20))
        seats.write()
    assert pushes(seats)[-1].occurred_at == NOVEMBER.end - MINUTE
    seats.advance(LAG)

    assert looks_until_proven(seats) == [(Cause.ASYNC_REJECTED, Decimal(3))]
    settle(seats)

    assert seats.told_in(NOVEMBER) == 8
    assert states(seats) == [("5", TAKEN), ("8", DROPPED), ("8", TAKEN)]


def test_why_a_last_value_differs_is_not_guessed_when_no_read_is_left(
    seats: BillingWorld,
) -> None:
    drop(seats, "8")
    reconciler = seats.wiring.reconciler

    (row,) = reconciler.run(DEMO, "2026-11", verify=True, reads_max=1).rows

    assert causes(row)[:1] == [(Cause.LOST_PUSH, Decimal(3))]
    assert "whether its push counted could not be looked up in this run" in row.explanation
    (row,) = reconciler.run(DEMO, "2026-11", verify=True, reads_max=2).rows
    assert "does not hold it; a second look an hour later decides" in row.explanation


# --- windows --------------------------------------------------------------------------------------


def test_the_first_value_of_a_window_that_was_dropped_is_set_again(hourly: BillingWorld) -> None:
    hourly.advance(timedelta(days=1))
    drop(hourly, "4")

    assert looks_until_proven(hourly) == [(Cause.ASYNC_REJECTED, Decimal(4))]
    settle(hourly)

    assert hourly.told_in(NOVEMBER) == 9
    assert hourly.row().status is Status.OK


def test_a_later_value_of_a_window_that_was_dropped_is_set_again(hourly: BillingWorld) -> None:
    with archived(hourly):
        hourly.use("3", at=NOON + MINUTE)
        hourly.write()
    hourly.advance(LAG)
    assert states(hourly) == [("5", TAKEN), ("8", TAKEN)]
    assert hourly.told_in(NOVEMBER) == 5

    assert looks_until_proven(hourly) == [(Cause.ASYNC_REJECTED, Decimal(3))]
    settle(hourly)

    assert hourly.told_in(NOVEMBER) == 8
    assert states(hourly) == [("5", TAKEN), ("8", DROPPED), ("8", TAKEN)]
    assert hourly.row().status is Status.OK
