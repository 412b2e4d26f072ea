"""What is counted for operators, under which names, and how; the adapter keeps the numbers.

Names follow the peer's where they fit. Labels are bounded: never a tenant, never a customer.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import TYPE_CHECKING, Any

from metering.event_result import EventResult, Status
from metering.names import CustomerRef, IdempotencyKey, TenantId
from metering.period import Span
from metering.period_close import is_overdue
from metering.reconciliation import UNEXPLAINED
from metering.reconciliation import Status as RowStatus
from metering.webhook import Taken, Webhook, WebhookRefusedError

if TYPE_CHECKING:
    from metering.ingest import Ingest
    from metering.period_close import PeriodClose
    from metering.ports import Clock, Metrics, PeriodCloses, Quarantine, Quarantined, Reports
    from metering.push import Role
    from metering.reconciliation import Report, Row


class Kind(Enum):
    """How a number behaves."""

    COUNT = "count"
    DURATION = "duration"
    GAUGE = "gauge"


@dataclass(frozen=True, slots=True)
class Definition:
    """One name of the exposition."""

    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


_CALL = ("route", "method")

DEFINITIONS: dict[str, Definition] = {
    "http_requests_total": Definition(
        Kind.COUNT, "Requests answered.", ("method", "route", "status_code")
    ),
    "http_request_duration_seconds": Definition(
        Kind.DURATION,
        "From a request to its answer.",
        ("method", "route"),
        (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
    ),
    "events_ingested_total": Definition(Kind.COUNT, "Events accepted.", ("meter",)),
    "events_duplicate_total": Definition(Kind.COUNT, "Events that stood already.", ("meter",)),
    "events_conflict_total": Definition(
        Kind.COUNT, "Events refused because their key stands for other content.", ("meter",)
    ),
    "events_late_total": Definition(
        Kind.COUNT, "Events accepted and held back because they are late.", ("meter",)
    ),
    "events_refused_total": Definition(Kind.COUNT, "Events not taken.", ("retryable",)),
    "events_quarantined_total": Definition(Kind.COUNT, "Input set aside.", ("kind",)),
    "ingest_latency_ms": Definition(
        Kind.DURATION,
        "One ingest request, from its events to their results.",
        (),
        (5, 10, 25, 50, 100, 250, 500, 1000, 2500),
    ),
    "auth_fail_total": Definition(Kind.COUNT, "Requests without a valid key.", _CALL),
    "cross_tenant_block_total": Definition(
        Kind.COUNT, "Requests that named another tenant than their key's.", _CALL
    ),
    "rate_limited_total": Definition(
        Kind.COUNT, "Requests refused because their tenant or address sent too many.", ("of",)
    ),
    "scope_deny_total": Definition(Kind.COUNT, "Requests beyond their key's scopes.", _CALL),
    "stripe_webhooks_total": Definition(
        Kind.COUNT, "Events that Stripe delivered, by what became of them.", ("outcome",)
    ),
    "pushes_total": Definition(
        Kind.COUNT,
        "Pushes sent to Stripe, by whom they were for and what was answered.",
        ("role", "answer"),
    ),
    "pushes_held_total": Definition(
        Kind.COUNT,
        "Counters that a run of the writer could not tell to the last unit.",
        ("role", "reason"),
    ),
    "oldest_unsent_usage_seconds": Definition(
        Kind.GAUGE, "How long the oldest usage that Stripe has not accepted has waited."
    ),
    "oldest_unresolved_push_seconds": Definition(
        Kind.GAUGE,
        "How long ago the oldest push without a known outcome was first sent; at 23 hours it is"
        " never sent again before Stripe was asked.",
    ),
    "late_usage_ends_in_seconds": Definition(
        Kind.GAUGE,
        "Until the first end of a billing period of which usage has waited for more than 15"
        " minutes; 31 days where there is none.",
    ),
    "streams_stopped": Definition(
        Kind.GAUGE, "Streams that tell Stripe nothing until a person has decided."
    ),
    "closes_held": Definition(
        Kind.GAUGE, "Billing periods whose draft invoices are held because numbers differ."
    ),
    "closes_overdue": Definition(
        Kind.GAUGE, "Billing periods that are not held and should have been closed by now."
    ),
    "runs_total": Definition(
        Kind.COUNT,
        "Runs of scheduled functions that came to their end and did what they are there for.",
        ("function",),
    ),
    "shadow_runs_failed_total": Definition(
        Kind.COUNT, "Runs of the shadow's writer that ended in an error."
    ),
    "shadow_differs_rows": Definition(
        Kind.GAUGE, "Rows of which primary and shadow were told different numbers."
    ),
    "recon_runs_total": Definition(Kind.COUNT, "Reconciliation reports made."),
    "reconciliation_diff_abs": Definition(
        Kind.GAUGE,
        "The greatest difference of the latest report made here, in the meter's unit.",
        ("meter",),
    ),
    "reconciliation_drift_abs": Definition(
        Kind.GAUGE,
        "The greatest difference of the latest reports made here that time will not mend, in its"
        " meter's unit; alarm above 0.",
    ),
    "reconciliation_rows": Definition(
        Kind.GAUGE, "Rows of the latest reports made here that name a cause.", ("cause",)
    ),
    "reconciliation_unexplained_rows": Definition(
        Kind.GAUGE, "Those whose difference nobody can explain yet; alarm above 0."
    ),
    "reconciliation_repairs_total": Definition(
        Kind.COUNT, "Differences that runs put right.", ("cause",)
    ),
    "canary_lag_seconds": Definition(
        Kind.GAUGE, "From the acceptance of the canary's event until its counter held it."
    ),
    "canary_difference": Definition(
        Kind.GAUGE, "What the canary's counters hold less what it sent; alarm unless 0."
    ),
    "archive_lag_seconds": Definition(Kind.GAUGE, "How old the end of the ledger's archive is."),
    "archive_exports_failed_total": Definition(
        Kind.COUNT, "Exports of the ledger that failed; each is repeated."
    ),
}


class NoMetrics:
    """Answers `metering.ports.Metrics` where numbers are switched off."""

    def count(self, name: str, by: float = 1, **labels: str) -> None:
        """Nothing is kept."""

    def observe(self, name: str, value: float, **labels: str) -> None:
        """Nothing is kept."""

    def gauge(self, name: str, value: float, **labels: str) -> None:
        """Nothing is kept."""

    def flush(self) -> None:
        """Nothing is kept."""

    def exposition(self) -> tuple[str, str] | None:
        """None: there is nothing to show."""
        return None


NO_METRICS = NoMetrics()

_NAME_OF = {
    Status.ACCEPTED: "events_ingested_total",
    Status.DUPLICATE: "events_duplicate_total",
    Status.CONFLICT: "events_conflict_total",
}


class CountedIngest:
    """Ingest, with a note of what became of each request's events."""

    def __init__(self, ingest: "Ingest", metrics: "Metrics", clock: "Clock") -> None:
        self._ingest = ingest
        self._metrics = metrics
        self._clock = clock

    def take(
        self, sent: Sequence[object], *, tenant: TenantId | None, header_key: str | None = None
    ) -> list[EventResult]:
        """See `Ingest.take`."""
        started_at = self._clock.now()
        results = self._ingest.take(sent, tenant=tenant, header_key=header_key)
        took = self._clock.now() - started_at
        count_results(self._metrics, results, took / timedelta(milliseconds=1))
        return results


