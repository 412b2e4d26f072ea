"""Closing billing periods against the Stripe stand-in, through the real SDK."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from metering.adapters.dynamodb.counters import DynamoCounters
from metering.adapters.stripe_invoices import StripeInvoices
from metering.errors import InvariantBrokenError, NotFoundError, RetryableError
from metering.names import CustomerRef
from metering.notice import NoticeKind
from metering.period import NEVER, Span
from metering.period_close import PeriodState
from metering.tenant_settings import TenantSettings
from tests.billing_world import BillingWorld
from tests.builders import DEMO, NOON
from tests.closing_world import GRACE, ClosingWorld

ODD = NOON + timedelta(minutes=37, seconds=42)
END = datetime(2026, 12, 20, 12, 37, 42, tzinfo=UTC)
DEADLINE = END + GRACE - timedelta(minutes=15)
MINUTE = timedelta(minutes=1)
PERIOD = Span(ODD, END)


@pytest.fixture
def closing(billing: BillingWorld) -> ClosingWorld:
    billing.set_time(ODD)
    return ClosingWorld(billing)


def used(closing: ClosingWorld, quantity: str = "10", **about: object) -> None:
    closing.world.use(quantity, **about)


@pytest.fixture
def subscribed(closing: ClosingWorld) -> ClosingWorld:
    """A customer whose subscription began at an odd second, with 10 used and told."""
    closing.world.customer("cus_A")
    closing.subscribe()
    closing.close()
    closing.go_to(ODD + MINUTE)
    used(closing)
    closing.world.write_until_settled()
    return closing


# --- following subscriptions ----------------------------------------------------------------------


def test_a_customers_periods_follow_its_only_metered_subscription(
    subscribed: ClosingWorld,
) -> None:
    customer = subscribed.customer()

    assert customer.calendar.period_of(ODD) == PERIOD
    assert customer.calendar.period_of(ODD - MINUTE) == Span(datetime(2026, 11, 1, tzinfo=UTC), ODD)
    assert subscribed.world.stream(period=PERIOD).accepted == 10


def test_a_notice_makes_a_new_subscription_be_seen_at_once(closing: ClosingWorld) -> None:
    used(closing)
    closing.close()
    closing.go_to(ODD + timedelta(hours=1))
    closing.subscribe()
    closing.close()
    store = closing.world.wiring.settings_store
    assert store.stored_customer(DEMO, CustomerRef("cus_A")) is None

    closing.notice(NoticeKind.SUBSCRIPTION)
    closing.close()

    assert closing.customer().eras[0].begins_at == ODD + timedelta(hours=1)
    closing.close()  # It looks once more, for what caches let be counted by the former calendar.
    assert list(closing.world.wiring.notices.waiting(NoticeKind.SUBSCRIPTION)) == []


def test_without_a_notice_it_is_seen_within_a_day(closing: ClosingWorld) -> None:
    used(closing)
    closing.close()
    closing.subscribe()
    closing.go_to(ODD + timedelta(hours=24))

    closing.close()

    assert closing.customer().calendar.period_of(ODD) == PERIOD


def test_two_metered_subscriptions_are_a_trouble_that_can_be_read(
    closing: ClosingWorld,
) -> None:
    used(closing)
    for _ in range(2):
        closing.subscribe()

    closing.close()

    customer = closing.customer()
    assert (customer.subscription, customer.eras) == ("", ())
    assert "all have metered items" in customer.trouble


def test_a_plan_change_in_the_middle_ends_the_period_there(subscribed: ClosingWorld) -> None:
    at = datetime(2026, 12, 1, 6, 0, 1, tzinfo=UTC)
    subscribed.go_to(at)
    subscription = subscribed.customer().subscription
    subscribed.world.stripe.v1.subscriptions.update(
        subscription,
        {"billing_cycle_anchor": {"type": "now"}, "proration_behavior": "none"},
    )
    subscribed.go_to(at + MINUTE)

    subscribed.notice(NoticeKind.SUBSCRIPTION)
    subscribed.close()

    calendar = subscribed.customer().calendar
    assert calendar.period_of(ODD) == Span(ODD, at)
    assert calendar.period_of(at) == Span(at, at.replace(year=2027, month=1))
    close = subscribed.closing(ODD)
    assert (close.state, close.closed_at) == (PeriodState.CLOSED, at)
    assert subscribed.invoice_of(close).lines.data[0].quantity == 10


def test_usage_that_was_told_across_a_cut_in_another_scale_has_the_next_invoice_held(
    subscribed: ClosingWorld,
) -> None:
    """Stripe counts it by its time, in the new period; our streams still have it in the old one.

    What was told in another scale cannot be left to the present period's stream.
    """
    at = datetime(2026, 12, 1, 6, 0, 1, tzinfo=UTC)
    subscribed.go_to(at)
    subscribed.world.stripe.v1.subscriptions.update(
        subscribed.customer().subscription,
        {"billing_cycle_anchor": {"type": "now"}, "proration_behavior": "none"},
    )
    subscribed.go_to(at + timedelta(hours=1))
    used(subscribed, "5")
    subscribed.world.write_until_settled()
    store = subscribed.world.wiring.settings_store
    (mapping,) = store.mappings(DEMO)
    store.change_mapping(mapping, replace(mapping, scale=1))
    subscribed.notice(NoticeKind.SUBSCRIPTION)
    subscribed.close()
    subscribed.go_to(at + timedelta(hours=2))
    for _ in range(2):
        subscribed.world.wiring.rebuilder.advance()
        subscribed.go_to(subscribed.world.clock.now() + 10 * MINUTE)
    subscribed.world.write_until_settled()
    subscribed.go_to(datetime(2027, 1, 1, 6, 1, tzinfo=UTC))

    subscribed.run_until(datetime(2027, 1, 1, 6, 50, tzinfo=UTC))

    close = subscribed.closing(at)
    assert close.is_held
    assert close.message.endswith("the writer holds usage back: period_changed")


def test_a_deleted_customers_last_period_ends_with_it(subscribed: ClosingWorld) -> None:
    at = datetime(2026, 12, 1, 6, tzinfo=UTC)
    subscribed.go_to(at)
    subscribed.world.stripe.v1.customers.delete("cus_A")
    subscribed.notice(NoticeKind.SUBSCRIPTION)

    subscribed.close()

    customer = subscribed.customer()
    assert customer.calendar.period_of(ODD) == Span(ODD, at)
    assert customer.subscription == ""


def test_usage_that_was_counted_before_its_subscription_was_known_is_counted_anew(
    closing: ClosingWorld,
) -> None:
    wired = closing.world.wiring
    used(closing, "4", at=ODD - MINUTE)
    closing.subscribe()
    used(closing, "10", at=ODD + MINUTE)
    assert closing.usage_in(Span(datetime(2026, 11, 1, tzinfo=UTC), ODD)) == 14

    closing.close()
    for _ in range(2):
        closing.go_to(closing.world.clock.now() + 10 * MINUTE)
        wired.rebuilder.advance()

    assert closing.usage_in(PERIOD) == 10
    assert closing.usage_in(Span(datetime(2026, 11, 1, tzinfo=UTC), ODD)) == 4


# --- closing --------------------------------------------------------------------------------------


def test_a_period_is_closed_by_its_invoice_which_bills_what_was_told(
    subscribed: ClosingWorld,
) -> None:
    subscribed.go_to(END - MINUTE)
    used(subscribed, "5")
    subscribed.go_to(END + MINUTE)
    subscribed.close()

    close = subscribed.closing(ODD)
    assert close.state is PeriodState.CLOSING
    assert close.finalizes_at == END + GRACE
    assert subscribed.world.told() == 15

    subscribed.run_until(END + GRACE + 2 * MINUTE)

    close = subscribed.closing(ODD)
    assert (close.state, close.closed_at) == (PeriodState.CLOSED, END + GRACE)
    assert close.message == f"closed by {close.invoice}"
    assert close.held_at is None
    invoice = subscribed.invoice_of(close)
    assert (invoice.status, invoice.lines.data[0].quantity) == ("paid", 15)


def test_usage_that_comes_in_the_drafts_time_is_still_billed(subscribed: ClosingWorld) -> None:
    subscribed.go_to(END + MINUTE)
    subscribed.close()
    subscribed.go_to(DEADLINE - 10 * MINUTE)
    used(subscribed, "7", at=END - timedelta(hours=2))
    subscribed.world.write_until_settled(every=MINUTE)

    subscribed.run_until(END + GRACE + 2 * MINUTE)

    close = subscribed.closing(ODD)
    assert close.state is PeriodState.CLOSED
    assert subscribed.invoice_of(close).lines.data[0].quantity == 17


def test_usage_after_the_deadline_is_not_told_for_the_period(subscribed: ClosingWorld) -> None:
    subscribed.go_to(END + MINUTE)
    subscribed.run_until(DEADLINE + MINUTE)
    used(subscribed, "7", at=END - timedelta(hours=2))
    subscribed.run_until(END + GRACE + 2 * MINUTE)

    close = subscribed.closing(ODD)
    assert close.state is PeriodState.CLOSED
    assert subscribed.invoice_of(close).lines.data[0].quantity == 10
    assert subscribed.world.stream(period=PERIOD).accepted == 10


def test_a_draft_is_held_while_stripe_lacks_usage_and_released_when_it_has_it(
    subscribed: ClosingWorld,
) -> None:
    subscribed.go_to(END + MINUTE)
    used(subscribed, "5", at=END - MINUTE)
    with subscribed.lagging(by=timedelta(hours=3)):
        subscribed.run_until(DEADLINE + MINUTE)
        close = subscribed.closing(ODD)
        assert (close.is_held, close.state) == (True, PeriodState.CLOSING)
        assert "holds 10 of the 15 it was told" in close.message
        assert subscribed.invoice_of(close).auto_advance is False
        subscribed.run_until(END + 2 * GRACE)
        assert subscribed.invoice_of(close).status == "draft"

    subscribed.run_until(END + 5 * GRACE)

    close = subscribed.closing(ODD)
    assert (close.is_held, close.state) == (False, PeriodState.CLOSED)
    assert close.released_at is not None
    assert close.held_at == DEADLINE + MINUTE or close.held_at == DEADLINE
    assert subscribed.invoice_of(close).lines.data[0].quantity == 15


def test_an_operator_has_some_customers_periods_looked_at_before_they_are_due(
    subscribed: ClosingWorld,
) -> None:
    subscribed.subscribe("cus_B")
    used(subscribed, "3", customer="cus_B")
    subscribed.notice(NoticeKind.SUBSCRIPTION, "cus_B")
    subscribed.close()
    subscribed.go_to(END + 2 * MINUTE)

    first = subscribed.close(tenantId=DEMO, customerRefs=["cus_A"])
    used(subscribed, "2", at=END - MINUTE)
    again = subscribed.close(tenantId=DEMO, customerRefs=["cus_A"])

    assert first == {"closing": {"begun": 1, "closing": 1}}
    assert again == {"closing": {"begun": 0, "closing": 1}}
    assert subscribed.world.stream(period=PERIOD).accepted == 12
    everybodys = subscribed.close()["closing"]
    assert everybodys["begun"] == 1, "cus_B was left alone"


def test_a_tenant_that_does_not_want_it_has_no_draft_held(subscribed: ClosingWorld) -> None:
    settings = TenantSettings(DEMO, holds_invoices=False)
    subscribed.world.wiring.settings_store.put_tenant(settings)
    subscribed.go_to(END + MINUTE)
    used(subscribed, "5", at=END - MINUTE)
    with subscribed.lagging(by=timedelta(hours=3)):
        subscribed.run_until(END + GRACE + 2 * MINUTE)

    close = subscribed.closing(ODD)
    assert (close.state, close.held_at) == (PeriodState.CLOSED, None)
    assert "holds 10 of the 15" in close.message


def test_a_draft_that_somebody_else_holds_is_left_to_them(subscribed: ClosingWorld) -> None:
    subscribed.go_to(END + MINUTE)
    subscribed.close()
    invoice = subscribed.closing(ODD).invoice
    subscribed.world.stripe.v1.invoices.update(invoice, {"auto_advance": False})

    subscribed.run_until(END + 3 * GRACE)

    close = subscribed.closing(ODD)
    assert (close.state, close.is_held) == (PeriodState.CLOSING, False)
    assert "held by somebody else" in close.message
    used(subscribed, "2", at=END - MINUTE)
    subscribed.world.write_until_settled()
    subscribed.world.stripe.v1.invoices.finalize_invoice(invoice)
    subscribed.notice(NoticeKind.INVOICE)
    subscribed.close()
    close = subscribed.closing(ODD)
    assert (close.state, close.message) == (PeriodState.CLOSED, f"closed by {invoice}")
    assert subscribed.invoice_of(close).lines.data[0].quantity == 12


def test_an_invoice_that_was_final_before_we_looked_closes_its_period_as_told(
    subscribed: ClosingWorld,
) -> None:
    subscribed.go_to(END + timedelta(hours=30))

    subscribed.close()

    close = subscribed.closing(ODD)
    assert (close.state, close.closed_at) == (PeriodState.CLOSED, END + GRACE)
    assert subscribed.invoice_of(close).lines.data[0].quantity == 10


def test_an_invoice_that_bills_less_than_was_told_is_named(subscribed: ClosingWorld) -> None:
    """Usage reached Stripe, and was added up only after it had finalized the draft."""
    settings = TenantSettings(DEMO, holds_invoices=False)
    subscribed.world.wiring.settings_store.put_tenant(settings)
    subscribed.go_to(END + MINUTE)
    used(subscribed, "5", at=END - MINUTE)
    with subscribed.lagging(by=timedelta(hours=3)):
        subscribed.run_until(END + GRACE)
    subscribed.go_to(END + 5 * GRACE)

    subscribed.close()

    close = subscribed.closing(ODD)
    assert close.state is PeriodState.CLOSED
    assert f"{subscribed.price.id} bills 10 where 15 was told" in close.message


def test_a_deleted_draft_closes_the_period_and_says_so(
    subscribed: ClosingWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    subscribed.go_to(END + MINUTE)
    subscribed.close()

    def deleted(_: object, invoice: str) -> None:
        raise NotFoundError(f"no invoice {invoice} at Stripe")

    monkeypatch.setattr(StripeInvoices, "invoice", deleted)
    subscribed.run_until(DEADLINE + MINUTE)

    close = subscribed.closing(ODD)
    assert close.state is PeriodState.CLOSED
    assert close.message.startswith("the draft in_")


def test_without_a_subscription_a_period_is_closed_after_its_grace(closing: ClosingWorld) -> None:
    used(closing)
    closing.world.customer("cus_A")
    december = datetime(2026, 12, 1, tzinfo=UTC)
    closing.go_to(december)

    closing.run_until(december + 2 * GRACE)

    close = closing.closing(ODD)
    assert (close.state, close.closed_at) == (PeriodState.CLOSED, december + GRACE)
    assert close.message == "closed; no subscription bills it"
    assert closing.world.told() == 10


def test_while_stripe_is_down_a_period_stays_closing_and_is_tried_again(
    subscribed: ClosingWorld,
) -> None:
    subscribed.go_to(END + MINUTE)
    with subscribed.world.stand_in.outage():
        run = subscribed.close()

    assert run["closing"]["unavailable"] == 1
    assert subscribed.closing(ODD).state is PeriodState.CLOSING
    subscribed.run_until(END + GRACE + 2 * MINUTE)
    assert subscribed.closing(ODD).state is PeriodState.CLOSED


def test_a_notice_of_the_final_invoice_closes_the_period_at_once(
    subscribed: ClosingWorld,
) -> None:
    subscribed.go_to(END + MINUTE)
    subscribed.close()
    invoice = subscribed.closing(ODD).invoice
    subscribed.world.stripe.v1.invoices.finalize_invoice(invoice)
    subscribed.go_to(END + 2 * MINUTE)
    subscribed.close()
    assert subscribed.closing(ODD).state is PeriodState.CLOSING

    subscribed.notice(NoticeKind.INVOICE)
    subscribed.close()

    assert subscribed.closing(ODD).state is PeriodState.CLOSED
    assert list(subscribed.world.wiring.notices.waiting(NoticeKind.INVOICE)) == []


def test_a_quiet_close_needs_few_reads(subscribed: ClosingWorld) -> None:
    subscribed.go_to(END + MINUTE)
    before = subscribed.reads()

    subscribed.run_until(END + GRACE + 3 * MINUTE, every=MINUTE)

    assert subscribed.closing(ODD).state is PeriodState.CLOSED
    assert subscribed.reads() - before <= 7


def die_before_holding(subscribed: ClosingWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the deadline the hold is stored, and we die before Stripe hears of it."""

    def die(*_: object, **__: object) -> None:
        raise ConnectionAbortedError

    subscribed.run_until(DEADLINE - MINUTE)
    with monkeypatch.context() as patch:
        patch.setattr(StripeInvoices, "let_advance", die)
        subscribed.go_to(DEADLINE)
        with pytest.raises(InvariantBrokenError, match="1 closes met a bug"):
            subscribed.close()


