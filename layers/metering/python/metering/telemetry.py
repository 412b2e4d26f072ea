"""What is counted for operators, under which names, and how; the adapter keeps the numbers.

Names follow the peer's where they fit. Labels are bounded: never a tenant, never a customer.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from enum import Enum
from typing import TYPE_CHECKING

from metering.ingest import EventResult, Ingest, Status
from metering.names import IdempotencyKey, TenantId

if TYPE_CHECKING:
    from metering.ports import Clock, Metrics, Quarantine, Quarantined, Reports
    from metering.reconciliation import Report


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
    "scope_deny_total": Definition(Kind.COUNT, "Requests beyond their key's scopes.", _CALL),
    "recon_runs_total": Definition(Kind.COUNT, "Reconciliation reports made."),
    "reconciliation_diff_abs": Definition(
        Kind.GAUGE,
        "The greatest difference of the latest report made here, in the meter's unit.",
        ("meter",),
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

    def __init__(self, ingest: Ingest, metrics: "Metrics", clock: "Clock") -> None:
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


class CountedReports:
    """Reconciliation reports, with a note of each and of its greatest difference per meter."""

    def __init__(self, reports: "Reports", metrics: "Metrics") -> None:
        self._reports = reports
        self._metrics = metrics

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

    def latest(self, tenant: TenantId, month: str) -> "Report | None":
        """See `Reports.latest`."""
        return self._reports.latest(tenant, month)
