"""What becomes of a report's rows when a period is cut otherwise, or long closed and used again."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from metering.mapping import Customer
from metering.names import CustomerRef
from metering.period import Era
from metering.reconciliation import Cause, Report, Status
from metering.tenant_settings import AfterClose, TenantSettings
from tests.billing_world import HOUR, NOVEMBER, BillingWorld
from tests.builders import DEMO, NOON

PLAN_CHANGE = datetime(2026, 11, 20, 13, tzinfo=UTC)
LONG_AFTER = timedelta(days=8)


def spans(report: Report) -> list[tuple[datetime, datetime]]:
    return [row.period for row in report.rows]


def move_the_anchor(world: BillingWorld) -> None:
    """The customer's period that began with November ends here, and another one begins."""
    store = world.wiring.settings_store
    before = store.stored_customer(DEMO, CustomerRef("cus_A"))
    assert before is not None
    era = Era(PLAN_CHANGE, PLAN_CHANGE, subscription="sub_1")
    assert store.change_customer(before, replace(before, eras=(era,), subscription="sub_1"))


def test_the_row_of_a_period_that_was_cut_short_takes_the_place_of_the_longer_ones(
    billing: BillingWorld,
) -> None:
    """Or a report would for ever keep a row that no run looks at any more."""
    billing.map()
    billing.stand_in.add_customers(["cus_A"])
    billing.wiring.settings_store.put_customer(Customer(DEMO, CustomerRef("cus_A"), "cus_A"))
    billing.use("10")
    billing.write_until_settled()
    billing.reconcile(verify=True)
    assert spans(billing.report()) == [NOVEMBER]

    billing.set_time(PLAN_CHANGE + HOUR)
    move_the_anchor(billing)
    billing.use("5", at=PLAN_CHANGE + HOUR)
    billing.write_until_settled()
    billing.advance(HOUR)
    billing.reconcile(verify=True)

    starts = [row.period.start for row in billing.report().rows]
    assert sorted(starts) == [NOVEMBER.start, PLAN_CHANGE]
    first = min(billing.report().rows, key=lambda row: row.period.start)
    assert first.period.end == PLAN_CHANGE
    assert first.ledger == 10


@pytest.mark.parametrize(
    ("policy", "status"),
    [
        (AfterClose.CARRY_FORWARD, Status.RESOLVED),
        (AfterClose.UNBILLED, Status.RESOLVED),
        (AfterClose.INVOICE_ITEM, Status.INVESTIGATE),
    ],
)
def test_usage_that_is_counted_long_after_the_close_is_seen_in_the_closed_period_s_row(
    billing: BillingWorld, policy: AfterClose, status: Status
) -> None:
    billing.wiring.settings_store.put_tenant(TenantSettings(DEMO, after_close=policy))
    billing.map()
    billing.stand_in.add_customers(["cus_A"])
    billing.use("10")
    billing.write_until_settled()
    billing.set_time(NOVEMBER.end + LONG_AFTER)
    billing.reconcile(tenantId=DEMO, period="2026-11")
    billing.advance(HOUR)
    billing.reconcile(tenantId=DEMO, period="2026-11")

    billing.use("7", at=NOON, received_at=NOVEMBER.end + LONG_AFTER + HOUR)
    billing.write_until_settled()
    billing.advance(HOUR)
    billing.reconcile(tenantId=DEMO, period="2026-11")

    (row,) = billing.report().rows
    assert row.ledger == row.counted == 17
    assert row.status is status
    late = [one for one in row.findings if one.cause is Cause.LATE_AFTER_CLOSE]
    assert [one.amount for one in late] == [Decimal(7)]