def count_results(metrics: "Metrics", results: Sequence[EventResult], took_ms: float) -> None:
    """Note what became of one request's events; one update per outcome and meter, not per event."""
    for (status, meter, retryable), number in Counter(map(_outcome, results)).items():
        if status is Status.ERROR:
            metrics.count("events_refused_total", number, retryable=retryable)
        else:
            metrics.count(_NAME_OF[status], number, meter=meter)
    for meter, number in Counter(
        result.metric or "" for result in results if result.is_late
    ).items():
        metrics.count("events_late_total", number, meter=meter)
    metrics.observe("ingest_latency_ms", took_ms)


def _outcome(result: EventResult) -> tuple[Status, str, str]:
    return result.status, result.metric or "", "yes" if result.retryable else "no"


class CountedQuarantine:
    """The quarantine, with a note of what was put there; redelivered input is noted again."""

    def __init__(self, quarantine: "Quarantine", metrics: "Metrics") -> None:
        self._quarantine = quarantine
        self._metrics = metrics

    def put(self, items: Sequence["Quarantined"]) -> None:
        """See `Quarantine.put`."""
        self._quarantine.put(items)
        for kind, number in Counter(item.kind for item in items).items():
            self._metrics.count("events_quarantined_total", number, kind=kind)

    def of_key(self, tenant: TenantId, key: IdempotencyKey) -> list["Quarantined"]:
        """See `Quarantine.of_key`."""
        return self._quarantine.of_key(tenant, key)

    def newest(self, tenant: TenantId | None, limit: int) -> list["Quarantined"]:
        """See `Quarantine.newest`."""
        return self._quarantine.newest(tenant, limit)


NOT_KEPT = "not_kept"
"""A webhook's outcome when it could not be stored; Stripe delivers it again."""


class CountedWebhook:
    """Stripe's webhooks, with a note of what became of each; refused ones under their reason."""

    def __init__(self, webhook: Webhook, metrics: "Metrics") -> None:
        self._webhook = webhook
        self._metrics = metrics

    def take(self, body: bytes, signature: str) -> Taken:
        """See `Webhook.take`."""
        return self._counted(lambda: self._webhook.take(body, signature))

    def take_unsigned(self, event: object) -> Taken:
        """See `Webhook.take_unsigned`."""
        return self._counted(lambda: self._webhook.take_unsigned(event))

    def _counted(self, take: Callable[[], Taken]) -> Taken:
        try:
            taken = take()
        except WebhookRefusedError as refusal:
            self._note(refusal.reason)
            raise
        except Exception:
            self._note(NOT_KEPT)
            raise
        self._note(taken.outcome)
        return taken

    def _note(self, outcome: str) -> None:
        self._metrics.count("stripe_webhooks_total", outcome=outcome)


