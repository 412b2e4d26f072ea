"""Each planted difference is found by a drill-down and named right, with push and amount."""

from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from metering.error_report import Suspicion
from metering.names import Identifier
from metering.period import Span
from metering.period_close import PeriodClose, PeriodState
from metering.ports import InvoiceLine
from metering.push import Push, PushState
from metering.reconciliation import Cause, Look, Row, Status
from tests.billing_world import HOUR, MINUTE, NOVEMBER, BillingWorld
from tests.builders import DEMO, NOON, a_counter

TWO_DAYS = timedelta(days=2)


@pytest.fixture
def world(billing: BillingWorld) -> BillingWorld:
    """`cus_A` used 10, 20 and 40 on three days, of which Stripe was told each day."""
    billing.map()
    billing.stand_in.add_customers(["cus_A"])
    for quantity in ("10", "20", "40"):
        billing.use(quantity)
        billing.write()
        billing.advance(timedelta(days=1))
    return billing


def pushes(world: BillingWorld) -> list[Push]:
    (history,) = world.wiring.pushes.of_period(a_counter(), NOVEMBER)
    return history.pushes


def lose(world: BillingWorld, push: Push) -> None:
    """Let Stripe forget an event that it took."""
    world.stripe.v1.billing.meter_event_adjustments.create(
        {
            "event_name": "api_calls",
            "type": "cancel",
            "cancel": {"identifier": push.identifier},
        }
    )


@pytest.fixture
def told_lately(world: BillingWorld) -> Push:
    """A push of 7 of two hours ago, which can still be cancelled at Stripe."""
    world.use("7")
    world.write()
    world.advance(2 * HOUR)
    return pushes(world)[-1]


def count_at(world: BillingWorld, at: datetime, value: str) -> None:
    """Let Stripe count something at a minute that we did not send."""
    world.stand_in.send_foreign_event("api_calls", "cus_A", value, timestamp=int(at.timestamp()))


def doubt_about(identifier: Identifier, now: datetime) -> Suspicion:
    """What an error report that names a push makes us doubt."""
    return Suspicion(
        id=identifier,
        identifier=identifier,
        meter_id=None,
        code="meter_event_customer_not_found",
        message="No such customer",
        count=1,
        window=Span(now - MINUTE, now),
        account="",
        is_live=False,
        reported_at=now,
    )


def causes(row: Row) -> list[tuple[Cause, Decimal]]:
    noise = {Cause.NO_SUBSCRIPTION}
    return [(one.cause, one.amount) for one in row.findings if one.cause not in noise]


def looks(row: Row) -> list[tuple[Span, Decimal, Decimal, str]]:
    return [look[:4] for finding in row.findings for look in finding.looks]


def minute_of(push: Push) -> Span:
    return Span(push.occurred_at, push.occurred_at + MINUTE)


def named(row: Row) -> str:
    assert row.status is Status.INVESTIGATE
    return row.explanation


# --- lost, rejected afterwards --------------------------------------------------------------------


def test_a_lost_push_is_named_with_its_minute(world: BillingWorld, told_lately: Push) -> None:
    lose(world, told_lately)

    row = world.row()

    assert causes(row) == [(Cause.LOST_PUSH, Decimal(7))]
    assert looks(row) == [(minute_of(told_lately), Decimal(7), Decimal(0), told_lately.identifier)]
    assert told_lately.identifier in named(row)


def test_a_second_look_an_hour_later_takes_the_push_back_and_tells_it_again(
    world: BillingWorld, told_lately: Push
) -> None:
    lose(world, told_lately)
    world.row()
    world.advance(59 * MINUTE)
    assert causes(world.row()) == [(Cause.LOST_PUSH, Decimal(7))]
    assert world.report().repairs == ()
    world.advance(MINUTE)

    row = world.row()

    assert causes(row) == [(Cause.ASYNC_REJECTED, Decimal(7))]
    (repair,) = world.report().repairs
    assert (repair.cause, repair.amount, repair.identifier) == (
        Cause.ASYNC_REJECTED,
        Decimal(7),
        told_lately.identifier,
    )
    assert pushes(world)[-1].state is PushState.ASYNC_REJECTED
    world.advance(HOUR)
    world.write_until_settled()
    world.advance(HOUR)
    assert causes(world.row()) == []
    assert world.told() == 77


