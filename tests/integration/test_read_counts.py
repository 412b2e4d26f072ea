"""Reads of Stripe are written down in the billing table, and known to other processes."""

from datetime import date, timedelta

from local.stripe.control import StandIn
from metering.adapters.dynamodb.read_counts import DynamoReadCounts
from metering.wiring import Wiring
from tests.billing_world import connected
from tests.conftest import SetClock

DAY = date(2026, 11, 20)


def test_reads_add_up_per_account_and_day(wiring: Wiring) -> None:
    counts = DynamoReadCounts(wiring.dynamodb, wiring.config)
    counts.add("", DAY, 3)
    counts.add("", DAY, 4)
    counts.add("", DAY - timedelta(days=1), 5)
    counts.add("acct_1", DAY, 6)

    assert counts.since("", DAY) == {DAY: 7}
    assert counts.since("", DAY - timedelta(days=1)) == {DAY - timedelta(days=1): 5, DAY: 7}
    assert counts.since("acct_1", DAY) == {DAY: 6}
    assert counts.since("acct_2", DAY) == {}


def test_what_one_process_read_another_has_less_left(
    wiring: Wiring, stripe_server: StandIn, clock: SetClock
) -> None:
    one = connected(wiring, stripe_server, stripe_reads_a_month=100)
    two = connected(wiring, stripe_server, stripe_reads_a_month=100)
    one.billing.reach()
    one.billing.reach()

    assert one.read_budget.left(clock.now()) == 98
    assert two.read_budget.left(clock.now()) == 98
    two.billing.reach()
    two.read_budget.flush()
    assert one.read_budget.left(clock.now()) == 97
