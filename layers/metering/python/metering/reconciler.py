"""Runs of reconciliation: read the five numbers of each counter, compare, keep the report.

One run covers a tenant's counters in the billing periods that begin in one month. Stripe rations
reads, so a summary is asked for once a day, always while a period closes and once afterwards, once
per meter and customer, and within a budget; minutes only where a summary differs.
"""

import logging
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from decimal import Decimal
from typing import NamedTuple

from metering import suspects, times
from metering.comparison import compare
from metering.counter import CounterKey
from metering.drill_down import Reads
from metering.error_report import Suspicion
from metering.errors import RetryableError
from metering.evidence import Evidence
from metering.facts import Facts
from metering.keys import digest, join
from metering.names import CustomerRef, Identifier, TenantId
from metering.period import Span
from metering.period_close import takes_usage_until
from metering.ports import MeterErrorReports, Notices, Reports, Suspects
from metering.push import Role
from metering.read_budget import ReadBudget
from metering.reconciliation import Repair, Report, Row
from metering.repairs import Repairs, proposals_for
from metering.stripe_findings import missing_at_stripe
from metering.stripe_totals import SPARE_PART
from metering.survey import Asked, Sources, Survey
from metering.threads import Threads
from metering.work import Work, customers_of

log = logging.getLogger("metering.reconciler")

READS_MAX = 1_000
"""Requests for reading made to Stripe in one run."""
DOUBT_LASTS = timedelta(days=2)
"""How long a report that names no push is kept in mind."""
ENDED_LATELY = timedelta(days=7)
"""A period that ended within this is still compared, whenever it began: its invoice, and its rows
afterwards, are looked at for days."""


class Signals(NamedTuple):
    """Where Stripe's reports of meter events that did not count come in."""

    notices: Notices
    error_reports: MeterErrorReports
    suspects: Suspects


class Examined(NamedTuple):
    """A row that was looked at by itself, and what its hours and minutes show."""

    row: Row
    scale: int
    evidence: Evidence | None
    """None when Stripe could not be asked, or nothing was told."""


