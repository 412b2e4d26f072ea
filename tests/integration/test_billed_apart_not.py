"""Usage after the close that no invoice item bills, or not before a person has looked."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from metering.adapters.stripe_invoices import StripeInvoices
from metering.errors import NotFoundError
from metering.names import CustomerRef
from metering.period import CALENDAR_MONTHS
from metering.ports import Invoice, InvoiceStatus
from metering.reconciliation import Cause, Status
from metering.tenant_settings import AfterClose
from tests.apart_world import HOUR, MINUTE, ApartWorld
from tests.billing_world import NOVEMBER, BillingWorld
from tests.builders import DEMO, NOON, an_entry

DAY = timedelta(days=1)
DECEMBER = CALENDAR_MONTHS.period_of(NOVEMBER.end)


@pytest.fixture
def apart(billing: BillingWorld) -> ApartWorld:
    return ApartWorld(billing)


@pytest.fixture
def closed(apart: ApartWorld) -> ApartWorld:
    apart.begin()
    apart.end_period()
    return apart


def stopped(apart: ApartWorld) -> str:
    """Why the stream waits for a person."""
    assert apart.amounts() == []
    [stream] = apart.world.wiring.pushes.in_need()
    assert stream.stopped is not None
    assert (stream.stopped.reason, stream.stopped.until) == ("cannot_bill", None)
    return stream.stopped.message


def test_a_customer_without_a_subscription_has_no_invoice_that_was_too_low(
    apart: ApartWorld,
) -> None:
    apart.world.use("10")
    apart.world.write_until_settled()
    for after in (MINUTE, HOUR + MINUTE):
        apart.closing.go_to(NOVEMBER.end + after)
        apart.closing.close()
    apart.use_late("5", at=NOVEMBER.end - HOUR)

    assert apart.world.write()["held"] == {"no_invoice": 1}

    assert apart.amounts() == []
    assert apart.world.wiring.pushes.in_need() == []
    row = apart.world.row()
    assert (row.status, row.cause) == (Status.RESOLVED, Cause.LATE_AFTER_CLOSE)
    assert "no invoice bills the period" in row.explanation


def test_a_void_invoice_bills_nothing_that_could_be_more(
    closed: ApartWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = StripeInvoices.invoice

    def void(self: StripeInvoices, invoice_id: str, account: str = "") -> Invoice:
        return replace(real(self, invoice_id, account), status=InvoiceStatus.VOID)

    monkeypatch.setattr(StripeInvoices, "invoice", void)
    closed.use_late("5")

    closed.world.write()

    assert stopped(closed).endswith("is void: the period's usage is not billed")
    assert "cannot be billed apart: in_" in closed.closing_row().explanation


def test_a_deleted_invoice_is_for_a_person(
    closed: ApartWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    def deleted(_: object, invoice_id: str, account: str = "") -> Invoice:
        raise NotFoundError(f"no invoice {invoice_id} at Stripe{account}")

    monkeypatch.setattr(StripeInvoices, "invoice", deleted)
    closed.use_late("5")
    closed.world.write()

    assert "no invoice in_" in stopped(closed)


def test_usage_that_no_item_of_the_subscription_charges_for_is_for_a_person(
    apart: ApartWorld,
) -> None:
    other = apart.world.map("other")
    apart.begin()
    apart.end_period()
    apart.use_late("5", metric="other")

    apart.world.write()

    assert stopped(apart).endswith(
        f"has no line of {other.meter_id}: no subscription charges by it"
    )


def test_an_invoice_that_bills_another_quantity_than_was_told_is_settled_first(
    apart: ApartWorld,
) -> None:
    """Somebody else has told the same meter three."""
    apart.decide(AfterClose.INVOICE_ITEM, holds_invoices=False)
    apart.begin()
    apart.world.stand_in.send_foreign_event(
        event_name="api_calls", customer="cus_A", value="3", timestamp=int(NOON.timestamp()) + 300
    )
    apart.end_period()
    apart.use_late("5")
    apart.world.write()

    assert "bills 13 units of mtr_" in stopped(apart)
    assert stopped(apart).endswith("where 10 were told: settle that first")


def test_a_decision_lets_the_stream_try_again(
    closed: ApartWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    from metering.decisions import Decision  # noqa: PLC0415 (only here)

    with monkeypatch.context() as broken:
        broken.setattr(StripeInvoices, "invoice", _gone)
        closed.use_late("5")
        closed.world.write()
    [stream] = closed.world.wiring.pushes.in_need()

    closed.world.wiring.decisions.take(DEMO, stream.key.id, Decision.NOT_COUNTED, by="ops")
    closed.world.write()

    assert closed.amounts() == [730]


def _gone(_: object, invoice_id: str, account: str = "") -> Invoice:
    raise NotFoundError(f"no invoice {invoice_id} at Stripe{account}")


PUSHING = ["billing_meter_event_write", "billing_meter_read", "subscription_read"]
READING = ["invoice_read", "price_read"]


@pytest.mark.parametrize("scopes", [PUSHING, [*PUSHING, *READING]])
def test_a_key_that_may_not_bill_apart_holds_up_no_push_and_bills_when_it_may(
    closed: ApartWorld, scopes: list[str]
) -> None:
    closed.world.stand_in.rule_key("sk_test_x", scopes=scopes)
    closed.use_late("5")
    closed.world.use("7")
    closed.world.write()
    assert closed.world.told() == 17

    closed.world.stand_in.rule_key("sk_test_x", scopes=None)
    assert closed.amounts() == []
    closed.world.advance(HOUR + MINUTE)
    closed.world.write()
    assert closed.amounts() == [730]


def test_two_customers_of_ours_that_are_one_at_stripe_share_its_tiers(apart: ApartWorld) -> None:
    twin = CustomerRef("twin")
    apart.begin("0")
    apart.world.wiring.settings_store.put_customer(apart.subscriber())
    apart.world.wiring.settings_store.put_customer(apart.subscriber("twin"))
    for customer, quantity in (("cus_A", "6"), (twin, "5")):
        apart.world.use_all([an_entry(quantity, customer=customer, at=NOON + MINUTE)])
    apart.world.write_until_settled()
    apart.end_period()

    for customer in ("cus_A", twin):
        apart.use_late("2", customer=customer)
    for _ in range(3):
        apart.world.advance(MINUTE)
        apart.world.write()

    # One dollar to the twelfth, then five and ten cents; and twice ten cents for the other.
    assert apart.amounts() == [100 + 500 + 10, 20]


def test_what_was_billed_apart_is_not_carried_by_another_policy(closed: ApartWorld) -> None:
    closed.use_late("5")
    closed.world.write()
    closed.decide(AfterClose.CARRY_FORWARD)
    closed.use_late("1")

    closed.world.advance(MINUTE)
    closed.world.write()

    stream = closed.stream()
    assert (stream.billed_apart, stream.carried_out) == (Decimal(5), Decimal(1))
