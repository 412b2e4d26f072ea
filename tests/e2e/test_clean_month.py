"""A month in which nothing fails: whatever a reconciliation finds wrong in it is false."""

from datetime import timedelta

from local.month.check import check
from local.month.draw import Cancel, draw
from local.month.run import a_world, live
from metering.reconciliation import NOTES, Cause, Finding, Report, Row

PASSING = NOTES | {Cause.STRIPE_LAG, Cause.AWAITING_PUSH, Cause.IN_FLIGHT, Cause.COUNTER_BEHIND}
"""What a run may meet because usage is on its way; the next one does not."""


def test_no_reconciliation_of_a_clean_month_finds_anything_wrong(dynamodb_endpoint: str) -> None:
    """Three customers, one on a test clock; a rollover, a cancellation, a price change."""
    month = draw(4, days=31, customers=3, faults=False, step=timedelta(days=1))
    found: list[tuple[Row, Finding]] = []
    reports: list[Report] = []

    def look(report: Report) -> None:
        reports.append(report)
        found.extend((row, one) for row in report.rows for one in row.findings if _is_wrong(one))

    with a_world(month.start, endpoint=dynamodb_endpoint, prefix="clean-month-") as world:
        lived = live(month, world, look)
        outcome = check(lived)

    assert found == []
    assert outcome.wrongs == ()
    assert len({report.created_at.date() for report in reports}) >= 31
    assert {"periods closed", "prices changed", "anchors moved"} <= set(+lived.world.counts)
    assert any(isinstance(one, Cancel) for one in month.happenings)
    assert lived.account.clocks


def _is_wrong(finding: Finding) -> bool:
    return finding.cause not in PASSING and not finding.is_settled