class Reconciler:
    """Compares what was metered with what Stripe was told."""

    def __init__(
        self,
        sources: Sources,
        reports: Reports,
        signals: Signals | None,
        budget: ReadBudget,
        *,
        epsilon: Decimal = Decimal(0),
        threads: Threads = ThreadPoolExecutor,
    ) -> None:
        self._sources = sources
        self._reports = reports
        self._signals = signals
        self._budget = budget
        self._epsilon = epsilon
        self._threads = threads

    def run(
        self,
        tenant: TenantId,
        month: str,
        *,
        verify: bool = False,
        reads_max: int = READS_MAX,
        customers: Collection[CustomerRef] | None = None,
    ) -> Report:
        """Compare a tenant's counters in the periods that begin in the month `YYYY-MM`.

        `verify` reads everything anew: no row keeps an earlier reading or recount. Of `customers`
        that are named only these are compared, and the others' rows stand. Where nothing is left to
        compare, the latest report stands and is the answer.
        """
        former = self._reports.latest(tenant, month)
        rows = _by_work(former.rows) if former else {}
        reads = self._reads(reads_max)
        doubts = self._doubts()
        asked = Asked(tenant, month, verify=verify, customers=customers)
        survey = self._survey(asked, rows, reads, doubts)
        facts = survey.facts()
        self._budget.flush()
        if not facts and former is not None:
            return former
        fresh = {_work_of(one): self._compare(one, survey.now) for one in facts}
        repairs = self._repair(facts, survey.now)
        self._settle(doubts, facts, repairs)
        role = self._sources.pushes.role
        standing = _not_recut(rows, fresh) | fresh
        report = _report(role, asked, survey.now, standing, reads.made, repairs, facts)
        self._reports.save(report)
        return report

    def examine(
        self, tenant: TenantId, month: str, counter: CounterKey, *, reads_max: int
    ) -> list[Examined]:
        """Look at one counter's periods that begin in a month now, hour by hour; nothing is kept.

        The latest report stands as it is.
        """
        former = self._reports.latest(tenant, month)
        rows = _by_work(former.rows) if former else {}
        asked = Asked(tenant, month, only=counter)
        survey = self._survey(asked, rows, self._reads(reads_max), self._open())
        found = [
            Examined(self._compare(one, survey.now), one.scale, one.evidence)
            for one in survey.facts()
        ]
        self._budget.flush()
        return sorted(found, key=lambda one: one.row.period)

    def months(self, tenant: TenantId | None = None) -> list[str]:
        """The months in which periods begin that are open: this one and the one before.

        And those in which the periods of a tenant's customers began that are open or ended lately:
        one from the 30th of November to the 31st of December is closed in January.
        """
        now = self._sources.clock.now()
        months = {f"{now:%Y-%m}", f"{now.replace(day=1) - timedelta(days=1):%Y-%m}"}
        if tenant is not None:
            known = self._sources.counters.known(tenant)
            customers = customers_of((line.counter for line in known), self._sources.settings)
            starts = {
                one.calendar.period_of(at).start
                for one in customers.values()
                for at in (now, now - ENDED_LATELY)
            }
            months |= {f"{start:%Y-%m}" for start in starts}
        return sorted(months, reverse=True)

    # --- the steps of a run ---

    def _compare(self, facts: Facts, now: datetime) -> Row:
        return compare(facts, now, epsilon=self._epsilon)

    def _reads(self, most: int) -> Reads:
        try:
            left = self._budget.left(self._sources.clock.now())
        except RetryableError as error:
            log.warning("nobody knows how many reads are left, so only what closes: %s", error)
            left = 0
        return Reads(most=most, left=left, spare=left // SPARE_PART)

    def _survey(
        self, asked: Asked, rows: Mapping[Work, Row], reads: Reads, doubts: Iterable[Suspicion]
    ) -> Survey:
        return Survey(self._sources, asked, rows, reads, _texts(doubts), self._threads)

    def _doubts(self) -> list[Suspicion]:
        """What Stripe's error reports make us doubt, new ones included."""
        if self._signals is None:
            return []
        suspects.collect(*self._signals)
        return self._open()

    def _open(self) -> list[Suspicion]:
        return list(self._signals.suspects.open()) if self._signals is not None else []

    def _repair(self, facts: Sequence[Facts], now: datetime) -> list[Repair]:
        repairs = Repairs(self._sources.pushes, now)
        repairs.note_counted(facts)
        return repairs.take_back(facts)

    def _settle(
        self, doubts: Iterable[Suspicion], facts: Iterable[Facts], repairs: Iterable[Repair]
    ) -> None:
        """A doubt is settled when its push was taken back, or its stream's total agreed."""
        taken_back = {repair.identifier for repair in repairs}
        agreed = {
            sender
            for one in facts
            if one.stripe is not None and one.stripe.told is None and missing_at_stripe(one) == 0
            for stream in one.streams
            for sender in stream.sources
        }
        for doubt in doubts:
            if self._is_settled(doubt, taken_back, agreed):
                assert self._signals is not None
                self._signals.suspects.done(doubt)

    def _is_settled(self, doubt: Suspicion, taken_back: set[str], agreed: set[str]) -> bool:
        if doubt.identifier is None:
            # Every total is read within a day, whoever is in doubt.
            return self._sources.clock.now() >= doubt.reported_at + DOUBT_LASTS
        return doubt.identifier in taken_back or doubt.identifier.split(".")[1] in agreed


def _report(
    role: Role,
    asked: Asked,
    now: datetime,
    rows: Mapping[Work, Row],
    reads: int,
    repairs: Sequence[Repair],
    facts: Iterable[Facts],
) -> Report:
    closed = {_work_of(one) for one in facts if now >= takes_usage_until(one.period, one.close)}
    ordered = tuple(row for _, row in sorted(rows.items()))
    mark = () if role is Role.PRIMARY else (role,)
    return Report(
        id="rec_" + digest(join(asked.tenant, asked.month, times.to_text(now), *mark)).hex(),
        tenant=asked.tenant,
        month=asked.month,
        created_at=now,
        rows=ordered,
        stripe_reads=reads,
        repairs=tuple(repairs),
        proposals=tuple(proposals_for(ordered, [rows[one] for one in closed])),
        role=role,
    )


def _texts(doubts: Iterable[Suspicion]) -> dict[Identifier, str]:
    """What Stripe says of the pushes that its reports name."""
    return {
        one.identifier: f"{one.code}: {one.message}" for one in doubts if one.identifier is not None
    }


def _not_recut(rows: Mapping[Work, Row], fresh: Iterable[Work]) -> dict[Work, Row]:
    """The former rows, less those whose time is in other periods now: no run comes back to them."""
    periods: dict[CounterKey, list[Span]] = defaultdict(list)
    for counter, period in fresh:
        periods[counter].append(period)
    return {
        work: row
        for work, row in rows.items()
        if not any(_overlap(work.period, one) for one in periods[work.counter])
    }


def _overlap(one: Span, other: Span) -> bool:
    return one.start < other.end and other.start < one.end


def _by_work(rows: Iterable[Row]) -> dict[Work, Row]:
    return {Work(row.counter, row.period): row for row in rows}


def _work_of(facts: Facts) -> Work:
    return Work(facts.counter, facts.period)