def test_a_report_of_stripes_names_the_push_and_its_code(
    world: BillingWorld, told_lately: Push
) -> None:
    lose(world, told_lately)
    world.wiring.suspects.add([doubt_about(told_lately.identifier, world.clock.now())])

    row = world.row()

    assert causes(row) == [(Cause.ASYNC_REJECTED, Decimal(7))]
    assert "meter_event_customer_not_found" in named(row)
    assert world.report().repairs == ()
    world.advance(HOUR)
    world.row()
    assert len(world.report().repairs) == 1
    assert list(world.wiring.suspects.open()) == []


def test_a_doubt_about_a_push_that_counted_is_settled(world: BillingWorld) -> None:
    world.wiring.suspects.add([doubt_about(pushes(world)[0].identifier, world.clock.now())])

    assert world.row().status is Status.OK
    assert list(world.wiring.suspects.open()) == []


def test_a_push_lost_in_a_closed_period_is_named_and_never_told_again(
    world: BillingWorld,
) -> None:
    world.set_time(NOVEMBER.end - 2 * HOUR)
    world.use("7")
    world.write()
    lose(world, pushes(world)[-1])
    world.set_time(NOVEMBER.end + HOUR)
    world.row()
    world.advance(2 * HOUR)

    row = world.row()

    assert causes(row) == [(Cause.ASYNC_REJECTED, Decimal(7))]
    assert world.report().repairs == ()
    (proposal,) = world.report().proposals
    assert "its period is closed" in proposal.text
    assert pushes(world)[-1].state is PushState.ACCEPTED


# --- too much -------------------------------------------------------------------------------------


def test_a_push_that_counted_twice_is_named(world: BillingWorld) -> None:
    push = pushes(world)[1]
    count_at(world, push.occurred_at, "20")

    row = world.row()

    assert causes(row) == [(Cause.DUPLICATE, Decimal(-20))]
    assert looks(row) == [(minute_of(push), Decimal(20), Decimal(40), push.identifier)]
    assert push.identifier in named(row)
    assert [one.amount for one in world.report().proposals] == [Decimal(-20)]


def test_a_foreign_event_is_named_with_its_hour_and_minute(world: BillingWorld) -> None:
    at = NOON + timedelta(hours=7, minutes=34)
    count_at(world, at, "3")

    row = world.row()

    assert causes(row) == [(Cause.FOREIGN_WRITER, Decimal(-3))]
    hour = at.replace(minute=0)
    assert looks(row) == [
        (Span(hour, hour + HOUR), Decimal(0), Decimal(3), ""),
        (Span(at, at + MINUTE), Decimal(0), Decimal(3), ""),
    ]
    assert "2026-11-20T19:34Z" in named(row)


def test_several_differences_of_one_total_are_told_apart(
    world: BillingWorld, told_lately: Push
) -> None:
    lose(world, told_lately)
    count_at(world, pushes(world)[0].occurred_at, "10")
    count_at(world, NOON + 5 * HOUR, "3")

    row = world.row()

    assert sorted(causes(row)) == [
        (Cause.DUPLICATE, Decimal(-10)),
        (Cause.FOREIGN_WRITER, Decimal(-3)),
        (Cause.LOST_PUSH, Decimal(7)),
    ]


def test_what_the_reads_do_not_reach_is_told_by_its_amount(world: BillingWorld) -> None:
    count_at(world, NOON + 5 * HOUR, "3")

    report = world.wiring.reconciler.run(DEMO, "2026-11", verify=True, reads_max=8)

    (row,) = report.rows
    assert causes(row) == [(Cause.FOREIGN_WRITER, Decimal(-3))]
    assert report.stripe_reads <= 8


# --- clocks ---------------------------------------------------------------------------------------


def test_a_push_that_counted_in_the_next_period_is_clock_shifted_in_both(
    billing: BillingWorld,
) -> None:
    billing.map()
    billing.stand_in.add_customers(["cus_A"])
    billing.use("5")
    billing.write()
    billing.set_time(NOVEMBER.end + 10 * MINUTE)
    billing.use("9", at=NOVEMBER.end - MINUTE)
    billing.write()
    push = pushes(billing)[-1]
    assert push.occurred_at == NOVEMBER.end - MINUTE
    billing.advance(HOUR)
    lose(billing, push)
    count_at(billing, NOVEMBER.end + MINUTE, "9")
    december = Span(NOVEMBER.end, datetime.fromisoformat("2027-01-01T00:00:00+00:00"))
    billing.use("1")
    billing.write()
    billing.advance(HOUR)

    november = billing.row()
    billing.reconcile(tenantId=DEMO, period="2026-12", verify=True)
    (next_row,) = billing.report("2026-12").rows

    assert causes(november) == [(Cause.CLOCK_SHIFTED, Decimal(9))]
    assert "counted at 2026-12-01T00:01Z" in named(november)
    assert next_row.period == december
    assert causes(next_row) == [(Cause.CLOCK_SHIFTED, Decimal(-9))]


