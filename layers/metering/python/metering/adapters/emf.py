"""Numbers for operators as lines of the log that CloudWatch reads as metrics, one an invocation.

CloudWatch bills every distinct metric, $0.30 a month, and its dimensions multiply them; so labels
become part of a metric's name where an alarm or the dashboard needs them, by the table below, and
what is in no row of it is not written. Format: CloudWatch's embedded metric format, as AWS Lambda
Powertools writes it.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from threading import Lock
from typing import Any

from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.metrics.provider.cloudwatch_emf.cloudwatch import (
    AmazonCloudWatchEMFProvider,
)

from metering.telemetry import DEFINITIONS, Kind

NAMESPACE = "StripeMeter"
DIMENSION = "deployment"
"""The only one: never a tenant, a customer or a meter."""


@dataclass(frozen=True, slots=True)
class Rule:
    """Which values of one number a metric of CloudWatch's adds up."""

    source: str
    """A name of `metering.telemetry.DEFINITIONS`."""
    label: str = ""
    values: frozenset[str] = frozenset()
    """Of that label; empty takes the number whatever its labels are."""


def _of(source: str, label: str = "", *values: str) -> Rule:
    return Rule(source, label, frozenset(values))


_ANSWERS = "pushes_total"
_ROWS = "reconciliation_rows"

RULES: dict[str, Rule] = {
    "EventsAccepted": _of("events_ingested_total"),
    "EventsDuplicate": _of("events_duplicate_total"),
    "EventsConflict": _of("events_conflict_total"),
    "EventsRefused": _of("events_refused_total", "retryable", "no"),
    "EventsFailed": _of("events_refused_total", "retryable", "yes"),
    "EventsQuarantined": _of("events_quarantined_total"),
    "WebhooksRefused": _of(
        "stripe_webhooks_total",
        "outcome",
        "no_signature",
        "malformed_signature",
        "wrong_secret",
        "too_old",
        "from_future",
    ),
    "PushesAccepted": _of(_ANSWERS, "answer", "accepted", "already_exists"),
    "StripeRefused": _of(_ANSWERS, "answer", "refused", "key_reused", "not_allowed", "in_flight"),
    "StripeRateLimited": _of(_ANSWERS, "answer", "rate_limited"),
    "StripeServerError": _of(_ANSWERS, "answer", "server_error"),
    "StripeUnreachable": _of(_ANSWERS, "answer", "outcome_unknown"),
    "CountersHeld": _of("pushes_held_total", "role", "primary"),
    "AccountPaused": _of("pushes_held_total", "reason", "account_paused"),
    "OldestUnsentUsage": _of("oldest_unsent_usage_seconds"),
    "OldestUnresolvedPush": _of("oldest_unresolved_push_seconds"),
    "LateUsageEndsIn": _of("late_usage_ends_in_seconds"),
    "StreamsStopped": _of("streams_stopped"),
    "ShadowDiffers": _of("shadow_differs_rows"),
    "Drift": _of("reconciliation_drift_abs"),
    "RowsUnexplained": _of("reconciliation_unexplained_rows"),
    "RowsCounterWrong": _of(_ROWS, "cause", "counter_wrong"),
    "RowsLateHeld": _of(_ROWS, "cause", "late_held"),
    "RowsSetUpWrong": _of(
        _ROWS,
        "cause",
        "meter_inactive",
        "meter_changed",
        "price_not_on_meter",
        "customer_deleted",
        "subscription_item_missing",
        "two_subscriptions",
    ),
    "ClosesHeld": _of("closes_held"),
    "ClosesOverdue": _of("closes_overdue"),
    "CanaryLag": _of("canary_lag_seconds"),
    "CanaryDifference": _of("canary_difference"),
    "WriterRan": _of("runs_total", "function", "writer"),
    "PeriodCloserRan": _of("runs_total", "function", "period_closer"),
    "ReconcilerRan": _of("runs_total", "function", "reconciler"),
    "LaneFolderRan": _of("runs_total", "function", "lane_folder"),
    "RebuilderRan": _of("runs_total", "function", "rebuilder"),
    "CanaryRan": _of("runs_total", "function", "canary"),
    "ArchiverRan": _of("runs_total", "function", "archiver"),
}
"""35 metrics by their names on CloudWatch: $10.50 a month where all of them are written."""


class EmfMetrics:
    """Answers `metering.ports.Metrics`: counts of an invocation are summed, of gauges the last."""

    def __init__(self, deployment: str) -> None:
        self._provider = AmazonCloudWatchEMFProvider(
            namespace=NAMESPACE, default_dimensions={DIMENSION: deployment}
        )
        # Else a POWERTOOLS_SERVICE_NAME in the environment would become a second dimension.
        self._provider.service = ""
        self._lock = Lock()
        self._counts: dict[str, float] = defaultdict(float)
        self._gauges: dict[str, dict[tuple[tuple[str, str], ...], float]] = defaultdict(dict)

    def count(self, name: str, by: float = 1, **labels: str) -> None:
        """Raise a count."""
        with self._lock:
            for metric in _metrics_of(name, labels):
                self._counts[metric] += by

    def observe(self, name: str, value: float, **labels: str) -> None:
        """Nothing: how long functions and requests take, AWS measures by itself."""

    def gauge(self, name: str, value: float, **labels: str) -> None:
        """Set what something is now; gauges of several labels are added up in the end."""
        with self._lock:
            for metric in _metrics_of(name, labels):
                self._gauges[metric][tuple(sorted(labels.items()))] = value

    def flush(self) -> None:
        """Write one line with all that was noted since the last, or none where nothing was."""
        with self._lock:
            if not (self._counts or self._gauges):
                return
            for metric, value in self._noted():
                self._provider.add_metric(metric, _unit_of(metric), value)
            self._counts.clear()
            self._gauges.clear()
            self._provider.flush_metrics()

    def exposition(self) -> tuple[str, str] | None:
        """None: nobody comes for them."""
        return None

    def _noted(self) -> Iterator[tuple[str, float]]:
        yield from self._counts.items()
        for metric, values in self._gauges.items():
            yield metric, sum(values.values())


def _metrics_of(name: str, labels: dict[str, Any]) -> Iterator[str]:
    """The metrics that take a number with these labels."""
    for metric in _BY_SOURCE.get(name, ()):
        rule = RULES[metric]
        if not rule.label or labels.get(rule.label) in rule.values:
            yield metric


_BY_SOURCE: dict[str, list[str]] = defaultdict(list)
for _metric, _rule in RULES.items():
    _BY_SOURCE[_rule.source].append(_metric)


def _unit_of(metric: str) -> MetricUnit:
    source = RULES[metric].source
    if source.endswith("_seconds"):
        return MetricUnit.Seconds
    return MetricUnit.Count if DEFINITIONS[source].kind is Kind.COUNT else MetricUnit.NoUnit