def test_a_crash_before_stripe_hears_of_a_hold_leaves_the_draft_to_be_held_by_the_next_look(
    subscribed: ClosingWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    subscribed.go_to(END + MINUTE)
    used(subscribed, "5", at=END - MINUTE)

    with subscribed.lagging(by=timedelta(hours=3)):
        die_before_holding(subscribed, monkeypatch)
        assert advances(subscribed)
        subscribed.go_to(DEADLINE + 5 * MINUTE)
        subscribed.close()

    assert not advances(subscribed)


def test_a_draft_that_was_finalized_before_our_hold_reached_it_takes_no_usage_any_more(
    subscribed: ClosingWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    subscribed.go_to(END + MINUTE)
    used(subscribed, "5", at=END - MINUTE)

    with subscribed.lagging(by=timedelta(hours=3)):
        die_before_holding(subscribed, monkeypatch)
        subscribed.go_to(END + GRACE + 20 * MINUTE)
        used(subscribed, "7", at=END - 2 * MINUTE)
        subscribed.close()

    assert subscribed.world.stream(period=PERIOD).accepted == 15
    subscribed.world.write_until_settled()
    assert subscribed.world.stream(period=PERIOD).accepted == 15
    assert subscribed.world.told() == 22, "the rest is carried into the open period"
    assert subscribed.closing(ODD).closed_at == END + GRACE


def test_the_first_usage_of_a_period_is_not_told_to_a_draft_that_is_about_to_be_final(
    closing: ClosingWorld,
) -> None:
    """The writer comes before the closer, which begins no period that has no usage."""
    closing.world.customer("cus_A")
    closing.subscribe()
    closing.close()
    closing.go_to(DEADLINE - 2 * MINUTE)
    closing.close()
    closing.go_to(DEADLINE + MINUTE)
    used(closing, "7", at=END - MINUTE)

    with closing.lagging(by=timedelta(minutes=30)):
        run = closing.world.write()
        assert run["held"] == {"invoice_unknown": 1}
        assert closing.world.told() == 0
        closing.go_to(DEADLINE + 4 * MINUTE)
        closing.close()
        closing.go_to(END + GRACE + 30 * MINUTE)
        closing.close()
    closing.world.write_until_settled()

    close = closing.closing(ODD)
    assert (close.state, close.closed_at) == (PeriodState.CLOSED, END + GRACE)
    assert closing.invoice_of(close).lines.data[0].quantity == 0
    assert closing.world.stream(period=PERIOD).accepted == 0
    assert closing.world.told() == 7, "it is carried into the open period"


def test_the_first_usage_of_a_period_is_told_to_a_draft_that_still_takes_it(
    closing: ClosingWorld,
) -> None:
    closing.world.customer("cus_A")
    closing.subscribe()
    closing.close()
    closing.go_to(DEADLINE - MINUTE)
    used(closing, "7", at=END - MINUTE)

    closing.world.write_until_settled()

    assert closing.world.stream(period=PERIOD).accepted == 7


# --- holds that come before anything else ---------------------------------------------------------


@contextmanager
def unreadable_counters(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No period can be begun, and no look comes to its end."""

    def refuse(*_: object, **__: object) -> None:
        raise RetryableError("DynamoDB cannot answer now")

    with monkeypatch.context() as patch:
        patch.setattr(DynamoCounters, "known", refuse)
        yield


def fail_to_close(subscribed: ClosingWorld, at: datetime) -> None:
    """A run at an instant that comes to no end."""
    subscribed.go_to(at)
    with pytest.raises(RetryableError):
        subscribed.close()


def advances(subscribed: ClosingWorld) -> bool:
    """Whether Stripe would finalize the draft by itself."""
    return bool(subscribed.invoice_of(subscribed.closing(ODD)).auto_advance)


def test_a_draft_that_never_agreed_is_held_at_its_deadline_whatever_else_fails(
    subscribed: ClosingWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    subscribed.go_to(END + MINUTE)
    used(subscribed, "5", at=END - MINUTE)

    with subscribed.lagging(by=timedelta(hours=3)):
        subscribed.run_until(DEADLINE - 3 * MINUTE)
        with unreadable_counters(monkeypatch):
            fail_to_close(subscribed, DEADLINE + 4 * MINUTE)
        assert not advances(subscribed)
        close = subscribed.closing(ODD)
        assert (close.held_at, close.finalizes_at) == (DEADLINE + 4 * MINUTE, NEVER)
        assert close.message == f"{close.invoice} is held: its numbers were not found equal in time"
    subscribed.run_until(END + 5 * GRACE)

    close = subscribed.closing(ODD)
    assert close.state is PeriodState.CLOSED
    assert subscribed.invoice_of(close).lines.data[0].quantity == 15


def test_a_draft_that_agreed_before_its_deadline_is_held_when_no_look_succeeds_after_it(
    subscribed: ClosingWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was told since may be missing in it; where nothing is, it goes on in time."""
    subscribed.go_to(END + MINUTE)
    subscribed.run_until(DEADLINE - 5 * MINUTE)

    with unreadable_counters(monkeypatch):
        fail_to_close(subscribed, DEADLINE + 4 * MINUTE)
        assert advances(subscribed)
        fail_to_close(subscribed, DEADLINE + 9 * MINUTE)
        assert not advances(subscribed)
    subscribed.go_to(DEADLINE + 10 * MINUTE)
    subscribed.close()

    close = subscribed.closing(ODD)
    assert (advances(subscribed), close.is_held) == (True, False)
    assert (close.released_at, close.finalizes_at) == (DEADLINE + 10 * MINUTE, END + GRACE)


def test_a_hold_that_stripe_did_not_hear_is_said_again_whatever_else_fails(
    subscribed: ClosingWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    subscribed.go_to(END + MINUTE)
    used(subscribed, "5", at=END - MINUTE)

    with subscribed.lagging(by=timedelta(hours=3)):
        die_before_holding(subscribed, monkeypatch)
        assert advances(subscribed)
        with unreadable_counters(monkeypatch):
            fail_to_close(subscribed, DEADLINE + 5 * MINUTE)

        assert not advances(subscribed)
        assert subscribed.closing(ODD).held_at == DEADLINE


def test_a_draft_takes_no_usage_by_a_hold_that_stripe_has_not_confirmed(
    subscribed: ClosingWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It becomes final in spite of us; what it was told after its deadline nobody would bill."""
    subscribed.go_to(END + MINUTE)
    used(subscribed, "5", at=END - MINUTE)

    with subscribed.lagging(by=timedelta(minutes=50)):
        die_before_holding(subscribed, monkeypatch)
        subscribed.go_to(END + GRACE + 20 * MINUTE)
        used(subscribed, "7", at=END - 2 * MINUTE)
        subscribed.world.write_until_settled()

        assert subscribed.world.stream(period=PERIOD).accepted == 15
        assert subscribed.world.told() == 22, "the rest is carried into the open period"


def test_a_period_with_nothing_but_carried_usage_is_checked_like_any_other(
    subscribed: ClosingWorld,
) -> None:
    subscribed.go_to(END + MINUTE)
    subscribed.run_until(END + GRACE + 2 * MINUTE)
    end = PERIOD.end.replace(year=2027, month=1)
    subscribed.go_to(end - 2 * MINUTE)
    used(subscribed, "7", at=END - 2 * MINUTE)

    with subscribed.lagging(by=timedelta(hours=3)):
        subscribed.world.write_until_settled(every=timedelta(seconds=10))
        subscribed.go_to(end + MINUTE)
        subscribed.run_until(end + GRACE - MINUTE)
        close = subscribed.closing(END)
        assert "holds 0 of the 7 it was told" in close.message
        assert close.is_held
    subscribed.run_until(end + 5 * GRACE)

    close = subscribed.closing(END)
    assert close.state is PeriodState.CLOSED
    assert subscribed.invoice_of(close).lines.data[0].quantity == 7


def test_a_draft_is_not_held_first_for_a_tenant_that_does_not_want_it(
    subscribed: ClosingWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = TenantSettings(DEMO, holds_invoices=False)
    subscribed.world.wiring.settings_store.put_tenant(settings)
    subscribed.go_to(END + MINUTE)
    used(subscribed, "5", at=END - MINUTE)

    with subscribed.lagging(by=timedelta(hours=3)):
        subscribed.run_until(DEADLINE - 3 * MINUTE)
        with unreadable_counters(monkeypatch):
            fail_to_close(subscribed, DEADLINE + 4 * MINUTE)

    assert advances(subscribed)
    assert not subscribed.closing(ODD).is_held


def test_a_draft_whose_time_has_come_is_not_held_any_more(
    subscribed: ClosingWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stripe has finalized it, or is about to: a hold would let it take usage that it cannot."""
    subscribed.go_to(END + MINUTE)
    used(subscribed, "5", at=END - MINUTE)

    with subscribed.lagging(by=timedelta(hours=3)):
        subscribed.run_until(DEADLINE - 3 * MINUTE)
        with unreadable_counters(monkeypatch):
            fail_to_close(subscribed, END + GRACE)

    assert not subscribed.closing(ODD).is_held


def test_a_draft_that_was_deleted_before_it_was_held_closes_its_period(
    subscribed: ClosingWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    subscribed.go_to(END + MINUTE)
    used(subscribed, "5", at=END - MINUTE)

    def deleted(_: object, invoice: str, **__: object) -> None:
        raise NotFoundError(f"no invoice {invoice} at Stripe")

    with subscribed.lagging(by=timedelta(hours=3)):
        subscribed.run_until(DEADLINE - MINUTE)
        monkeypatch.setattr(StripeInvoices, "let_advance", deleted)
        monkeypatch.setattr(StripeInvoices, "invoice", deleted)
        subscribed.go_to(DEADLINE)
        run = subscribed.close()

    assert run["holding"] == {"deleted": 1}
    assert subscribed.closing(ODD).state is PeriodState.CLOSED


def test_a_week_is_closed_like_a_month(closing: ClosingWorld) -> None:
    mapping = closing.world.map("seats")
    weekly = closing.make_price(mapping.meter_id, "week")
    closing.world.customer("cus_W")
    closing.subscribe("cus_W", weekly)
    closing.close()
    used(closing, "3", customer="cus_W", metric="seats")
    week = ODD + timedelta(days=7)

    closing.world.write_until_settled()
    closing.go_to(week + MINUTE)
    closing.run_until(week + GRACE + 2 * MINUTE)

    close = closing.closing(ODD, "cus_W")
    assert (close.period, close.state) == (Span(ODD, week), PeriodState.CLOSED)
    assert closing.invoice_of(close).lines.data[0].quantity_decimal == Decimal(3)
