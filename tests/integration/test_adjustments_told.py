"""What Stripe is told of adjustments: its total follows ours up and down."""

from datetime import timedelta
from decimal import Decimal

import pytest

from metering.adjustment import held_id
from metering.counter import Aggregation
from metering.reconciliation import Cause, Status
from tests.billing_world import BillingWorld
from tests.books import Books

HOUR = timedelta(hours=1)


@pytest.fixture
def books(billing: BillingWorld) -> Books:
    return Books(billing.wiring)


@pytest.mark.parametrize("aggregation", [Aggregation.SUM, Aggregation.COUNT, Aggregation.MAX])
def test_usage_lowered_after_a_push_lowers_stripe(
    billing: BillingWorld, books: Books, aggregation: Aggregation
) -> None:
    billing.map(aggregation=aggregation)
    billing.customer("cus_A")
    quantity, times = ("1", 10) if aggregation is Aggregation.COUNT else ("10", 1)
    for _ in range(times):
        books.use(quantity)
    billing.write_until_settled()
    assert billing.told() == 10

    adjustment = books.adjust("-4")
    billing.write_until_settled()
    assert billing.told() == 10
    books.approve(adjustment)
    billing.advance(HOUR)
    billing.write_until_settled()
    assert billing.told() == 6

    books.revert(adjustment)
    billing.advance(HOUR)
    billing.write_until_settled()
    assert billing.told() == 10


def test_a_late_event_is_told_once_it_is_approved(billing: BillingWorld, books: Books) -> None:
    billing.map()
    billing.customer("cus_A")
    books.use("5")
    late_id = held_id(books.use_late("2").event.key)
    billing.write_until_settled()
    assert billing.told() == 5

    books.approve(late_id)
    billing.advance(HOUR)
    billing.write_until_settled()

    assert billing.told() == 7


def test_a_credit_before_any_usage_is_told_too(billing: BillingWorld, books: Books) -> None:
    billing.map()
    billing.customer("cus_A")

    books.approve(books.adjust("5"))
    billing.write_until_settled()

    assert billing.told() == 5


def test_reconciliation_finds_adjusted_numbers_equal(billing: BillingWorld, books: Books) -> None:
    billing.map()
    billing.customer("cus_A")
    books.use("10")
    books.approve(books.adjust("-4"))
    books.approve(held_id(books.use_late("2").event.key))
    books.use_late("70")
    billing.write_until_settled()
    billing.advance(HOUR)

    row = billing.row()

    assert [row.ledger, row.counted, row.pushed, row.stripe] == [8, 8, 8, 8]
    assert [(one.cause, one.amount) for one in row.findings] == [(Cause.LATE_HELD, Decimal(70))]
    assert row.status is Status.OK


def test_reconciliation_knows_a_counter_that_an_adjustment_has_not_reached_yet(
    billing: BillingWorld, books: Books
) -> None:
    billing.map()
    billing.customer("cus_A")
    books.use("10")
    billing.write_until_settled()
    adjustment = books.adjust("-4")
    billing.wiring.adjustments.approve(adjustment.tenant, adjustment.id, "api:sm_bob")

    row = billing.row()

    assert [row.ledger, row.counted] == [6, 10]
    assert Cause.COUNTER_BEHIND in [one.cause for one in row.findings]
    assert Cause.COUNTER_WRONG not in [one.cause for one in row.findings]