# --- late -----------------------------------------------------------------------------------------


def test_late_usage_says_what_the_tenants_policy_made_of_it(world: BillingWorld) -> None:
    world.set_time(NOVEMBER.end + 2 * HOUR)
    world.use("4", at=NOVEMBER.end - HOUR)
    assert causes(world.row()) == [(Cause.LATE_AFTER_CLOSE, Decimal(4))]
    world.write()
    world.advance(HOUR)
    world.write_until_settled()
    world.advance(HOUR)

    row = world.row()
    world.reconcile(tenantId=DEMO, period="2026-12", verify=True)
    (december,) = world.report("2026-12").rows

    assert causes(row) == [(Cause.LATE_AFTER_CLOSE, Decimal(4))]
    assert row.status is Status.RESOLVED
    assert "told in a later period" in row.explanation
    assert causes(december) == [(Cause.CARRIED_IN, Decimal(4))]
    assert december.status is Status.OK
    assert [december.ledger, december.pushed, december.stripe] == [0, 4, 4]


# --- invoices -------------------------------------------------------------------------------------


class KnownLines:
    """Invoices as a test has them, and how often they were read."""

    def __init__(self, quantity: str, meter_id: str) -> None:
        self.reads = 0
        self._quantity = quantity
        self._meter_id = meter_id

    def lines(self, invoice_id: str, account: str = "") -> list[InvoiceLine]:
        self.reads += 1
        october = Span(NOVEMBER.start - timedelta(days=31), NOVEMBER.start)
        return [
            InvoiceLine("price_1", "si_1", self._meter_id, Decimal(self._quantity), NOVEMBER),
            InvoiceLine("price_2", "si_2", "mtr_other", Decimal(99), NOVEMBER),
            InvoiceLine("price_1", "si_1", self._meter_id, Decimal(1), october),
        ]


def close(world: BillingWorld, state: PeriodState) -> None:
    """November's invoice is a draft, or final."""
    known = world.wiring.period_closes.of(DEMO, a_counter().customer, NOVEMBER)
    now = world.clock.now()
    before = known or PeriodClose(DEMO, a_counter().customer, NOVEMBER, state, now)
    world.wiring.period_closes.store(
        replace(
            before,
            state=state,
            invoice="in_1",
            closed_at=now if state is PeriodState.CLOSED else None,
        )
    )


def billed(world: BillingWorld, quantity: str) -> KnownLines:
    meter = world.stream().meter_id
    lines = KnownLines(quantity, meter)
    reconciler = world.wiring.reconciler
    reconciler._sources = reconciler._sources._replace(invoice_lines=lines)
    return lines


def test_the_invoices_line_is_the_fifth_number_and_is_read_once_when_it_is_final(
    world: BillingWorld,
) -> None:
    lines = billed(world, "70")
    world.set_time(NOVEMBER.end + 30 * MINUTE)
    close(world, PeriodState.CLOSING)
    world.row()
    world.row()
    assert lines.reads == 2
    close(world, PeriodState.CLOSED)
    world.advance(MINUTE)

    for _ in range(3):
        row = world.row()

    assert lines.reads == 3
    assert row.status is Status.OK
    assert row.invoiced == 70
    assert row.invoice == ("in_1", Decimal(70), True)


def test_an_invoice_that_bills_something_else_names_both_numbers(world: BillingWorld) -> None:
    billed(world, "68")
    world.set_time(NOVEMBER.end + 30 * MINUTE)
    close(world, PeriodState.CLOSING)
    draft = world.row()
    close(world, PeriodState.CLOSED)
    world.advance(MINUTE)

    row = world.row()

    assert causes(draft) == [(Cause.LINE_LAGS, Decimal(2))]
    assert draft.status is Status.OK
    assert causes(row) == [(Cause.INVOICE_DIFFERS, Decimal(2))]
    assert "bills 68, Stripe was told 70" in named(row)


def test_a_total_below_zero_is_billed_as_nothing_and_named(world: BillingWorld) -> None:
    billed(world, "0")
    (stream,) = world.wiring.pushes.streams(a_counter(), NOVEMBER)
    world.stand_in.send_foreign_event("api_calls", "cus_A", "-75")
    world.wiring.pushes.store(replace(stream, accepted=-5))
    world.set_time(NOVEMBER.end + 30 * MINUTE)
    close(world, PeriodState.CLOSED)
    world.advance(MINUTE)

    row = world.row()

    assert (Cause.NEGATIVE_TOTAL, Decimal(-5)) in causes(row)
    assert Cause.INVOICE_DIFFERS not in [cause for cause, _ in causes(row)]
    assert row.invoiced == 0


