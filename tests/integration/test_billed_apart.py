"""Usage after the close that is billed apart: one invoice item per step, exactly once."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from threading import Thread

import pytest

from local.stripe.faults import FaultKind
from metering.advance import Advance, Life
from metering.invoice_item import ItemState
from metering.push import Mode
from metering.pusher import Pauses
from metering.reconciliation import Cause, Status
from metering.tenant_settings import AfterClose
from metering.work import Group, Work
from tests.apart_world import END, HOUR, MINUTE, NEXT_END, PERIOD, ApartWorld
from tests.billing_world import BillingWorld, Doom, connected, crash_a_writer, world_of
from tests.builders import NOON, a_counter

DAY = timedelta(days=1)


@pytest.fixture
def apart(billing: BillingWorld) -> ApartWorld:
    return ApartWorld(billing)


@pytest.fixture
def closed(apart: ApartWorld) -> ApartWorld:
    """10 were told and billed, ten dollars; the period's invoice is final."""
    apart.begin()
    apart.end_period()
    return apart


def test_usage_after_the_close_is_billed_by_one_invoice_item(closed: ApartWorld) -> None:
    closed.use_late("5")

    run = closed.world.write()

    assert run["billed_apart"] == 1
    [item] = closed.items()
    # Two more at a dollar, three at ten cents, and five dollars for the second tier.
    assert (item.amount, item.currency, item.invoice) == (200 + 500 + 30, "usd", None)
    assert (item.period.start, item.period.end) == (NOON.timestamp(), END.timestamp())
    invoice = closed.closing.closing(NOON).invoice
    assert item.description == (
        f"api_calls: 5 used 2026-11-20 to 2026-12-20, not on invoice {invoice}"
    )
    stream = closed.stream()
    assert (stream.accepted, stream.billed_apart, stream.item) == (10, Decimal(5), None)
    assert closed.world.told() == 10  # nothing is stamped into a closed period, or carried
    assert closed.world.wiring.pushes.in_need() == []


def test_the_item_is_on_the_customers_next_invoice(closed: ApartWorld) -> None:
    closed.use_late("5")
    closed.world.write()

    closed.world.set_time(NEXT_END + HOUR + MINUTE)

    invoices = closed.world.stripe.v1.invoices.list({"customer": "cus_A"}).data
    assert 730 in [line.amount for line in invoices[0].lines.data]


def test_a_second_run_bills_nothing_again(closed: ApartWorld) -> None:
    closed.use_late("5")
    for _ in range(3):
        closed.world.write()
        closed.world.advance(HOUR)

    assert closed.amounts() == [730]


def test_what_comes_later_is_billed_a_day_later_and_only_the_difference(
    closed: ApartWorld,
) -> None:
    closed.use_late("1")
    closed.world.write()
    closed.use_late("2")
    assert closed.world.write()["held"] == {"late_after_close": 1}
    assert closed.amounts() == [100]

    closed.world.advance(DAY)
    closed.world.write()

    # One dollar to the end of the first tier, then the second tier.
    assert closed.amounts() == [100, 100 + 500 + 10]
    assert [item.units for item in closed.stream().items] == [1, 2]
    assert closed.world.wiring.pushes.in_need() == []


def test_usage_that_is_taken_back_is_a_credit(closed: ApartWorld) -> None:
    closed.use_late("-4")
    closed.world.write()

    assert closed.amounts() == [-400]
    assert closed.stream().billed_apart == -4


def test_more_than_everything_taken_back_credits_only_what_was_billed(
    closed: ApartWorld,
) -> None:
    closed.use_late("-14")
    closed.world.write()

    assert closed.amounts() == [-1000]


def test_a_period_without_usage_is_billed_apart_too(apart: ApartWorld) -> None:
    apart.begin("0")
    apart.world.wiring.settings_store.put_customer(apart.subscriber())
    apart.world.set_time(END + 2 * HOUR)
    apart.use_late("2")
    assert apart.world.write()["held"] == {"late_after_close": 1}

    apart.closing.close()  # finds the final invoice
    apart.world.write()

    assert apart.amounts() == [200]


def test_usage_of_weeks_ago_is_billed_apart_by_the_invoice_of_then(apart: ApartWorld) -> None:
    apart.begin("0")
    apart.world.wiring.settings_store.put_customer(apart.subscriber())
    apart.world.set_time(END + 10 * DAY)
    apart.use_late("2")

    apart.world.write()

    assert apart.amounts() == [200]


def test_before_the_invoice_is_final_nothing_is_billed_apart(apart: ApartWorld) -> None:
    apart.decide(AfterClose.INVOICE_ITEM, holds_invoices=False)
    apart.begin()
    apart.closing.go_to(END + MINUTE)
    apart.closing.close()
    apart.closing.go_to(END + 50 * MINUTE)  # its deadline is over
    apart.use_late("2")

    assert apart.world.write()["held"] == {"late_after_close": 1}
    assert apart.amounts() == []

    apart.closing.go_to(END + 62 * MINUTE)
    apart.closing.close()
    apart.world.write()
    assert apart.amounts() == [200]


def test_a_draft_that_is_held_takes_the_usage_itself(apart: ApartWorld) -> None:
    apart.begin()
    apart.closing.go_to(END + MINUTE)
    apart.closing.close()
    apart.closing.go_to(END + 48 * MINUTE)
    apart.use_late("2")
    apart.world.write()
    apart.closing.close()
    assert apart.closing.closing(NOON).is_held
    apart.world.write()

    assert apart.world.told() == 12
    assert apart.amounts() == []


