"""Runs of reconciliation: read the four numbers of each counter, compare, keep the report.

One run covers a tenant's counters in the billing periods that begin in one month. Stripe rations
reads, so a summary is asked for only where something was pushed, once per meter and customer, and
within a budget; a row that agreed and has not changed since keeps its reading for a day.
"""

from datetime import timedelta
from decimal import Decimal

from metering import times
from metering.comparison import compare
from metering.keys import digest, join
from metering.names import TenantId
from metering.ports import Reports
from metering.reconciliation import Report
from metering.survey import READS_MAX, Sources, Survey
from metering.work import Work


class Reconciler:
    """Compares what was metered with what Stripe was told."""

    def __init__(
        self, sources: Sources, reports: Reports, *, epsilon: Decimal = Decimal(0)
    ) -> None:
        self._sources = sources
        self._reports = reports
        self._epsilon = epsilon

    def run(
        self,
        tenant: TenantId,
        month: str,
        *,
        verify: bool = False,
        reads_max: int = READS_MAX,
    ) -> Report:
        """Compare a tenant's counters in the periods that begin in the month `YYYY-MM`.

        `verify` reads everything anew: no row keeps an earlier reading. Where nothing is left to
        compare, the latest report stands and is the answer.
        """
        former = self._reports.latest(tenant, month)
        rows = {Work(row.counter, row.period): row for row in former.rows} if former else {}
        survey = Survey(self._sources, tenant, month, {} if verify else rows, reads_max)
        fresh = {
            Work(facts.counter, facts.period): compare(facts, survey.now, epsilon=self._epsilon)
            for facts in survey.facts()
        }
        if not fresh and former is not None:
            return former
        created = times.to_text(survey.now)
        report = Report(
            id="rec_" + digest(join(tenant, month, created)).hex(),
            tenant=tenant,
            month=month,
            created_at=survey.now,
            rows=tuple(row for _, row in sorted((rows | fresh).items())),
            stripe_reads=survey.reads,
        )
        self._reports.save(report)
        return report

    def months(self) -> tuple[str, str]:
        """The months in which periods begin that are open: this one and the one before."""
        now = self._sources.clock.now()
        return f"{now:%Y-%m}", f"{now.replace(day=1) - timedelta(days=1):%Y-%m}"
