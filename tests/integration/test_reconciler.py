"""The reconciler finds each planted difference and names it, over real tables and the stand-in."""

from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from local.stripe.faults import FaultKind
from metering.adapters.dynamodb import reports
from metering.facts import recount
from metering.ports import Clock
from metering.reconciliation import Cause, Finding, Report, Row, Status
from metering.survey import Survey
from metering.wiring import Wiring, using
from tests.billing_world import HOUR, MINUTE, NOVEMBER, BillingWorld, connected
from tests.builders import DEMO, NOON, a_counter, an_entry


@pytest.fixture
def world(billing: BillingWorld) -> BillingWorld:
    """`api_calls` is mapped; `cus_A` used 10, which Stripe was told an hour ago."""
    billing.map()
    billing.stand_in.add_customers(["cus_A", "cus_B"])
    billing.use("10")
    billing.write()
    billing.advance(HOUR)
    return billing


def numbers(row: Row) -> list[Decimal | None]:
    return [row.ledger, row.counted, row.pushed, row.stripe]


def causes(row: Row) -> list[tuple[Cause, Decimal]]:
    """What explains a difference; that this world has no subscriptions is noted where one is."""
    return [
        (finding.cause, finding.amount)
        for finding in row.findings
        if finding.cause is not Cause.NO_SUBSCRIPTION
    ]


def test_a_clean_counter_agrees_in_all_four_numbers(world: BillingWorld) -> None:
    row = world.row()

    assert numbers(row) == [10, 10, 10, 10]
    assert row.status is Status.OK
    assert row.findings == ()


def test_named_customers_are_compared_alone_and_the_others_rows_stand(world: BillingWorld) -> None:
    world.use("5", customer="cus_B")
    world.write()
    world.advance(HOUR)
    world.reconcile(verify=True)
    before = world.report()
    for customer in ("cus_A", "cus_B"):
        world.use("1", customer=customer)

    told = world.reconcile(tenantId=DEMO, period="2026-11", customerRefs=["cus_B"])

    assert [one["rows"] for one in told["reports"]] == [2]
    after = world.report()
    assert [numbers(row) for row in after.rows] == [[10, 10, 10, 10], [6, 6, 5, 5]]
    assert after.rows[0] == before.rows[0]


def test_without_the_event_index_the_ledger_is_recounted_in_one_pass(world: BillingWorld) -> None:
    world.use("3", customer="cus_B")
    with using(connected(world.wiring, world.stand_in, event_index=False)):
        assert world.row("cus_A").ledger == 10
        assert world.row("cus_B").ledger == 3


def test_an_index_that_follows_too_slowly_does_not_make_the_counter_wrong(
    world: BillingWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Survey, "_recount", lambda self, work: recount([], self.now))

    assert world.row().status is Status.OK


# --- planted differences --------------------------------------------------------------------------


def test_a_foreign_event_is_named(world: BillingWorld) -> None:
    world.stand_in.send_foreign_event("api_calls", "cus_A", "3")

    assert causes(world.row()) == [(Cause.FOREIGN_WRITER, Decimal(-3))]


def test_a_push_that_stripe_lost_after_its_200_is_named(world: BillingWorld) -> None:
    (history,) = world.wiring.pushes.of_period(a_counter(), NOVEMBER)
    world.stripe.v1.billing.meter_event_adjustments.create(
        {
            "event_name": "api_calls",
            "type": "cancel",
            "cancel": {"identifier": history.pushes[0].identifier},
        }
    )
    world.advance(HOUR)

    assert causes(world.row()) == [(Cause.LOST_PUSH, Decimal(10))]


def test_a_push_that_the_summary_does_not_show_yet_is_lag(world: BillingWorld) -> None:
    world.stand_in.set(summary_delay_s=600)
    world.use("5")
    world.write()

    assert causes(world.row()) == [(Cause.STRIPE_LAG, Decimal(5))]
    world.advance(10 * MINUTE)
    assert world.row().status is Status.OK