# --- what stands at Stripe ------------------------------------------------------------------------


def test_a_meter_that_was_deactivated_is_named(world: BillingWorld) -> None:
    world.stripe.v1.billing.meters.deactivate(world.stream().meter_id)

    assert causes(world.row()) == [(Cause.METER_INACTIVE, Decimal(0))]


def test_a_meter_that_is_not_as_it_was_mapped_is_named(world: BillingWorld) -> None:
    (mapping,) = world.wiring.settings_store.mappings(DEMO)
    world.wiring.settings_store.change_mapping(mapping, replace(mapping, meter_window="hour"))

    found = dict(causes(world.row()))

    assert Cause.METER_CHANGED in found


def test_a_price_that_charges_by_another_meter_is_named(world: BillingWorld) -> None:
    other = world.stripe.v1.billing.meters.create(
        {
            "display_name": "other",
            "event_name": "other",
            "default_aggregation": {"formula": "sum"},
        }
    )
    product = world.stripe.v1.products.create({"name": "Calls"})
    price = world.stripe.v1.prices.create(
        {
            "currency": "usd",
            "product": product.id,
            "unit_amount": 1,
            "recurring": {"interval": "month", "usage_type": "metered", "meter": other.id},
        }
    )
    (mapping,) = world.wiring.settings_store.mappings(DEMO)
    world.wiring.settings_store.change_mapping(mapping, replace(mapping, price_id=price.id))

    row = world.row()

    assert causes(row) == [(Cause.PRICE_NOT_ON_METER, Decimal(0))]
    assert other.id in named(row)


# --- quiet worlds and verification ----------------------------------------------------------------


def test_a_quiet_world_has_no_findings_and_its_pushes_are_noted_as_counted(
    world: BillingWorld,
) -> None:
    for _ in range(3):
        row = world.row()
        assert row.status is Status.OK
        assert row.findings == ()
        assert world.report().repairs == ()
        assert world.report().proposals == ()
        world.advance(HOUR)

    assert world.stream().counted_seq == 3


def test_a_push_of_the_last_half_hour_is_not_noted_as_counted_yet(world: BillingWorld) -> None:
    world.use("5")
    world.write()

    world.row()
    assert world.stream().counted_seq == 0
    world.advance(HOUR)
    world.row()
    assert world.stream().counted_seq == 4


def test_an_open_period_is_read_once_a_day_and_says_what_was_told_since(
    world: BillingWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("metering.reconciler.SPARE_PART", 10**6)
    world.reconcile(tenantId=DEMO, period="2026-11")
    world.advance(HOUR)
    world.use("5")
    world.write()

    run = world.reconcile(tenantId=DEMO, period="2026-11")

    (row,) = world.report().rows
    assert run["reports"][0]["stripeReads"] == 0
    assert causes(row) == [(Cause.READ_EARLIER, Decimal(5))]
    assert row.status is Status.OK
    world.advance(23 * HOUR)
    world.reconcile(tenantId=DEMO, period="2026-11")
    assert world.report().rows[0].findings == ()


def test_a_counter_that_did_not_change_is_recounted_once_a_day(
    world: BillingWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    recounted: list[Any] = []
    read = world.wiring.ledger.of_counter

    def note(*what: Any, **named: Any) -> Any:
        recounted.append(what)
        return read(*what, **named)

    monkeypatch.setattr(world.wiring.ledger, "of_counter", note)
    counts = []
    for pause in (HOUR, HOUR, 22 * HOUR):
        world.reconcile(tenantId=DEMO, period="2026-11")
        counts.append(len(recounted))
        world.advance(pause)
    world.reconcile(tenantId=DEMO, period="2026-11")

    assert [*counts, len(recounted)] == [1, 1, 1, 2]
    world.row()
    assert len(recounted) == 3


def test_findings_come_back_whole_from_the_store(world: BillingWorld, told_lately: Push) -> None:
    lose(world, told_lately)
    row = world.row()

    (finding, *_) = row.findings
    assert finding.looks == (
        Look(
            minute_of(told_lately),
            Decimal(7),
            Decimal(0),
            told_lately.identifier,
            world.clock.now(),
        ),
    )
