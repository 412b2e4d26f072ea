"""How periods end that do not end the usual way."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from metering.period import Span
from metering.period_close import PeriodClose, PeriodState
from metering.reconciliation import Cause, Row, Status
from tests.billing_world import BillingWorld
from tests.builders import DEMO, a_subscriber, an_entry
from tests.closing_world import GRACE, ClosingWorld

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
START = datetime(2026, 11, 20, 12, 37, 42, tzinfo=UTC)
END = datetime(2026, 12, 20, 12, 37, 42, tzinfo=UTC)
NOVEMBER = datetime(2026, 11, 1, tzinfo=UTC)


@pytest.fixture
def closing(billing: BillingWorld) -> ClosingWorld:
    billing.set_time(START)
    billing.customer("cus_A")
    return ClosingWorld(billing)


def use(closing: ClosingWorld, quantity: str = "10", customer: str = "cus_A") -> None:
    """Usage of now, told at once."""
    now = closing.world.clock.now()
    closing.world.use_all([an_entry(quantity, customer=customer, at=now, received_at=now)])
    closing.world.write_until_settled()


def begin(closing: ClosingWorld, **about: Any) -> None:
    """A subscription begins, and 10 are used and told."""
    closing.subscribe(**about)
    closing.close()
    closing.go_to(START + MINUTE)
    use(closing)


def end(closing: ClosingWorld, at: datetime = END) -> PeriodClose:
    """The closer runs after a period's end, before its deadline and after it."""
    run_around(closing, at)
    return closing.closing(START)


def run_around(closing: ClosingWorld, at: datetime) -> None:
    for after in (MINUTE, 46 * MINUTE, GRACE + MINUTE):
        closing.go_to(at + after)
        closing.close()


def row_of(closing: ClosingWorld, start: datetime = START, customer: str = "cus_A") -> Row:
    world = closing.world
    world.reconcile(tenantId=DEMO, period="2026-11", verify=True)
    (found,) = (
        one
        for one in world.report().rows
        if one.period.start == start and one.counter.customer == customer
    )
    return found


# --- invoices that come otherwise -----------------------------------------------------------------


def test_an_invoice_without_grace_closes_its_period_with_what_was_told(
    closing: ClosingWorld,
) -> None:
    closing.world.stand_in.set(invoice_grace_s=0)
    begin(closing)
    closing.go_to(END + MINUTE)
    closing.close()
    closing.world.stand_in.set(invoice_grace_s=3600)

    close = closing.closing(START)
    assert (close.state, close.closed_at) == (PeriodState.CLOSED, END)
    assert close.message == f"closed by {close.invoice}"
    assert row_of(closing).status is Status.OK


def test_the_first_invoice_of_a_subscription_closes_no_period(closing: ClosingWorld) -> None:
    begin(closing)
    [first] = closing.world.stripe.v1.invoices.list({"customer": "cus_A"}).data
    assert (first.billing_reason, first.status) == ("subscription_create", "paid")

    close = end(closing)

    assert close.invoice != first.id
    assert closing.invoice_of(close).lines.data[0].quantity == 10


def test_a_voided_invoice_closes_its_period_and_says_that_it_bills_nothing(
    closing: ClosingWorld,
) -> None:
    begin(closing, collection_method="send_invoice", days_until_due=30)
    closing.go_to(END + MINUTE)
    closing.close()
    invoice = closing.closing(START).invoice
    closing.world.stripe.v1.invoices.finalize_invoice(invoice)
    closing.world.stripe.v1.invoices.void_invoice(invoice)
    closing.go_to(END + GRACE + MINUTE)

    closing.close()

    close = closing.closing(START)
    assert close.state is PeriodState.CLOSED
    assert close.message == f"{invoice} is void: its usage is not billed"


# --- trials ---------------------------------------------------------------------------------------


def test_usage_inside_a_trial_is_told_and_closes_without_an_alarm(
    closing: ClosingWorld, caplog: pytest.LogCaptureFixture
) -> None:
    trial_end = START + 10 * DAY
    begin(closing, trial_end=int(trial_end.timestamp()))
    assert closing.customer().calendar.period_of(START) == Span(START, trial_end)

    close = end(closing, trial_end)

    assert close.state is PeriodState.CLOSED
    assert closing.world.told() == 10
    assert [one.message for one in caplog.records if one.name == "metering.closing"] == []
    row = row_of(closing)
    assert (row.status, [one.cause for one in row.findings]) == (Status.OK, [Cause.TRIAL])