def test_what_is_pushed_while_stripe_is_read_is_no_foreign_writer(
    world: BillingWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = world.wiring.billing.total

    def push_then_read(*what: Any) -> Decimal:
        world.use("4")
        world.write()
        return read(*what)

    monkeypatch.setattr(world.wiring.billing, "total", push_then_read)

    assert world.row().status is Status.OK
    assert numbers(world.report().rows[0]) == [14, 14, 14, 14]


def test_a_counter_that_is_behind_the_ledger_is_named(world: BillingWorld) -> None:
    now = world.clock.now()
    world.wiring.ledger.append([an_entry("4", at=now, received_at=now)])

    assert causes(world.row()) == [(Cause.COUNTER_BEHIND, Decimal(4))]
    world.advance(15 * MINUTE)
    assert causes(world.row()) == [(Cause.COUNTER_WRONG, Decimal(4))]


def test_usage_that_was_not_told_yet_is_named(world: BillingWorld) -> None:
    world.use("4")

    assert causes(world.row()) == [(Cause.AWAITING_PUSH, Decimal(4))]


def test_a_push_under_way_is_named_with_its_trouble(world: BillingWorld) -> None:
    world.use("4")
    world.stand_in.plan(FaultKind.UNAVAILABLE, path="/v1/billing/meter_events")
    world.write()

    row = world.row()

    assert causes(row) == [(Cause.IN_FLIGHT, Decimal(4))]
    assert "503" in row.explanation


def test_a_push_that_counted_and_was_not_answered_is_in_flight(world: BillingWorld) -> None:
    world.use("4")
    world.stand_in.plan(FaultKind.DROP_AFTER, path="/v1/billing/meter_events")
    world.write()

    row = world.row()

    assert numbers(row)[2:] == [10, 14]
    assert causes(row) == [(Cause.IN_FLIGHT, Decimal(4))]


def test_a_refused_customer_is_named_with_stripes_words(world: BillingWorld) -> None:
    world.use("4", customer="cus_missing")
    world.write()

    row = world.row("cus_missing")

    assert causes(row) == [(Cause.REFUSED, Decimal(4)), (Cause.CUSTOMER_DELETED, Decimal(0))]
    assert "cus_missing" in row.explanation


def test_unmapped_usage_and_unknown_customers_are_named(world: BillingWorld) -> None:
    world.use("4", metric="other")
    world.use("5", customer="ann")

    assert causes(world.row("cus_A", "other")) == [(Cause.UNMAPPED, Decimal(4))]
    assert causes(world.row("ann")) == [(Cause.NO_STRIPE_CUSTOMER, Decimal(5))]
    assert world.row("ann").stripe is None


def test_late_usage_after_the_close_is_named(world: BillingWorld) -> None:
    world.set_time(NOVEMBER.end + HOUR)
    world.use("4", at=NOVEMBER.end - HOUR)
    world.write()

    assert causes(world.row()) == [(Cause.LATE_AFTER_CLOSE, Decimal(4))]


def test_late_events_that_await_approval_are_noted(world: BillingWorld) -> None:
    world.use("4", is_late=True)

    row = world.row()

    assert causes(row) == [(Cause.LATE_HELD, Decimal(4))]
    assert row.status is Status.OK


def test_customers_whose_errors_cancel_out_are_both_named(world: BillingWorld) -> None:  # W13
    world.use("10", customer="cus_B")
    world.write()
    world.stand_in.send_foreign_event("api_calls", "cus_A", "3")
    world.stand_in.send_foreign_event("api_calls", "cus_B", "-3")
    world.advance(HOUR)

    assert causes(world.row("cus_A")) == [(Cause.FOREIGN_WRITER, Decimal(-3))]
    assert causes(world.row("cus_B")) == [(Cause.LOST_PUSH, Decimal(3))]


def test_two_customers_that_are_one_at_stripe_are_compared_together(world: BillingWorld) -> None:
    world.customer("ann", "cus_A")
    world.use("7", customer="ann")
    world.write()

    assert world.row("cus_A").status is Status.OK
    assert world.row("ann").status is Status.OK
    assert world.told("cus_A") == 17
    world.stand_in.send_foreign_event("api_calls", "cus_A", "3")
    found = [causes(world.row("cus_A")), causes(world.row("ann"))]
    assert sorted(found) == [[], [(Cause.FOREIGN_WRITER, Decimal(-3))]]


def test_stripes_other_periods_are_not_counted(world: BillingWorld) -> None:  # W13
    before = int((NOVEMBER.start - HOUR).timestamp())
    world.stand_in.send_foreign_event("api_calls", "cus_A", "99", timestamp=before)

    assert world.row().status is Status.OK


def test_each_period_of_an_anchored_customer_has_its_own_row(world: BillingWorld) -> None:
    anchor = datetime.fromisoformat("2026-11-20T12:30:30+00:00")
    world.customer("cus_B", anchor=anchor)
    world.use("1", customer="cus_B", at=anchor - MINUTE)
    world.use("2", customer="cus_B", at=anchor + timedelta(seconds=10))
    world.write()
    world.reconcile()

    def rows(month: str) -> list[tuple[datetime, Decimal, Decimal | None]]:
        return [
            (row.period.start, row.ledger, row.stripe)
            for row in world.report(month).rows
            if row.counter.customer == "cus_B"
        ]

    assert rows("2026-10") == [(anchor.replace(month=10), Decimal(1), Decimal(1))]
    assert rows("2026-11") == [(anchor, Decimal(2), Decimal(2))]


def test_a_period_that_ended_just_now_is_compared_though_it_began_two_months_ago(
    world: BillingWorld,
) -> None:
    anchor = datetime.fromisoformat("2026-10-31T12:30:30+00:00")
    world.customer("cus_B", anchor=anchor)
    world.use("1", customer="cus_B")
    world.write()
    world.set_time(datetime.fromisoformat("2026-12-01T12:00:00+00:00"))
    world.reconcile()

    (row,) = (row for row in world.report("2026-10").rows if row.period.start == anchor)
    assert numbers(row) == [1, 1, 1, 1]


# --- reports --------------------------------------------------------------------------------------


def test_the_latest_report_is_what_is_shown_and_runs_are_not_summed(  # W13
    world: BillingWorld,
) -> None:
    for _ in range(3):
        world.reconcile()
        world.advance(MINUTE)

    (row,) = world.report().rows

    assert row.ledger == 10
    assert world.report().created_at == world.clock.now() - MINUTE


def test_stripe_is_not_asked_again_while_nothing_changes(world: BillingWorld) -> None:
    first = world.reconcile(tenantId=DEMO, period="2026-11")
    world.advance(HOUR)
    second = world.reconcile(tenantId=DEMO, period="2026-11")
    world.advance(23 * HOUR)
    third = world.reconcile(tenantId=DEMO, period="2026-11")

    reads = [run["reports"][0]["stripeReads"] for run in (first, second, third)]
    assert reads == [2, 0, 2]  # the summary, and the meter behind it
    assert world.report().rows[0].stripe == 10


def test_the_read_budget_is_kept_and_what_was_not_read_says_so(world: BillingWorld) -> None:
    world.use("5", customer="cus_B")
    world.write()

    report = world.wiring.reconciler.run(DEMO, "2026-11", verify=True, reads_max=1)

    assert report.stripe_reads == 1
    unread = [row for row in report.rows if row.cause == Cause.NOT_READ]
    assert len(unread) == 1
    assert unread[0].status is Status.INVESTIGATE


def test_stripe_out_of_reach_leaves_the_other_numbers(world: BillingWorld) -> None:
    with world.stand_in.outage():
        row = world.row()

    assert numbers(row) == [10, 10, 10, None]
    assert row.cause == Cause.NOT_READ


def test_without_a_key_the_report_still_compares_our_own_numbers(world: BillingWorld) -> None:
    config = replace(world.wiring.config, stripe_secret_key=None)
    world.wiring = Wiring(config, clock=world.clock, dynamodb=world.wiring.dynamodb)
    with using(world.wiring):
        row = world.row()

    assert row.cause == Cause.NOT_READ
    assert row.ledger == 10


def test_a_closed_period_is_left_alone_after_some_days_and_its_rows_stay(
    world: BillingWorld,
) -> None:
    world.set_time(NOVEMBER.end + 2 * HOUR)
    world.reconcile()
    last = world.report()
    world.set_time(NOVEMBER.end + timedelta(days=3))
    world.reconcile()

    assert world.report() == last
    assert last.rows[0].status is Status.OK


def test_a_report_with_more_rows_than_an_item_holds_comes_back_whole(
    wiring: Wiring, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reports, "CHUNK_BYTES", 1_000)
    rows = tuple(_a_row(f"cus_{number}") for number in range(20))
    report = Report("rec_1", DEMO, "2026-11", NOON, rows, stripe_reads=7)
    wiring.reports.save(report)

    assert wiring.reports.latest(DEMO, "2026-11") == report
    assert wiring.reports.latest(DEMO, "2026-10") is None


def test_a_superseded_report_is_given_time_to_live(wiring: Wiring) -> None:
    first = Report("rec_1", DEMO, "2026-11", NOON, (_a_row("cus_A"),), stripe_reads=0)
    wiring.reports.save(first)
    wiring.reports.save(replace(first, id="rec_2", created_at=NOON + HOUR))

    items = wiring.dynamodb.scan(TableName=wiring.table("billing"))["Items"]
    expiring = {item["pk"]["S"] for item in items if "expires" in item}
    assert expiring == {"7:reports4:demo7:2026-11", "6:report5:rec_1"}
    assert len(items) == 4


def _a_row(customer: str) -> Row:
    return Row(
        counter=a_counter(customer),
        period=NOVEMBER,
        subscription_item_id="si_1",
        ledger=Decimal("12345678901234.123457"),
        counted=Decimal("0.1"),
        pushed=Decimal(0),
        stripe=None,
        stripe_read_at=None,
        findings=(Finding(Cause.UNMAPPED, Decimal("1E+3"), "Why not – «ü»."),),
        status=Status.INVESTIGATE,
    )
