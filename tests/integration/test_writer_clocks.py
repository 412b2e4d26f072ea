"""Clocks that differ from Stripe's, and accounts that our key does not reach."""

from dataclasses import replace
from datetime import timedelta

import pytest

from local.stripe.faults import FaultKind
from local.stripe.state import DEFAULT_ACCOUNT
from tests.api_client import Api
from tests.billing_world import HOUR, MINUTE, NOVEMBER, BillingWorld
from tests.builders import a_counter

SENDING = "/v1/billing/meter_events"


@pytest.fixture
def mapped(billing: BillingWorld) -> BillingWorld:
    """`api_calls` goes to a meter in whole units; `cus_A` exists at Stripe."""
    billing.map()
    billing.stand_in.add_customers(["cus_A"])
    return billing


def set_clocks(world: BillingWorld, passed: timedelta, ahead: timedelta) -> None:
    """So much later by Stripe's clock, and ours differs from it."""
    world.stand_in.advance(passed)
    world.clock.set(world.stand_in.now() + ahead)


@pytest.mark.parametrize("ahead", [5 * MINUTE, -5 * MINUTE], ids=["ahead", "behind"])
def test_with_a_clock_five_minutes_off_all_is_told_once(
    mapped: BillingWorld, ahead: timedelta
) -> None:
    set_clocks(mapped, timedelta(), ahead)
    mapped.stand_in.plan(FaultKind.DROP_AFTER, path=SENDING)
    mapped.use("10")
    assert mapped.write()["answers"] == {"outcome_unknown": 1}
    set_clocks(mapped, 2 * MINUTE, ahead)
    mapped.use("5")
    for _ in range(3):
        mapped.write()
        set_clocks(mapped, 2 * MINUTE, ahead)

    assert mapped.told() == 15
    assert (mapped.stream().accepted, mapped.events()) == (15, 2)


@pytest.mark.parametrize("first", [5 * MINUTE, -5 * MINUTE], ids=["ahead", "behind"])
def test_machines_whose_clocks_differ_by_ten_minutes_never_repeat_what_stripe_may_have_forgotten(
    mapped: BillingWorld, first: timedelta
) -> None:
    set_clocks(mapped, timedelta(), first)
    mapped.stand_in.plan(FaultKind.DROP_AFTER, path=SENDING)
    mapped.use("10")
    mapped.write()
    set_clocks(mapped, 24 * HOUR + MINUTE, -first)  # Stripe has just forgotten the identifier.
    mapped.write()
    for _ in range(4):
        set_clocks(mapped, 31 * MINUTE, -first)
        mapped.write()

    assert mapped.told() == 10
    assert (mapped.stream().accepted, mapped.events()) == (10, 1)
    (history,) = mapped.wiring.pushes.of_period(a_counter(), NOVEMBER)
    assert [push.resolution for push in history.pushes] == ["minute_window"]


def test_a_clock_that_is_further_ahead_than_stripe_takes_is_named_and_heals(
    mapped: BillingWorld,
) -> None:
    set_clocks(mapped, timedelta(), 7 * MINUTE)
    mapped.use("10")

    assert mapped.write()["answers"] == {"refused": 1}

    (stopped,) = Api().get("/v1/pushes", tenantId="demo", status="stopped").body
    assert "timestamp" in stopped["stopped"]["message"]
    assert "future" in stopped["stopped"]["message"]
    set_clocks(mapped, HOUR, timedelta())
    for _ in range(3):
        mapped.write()
        set_clocks(mapped, 5 * MINUTE, timedelta())
    assert mapped.told() == 10
    assert mapped.stream().accepted == 10


def test_an_account_that_our_key_does_not_reach_is_left_alone_and_no_other(
    mapped: BillingWorld, caplog: pytest.LogCaptureFixture
) -> None:
    other = mapped.map("egress_bytes")
    elsewhere = replace(other, stripe_account="acct_1Stranger")
    mapped.wiring.settings_store.change_mapping(other, elsewhere)
    mapped.stand_in.rule_key("sk_test_x", account=DEFAULT_ACCOUNT)
    mapped.use("10")
    mapped.use("7", metric="egress_bytes")

    run = mapped.write()

    assert run["answers"] == {"accepted": 1, "not_allowed": 1}
    assert mapped.told() == 10
    assert "acct_1Stranger" in caplog.text
    (waiting,) = Api().get("/v1/pushes", tenantId="demo").body
    assert (waiting["metric"], waiting["open"]["state"]) == ("egress_bytes", "planned")
    assert "acct_1Stranger" in waiting["open"]["lastError"]
    mapped.advance(MINUTE)
    mapped.use("1")
    assert mapped.write()["held"] == {"account_paused": 1}
    assert mapped.told() == 11, "our own account goes on"