def test_late_usage_of_a_trial_is_billed_nowhere(closing: ClosingWorld) -> None:
    trial_end = START + 10 * DAY
    begin(closing, trial_end=int(trial_end.timestamp()))
    end(closing, trial_end)
    late = an_entry("5", at=trial_end - HOUR, received_at=closing.world.clock.now())
    closing.world.use_all([late])

    assert closing.world.write()["held"] == {"no_invoice": 1}
    closing.world.advance(MINUTE)
    closing.world.write_until_settled()

    assert closing.world.told() == 10
    row = row_of(closing)
    assert row.status is Status.RESOLVED
    assert "5 were counted after the period's invoice was closed and are not billed" in (
        row.explanation
    )


# --- subscriptions that begin and end -------------------------------------------------------------


def test_a_subscription_in_the_middle_of_a_month_leaves_a_part_that_no_invoice_bills(
    closing: ClosingWorld,
) -> None:
    closing.go_to(START - HOUR)
    use(closing, "3")
    closing.go_to(START)
    begin(closing)
    run_around(closing, START)

    before = closing.closing(NOVEMBER)
    assert before.period == Span(NOVEMBER, START)
    assert (before.state, before.invoice) == (PeriodState.CLOSED, "")

    close = end(closing)
    assert closing.invoice_of(close).lines.data[0].quantity == 10
    told = [one.pushed for one in (row_of(closing, NOVEMBER), row_of(closing))]
    assert told == [3, 10]


@pytest.mark.parametrize("invoice_now", [True, False])
def test_an_immediate_cancellation_ends_the_period_there(
    closing: ClosingWorld, *, invoice_now: bool
) -> None:
    begin(closing)
    at = START + 5 * DAY
    closing.go_to(at)
    [subscription] = closing.world.stripe.v1.subscriptions.list({"customer": "cus_A"}).data
    closing.world.stripe.v1.subscriptions.cancel(subscription.id, {"invoice_now": invoice_now})
    closing.go_to(at + DAY)

    for _ in range(3):
        closing.close()
        closing.go_to(closing.world.clock.now() + GRACE)

    close = closing.closing(START)
    assert close.period == Span(START, at)
    assert closing.customer().subscription == ""
    if invoice_now:
        assert close.state is PeriodState.CLOSED
        assert closing.invoice_of(close).lines.data[0].quantity == 10
    else:
        closing.go_to(at + 5 * DAY)
        closing.close()
        close = closing.closing(START)
        assert (close.state, close.invoice) == (PeriodState.CLOSED, "")
        assert close.message.startswith("Stripe made no invoice of sub_")


def test_a_cancellation_at_the_periods_end_bills_all_of_it(closing: ClosingWorld) -> None:
    begin(closing)
    [subscription] = closing.world.stripe.v1.subscriptions.list({"customer": "cus_A"}).data
    closing.world.stripe.v1.subscriptions.update(subscription.id, {"cancel_at_period_end": True})
    closing.go_to(END - MINUTE)
    use(closing, "5")

    close = end(closing)

    assert (close.state, close.period) == (PeriodState.CLOSED, Span(START, END))
    assert closing.invoice_of(close).lines.data[0].quantity == 15
    closing.go_to(END + DAY)
    closing.close()
    assert closing.customer().subscription == ""
    assert closing.customer().calendar.period_of(START) == Span(START, END)


# --- two customers of ours that are one at Stripe -------------------------------------------------


def test_two_customers_of_ours_on_one_at_stripe_close_by_the_same_invoice(
    closing: ClosingWorld,
) -> None:
    subscription = closing.subscribe()
    for ref in ("cus_A", "twin"):
        known = a_subscriber(ref, START)
        eras = tuple(replace(era, subscription=subscription.id) for era in known.eras)
        changed = replace(known, subscription=subscription.id, eras=eras)
        closing.world.wiring.settings_store.put_customer(changed)
    closing.go_to(START + MINUTE)
    use(closing)
    use(closing, "7", "twin")

    close = end(closing)
    twin = closing.closing(START, "twin")

    assert (close.state, twin.state) == (PeriodState.CLOSED, PeriodState.CLOSED)
    assert close.invoice == twin.invoice
    assert (close.message, twin.message) == (f"closed by {close.invoice}",) * 2
    assert closing.invoice_of(close).lines.data[0].quantity == 17
    rows = [row_of(closing, customer=customer) for customer in ("cus_A", "twin")]
    assert [(row.pushed, row.invoiced, row.status) for row in rows] == [
        (Decimal(10), Decimal(10), Status.OK),
        (Decimal(7), Decimal(7), Status.OK),
    ]