# --- exactly once ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind",
    [
        FaultKind.DROP_BEFORE,
        FaultKind.DROP_AFTER,
        FaultKind.RATE_LIMITED,
        FaultKind.ERROR_BEFORE,
        FaultKind.ERROR_AFTER,
        FaultKind.UNAVAILABLE,
    ],
)
def test_whatever_a_request_comes_to_the_usage_is_billed_once(
    closed: ApartWorld, kind: FaultKind
) -> None:
    closed.use_late("5")
    closed.world.stand_in.plan(kind, method="POST", path="/v1/invoiceitems")
    assert closed.world.write()["billed_apart"] == 0
    [found] = closed.world.wiring.pushes.in_need()
    assert found.item is not None
    assert found.item.state is ItemState.SENT

    for _ in range(2):
        closed.world.advance(40 * MINUTE)
        closed.world.write()

    assert closed.amounts() == [730]
    assert [item.stripe_id for item in closed.stream().items] == [closed.items()[0].id]
    assert closed.world.wiring.pushes.in_need() == []


@pytest.mark.parametrize("kind", [FaultKind.DROP_BEFORE, FaultKind.DROP_AFTER])
def test_an_outcome_that_stayed_unknown_for_days_is_looked_up(
    closed: ApartWorld, kind: FaultKind
) -> None:
    closed.use_late("5")
    closed.world.stand_in.plan(kind, method="POST", path="/v1/invoiceitems")
    closed.world.write()

    closed.world.advance(9 * DAY)  # Stripe has forgotten the idempotency key
    closed.world.write()

    assert closed.amounts() == [730]
    [item] = closed.stream().items
    assert item.key_generation == (1 if kind is FaultKind.DROP_BEFORE else 0)


def test_stripe_that_cannot_be_asked_keeps_the_item_waiting(closed: ApartWorld) -> None:
    closed.use_late("5")
    closed.use_late("1", metric="other")
    with closed.world.stand_in.outage():
        run = closed.world.write()
    assert run["held"]["unavailable"] == 1

    closed.world.advance(MINUTE)
    closed.world.write()
    assert closed.amounts() == [730]


def test_a_writer_killed_at_any_call_bills_once(closed: ApartWorld) -> None:
    billed = 0
    for at in range(1, 60):
        closed.use_late("1")
        doom = Doom(at, after=True)  # before a call is after the one before
        crash_a_writer(closed.world, doom)
        closed.world.advance(2 * MINUTE)
        closed.world.write()
        billed += 1
        assert closed.stream().billed_apart == billed, f"killed at call {at}"
        assert len(closed.items()) == billed, f"killed at call {at}"
        closed.world.advance(DAY)
        if not doom.struck:
            break

    assert at > 10
    assert not doom.struck
    assert sum(closed.amounts()) == _cost(10 + billed) - _cost(10)


def _cost(quantity: int) -> int:
    return 100 * quantity if quantity <= 12 else 1200 + 500 + 10 * (quantity - 12)


def test_two_writers_at_once_bill_once(closed: ApartWorld) -> None:
    closed.use_late("5")
    world = closed.world
    life = Life(Mode.TEST, 0)
    lone = [connected(world.wiring, world.stand_in) for _ in range(2)]
    work = [Group("cus_A", (Work(a_counter(), PERIOD),))]
    threads = [
        Thread(
            target=Advance(
                world_of(wired), life, Pauses(wired.pushes, wired.clock), lambda: True
            ).run,
            args=(work,),
        )
        for wired in lone
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    world.advance(2 * MINUTE)
    world.write()

    assert closed.amounts() == [730]


def test_a_store_that_was_restored_from_a_backup_finds_what_it_had_billed(
    closed: ApartWorld,
) -> None:
    world = closed.world
    closed.use_late("5")
    backup = closed.stream()
    world.write()
    billed = closed.stream()
    lost = replace(backup, version=billed.version)
    assert world.wiring.pushes.store(lost) is not None
    closed.use_late("2")

    world.write()
    assert closed.amounts() == [730]
    assert [item.units for item in closed.stream().items] == [5]
    world.advance(DAY)
    world.write()
    assert closed.amounts() == [730, 20]


# --- what is seen of it ---------------------------------------------------------------------------


def test_a_reconciliation_names_what_is_billed_apart_and_asks_for_nothing(
    closed: ApartWorld,
) -> None:
    closed.use_late("5")
    before = closed.closing_row()
    assert (before.status, before.cause) == (Status.INVESTIGATE, Cause.LATE_AFTER_CLOSE)
    assert "will be billed apart by an invoice item" in before.explanation
    closed.world.write()

    after = closed.closing_row()

    assert after.status is Status.RESOLVED
    assert [(one.cause, one.amount) for one in after.findings] == [
        (Cause.LATE_AFTER_CLOSE, Decimal(5))
    ]
    assert f"{closed.items()[0].id} of 730 usd" in after.explanation
    assert after.invoiced == 10


def test_a_reconciliation_names_an_item_that_stripe_has_not_taken_yet(closed: ApartWorld) -> None:
    closed.use_late("5")
    closed.world.stand_in.plan(FaultKind.DROP_AFTER, method="POST", path="/v1/invoiceitems")
    closed.world.write()

    found = closed.closing_row()

    assert found.status is Status.INVESTIGATE
    assert "of 730 usd (smallest unit) is under way (no answer" in found.explanation
    assert sum(one.amount for one in found.findings) == 5