_BACKLOG = {
    "oldest_unsent_s": "oldest_unsent_usage_seconds",
    "oldest_unresolved_s": "oldest_unresolved_push_seconds",
    "ends_in_s": "late_usage_ends_in_seconds",
    "stopped": "streams_stopped",
}


def count_run(metrics: "Metrics", told: Mapping[str, Any], role: "Role") -> None:
    """Note what a run of the writer told Stripe, what it held back, and what still waits."""
    for answer, number in told.get("answers", {}).items():
        metrics.count("pushes_total", number, role=role, answer=answer)
    for reason, number in told.get("held", {}).items():
        metrics.count("pushes_held_total", number, role=role, reason=reason)
    if role == "primary" and "skipped" not in told:
        for name, value in told["backlog"].items():
            metrics.gauge(_BACKLOG[name], value)
        metrics.count("runs_total", function="writer")


class CountedCloses:
    """The ends of billing periods, with a note of how those stand that are not closed."""

    def __init__(self, closes: "PeriodCloses", metrics: "Metrics", clock: "Clock") -> None:
        self._closes = closes
        self._metrics = metrics
        self._clock = clock

    def of(self, tenant: TenantId, customer: CustomerRef, period: Span) -> "PeriodClose | None":
        """See `PeriodCloses.of`."""
        return self._closes.of(tenant, customer, period)

    def of_month(self, tenant: TenantId, month: str) -> Iterator["PeriodClose"]:
        """See `PeriodCloses.of_month`."""
        return self._closes.of_month(tenant, month)

    def unfinished(self) -> Iterator["PeriodClose"]:
        """See `PeriodCloses.unfinished`; noted when all were read."""
        held = overdue = 0
        now: datetime = self._clock.now()
        for close in self._closes.unfinished():
            held += close.is_held
            overdue += is_overdue(close, now)
            yield close
        self._metrics.gauge("closes_held", held)
        self._metrics.gauge("closes_overdue", overdue)

    def to_hold(self, now: datetime) -> Iterator["PeriodClose"]:
        """See `PeriodCloses.to_hold`."""
        return self._closes.to_hold(now)

    def store(self, close: "PeriodClose") -> "PeriodClose | None":
        """See `PeriodCloses.store`."""
        return self._closes.store(close)


class CountedReports:
    """Reconciliation reports, with a note of each and of its greatest difference per meter."""

    def __init__(self, reports: "Reports", metrics: "Metrics") -> None:
        self._reports = reports
        self._metrics = metrics
        self._rows_by_cause: dict[tuple[TenantId, str], Counter[str]] = {}
        self._drifts: dict[tuple[TenantId, str], Decimal] = {}

    def save(self, report: "Report") -> None:
        """See `Reports.save`."""
        self._reports.save(report)
        self._metrics.count("recon_runs_total")
        worst: dict[str, Decimal] = {}
        for row in report.rows:
            name = row.counter.metric
            worst[name] = max(worst.get(name, Decimal(0)), abs(row.difference))
        for meter, difference in worst.items():
            self._metrics.gauge("reconciliation_diff_abs", float(difference), meter=meter)
        drift = max((row.drift for row in report.rows), default=Decimal(0))
        self._drifts[report.tenant, report.month] = drift
        self._metrics.gauge("reconciliation_drift_abs", float(max(self._drifts.values())))
        self._note_causes(report)

    def _note_causes(self, report: "Report") -> None:
        """Over the latest report of each tenant and month: labels hold neither."""
        before = sum(self._rows_by_cause.values(), Counter())
        causes = Counter(cause for row in report.rows for cause in _causes_of(row))
        self._rows_by_cause[report.tenant, report.month] = causes
        now = sum(self._rows_by_cause.values(), Counter())
        for cause in before.keys() | now.keys():
            if cause:
                self._metrics.gauge("reconciliation_rows", now[cause], cause=cause)
        self._metrics.gauge("reconciliation_unexplained_rows", now[""])
        for repair in report.repairs:
            self._metrics.count("reconciliation_repairs_total", cause=repair.cause)

    def latest(self, tenant: TenantId, month: str) -> "Report | None":
        """See `Reports.latest`."""
        return self._reports.latest(tenant, month)


def _causes_of(row: "Row") -> set[str]:
    """A row's causes, and an empty one when nobody can explain it yet."""
    causes: set[str] = {finding.cause for finding in row.findings}
    is_unexplained = row.status is RowStatus.INVESTIGATE and causes & UNEXPLAINED
    return causes | {""} if is_unexplained else causes
