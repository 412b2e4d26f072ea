"""The dashboard: the way of events from left to right, a column for each station."""

from dataclasses import dataclass

from infra.alarms import OURS, Kind, Metric
from infra.functions import AGGREGATOR, API, INGEST, INGEST_QUEUE, WRITER, Queue
from infra.tables import COUNTERS, EVENTS

WIDTH = 24
"""Of a dashboard of CloudWatch, in its own units."""


@dataclass(frozen=True, slots=True)
class Graph:
    """Some numbers over time, by the words that stand beside their lines."""

    title: str
    lines: dict[str, Metric]


@dataclass(frozen=True, slots=True)
class Station:
    """One column."""

    name: str
    says: str
    width: int
    graphs: tuple[Graph, ...]


def _ours(**names: str) -> dict[str, Metric]:
    """Sums of our own numbers."""
    return {
        word.replace("_", " "): Metric(OURS, name, "Sum", Kind.DEPLOYMENT)
        for word, name in names.items()
    }


def _now(**names: str) -> dict[str, Metric]:
    """Our own numbers of what something is at the moment."""
    return {
        word.replace("_", " "): Metric(OURS, name, "Maximum", Kind.DEPLOYMENT)
        for word, name in names.items()
    }


def _api(name: str, statistic: str = "Sum") -> Metric:
    return Metric("AWS/ApiGateway", name, statistic, Kind.API)


def _lambda(name: str, statistic: str, of: str) -> Metric:
    return Metric("AWS/Lambda", name, statistic, Kind.FUNCTION, of)


def _table(name: str, of: str) -> Metric:
    return Metric("AWS/DynamoDB", name, "Sum", Kind.TABLE, of)


def _queue(name: str, of: str) -> Metric:
    return Metric("AWS/SQS", name, "Maximum", Kind.QUEUE, of)


_QUEUE = INGEST_QUEUE.trigger
assert isinstance(_QUEUE, Queue)

STATIONS: tuple[Station, ...] = (
    Station(
        "Ingest",
        "over HTTPS and from the queue",
        4,
        (
            Graph("Requests", {"all": _api("Count"), "4xx": _api("4xx"), "5xx": _api("5xx")}),
            Graph(
                "Ingest takes, ms",
                {
                    "p50": _lambda("Duration", "p50", INGEST.name),
                    "p99": _lambda("Duration", "p99", INGEST.name),
                    "p99 of all else": _lambda("Duration", "p99", API.name),
                },
            ),
            Graph(
                "Queue",
                {
                    "waiting": _queue("ApproximateNumberOfMessagesVisible", _QUEUE.name),
                    "oldest, s": _queue("ApproximateAgeOfOldestMessage", _QUEUE.name),
                    "dead": _queue("ApproximateNumberOfMessagesVisible", _QUEUE.dead_letter_name),
                },
            ),
        ),
    ),
    Station(
        "Ledger",
        "each event once, for ever",
        4,
        (
            Graph(
                "Events",
                _ours(
                    accepted="EventsAccepted",
                    duplicate="EventsDuplicate",
                    conflict="EventsConflict",
                ),
            ),
            Graph(
                "Not taken",
                _ours(
                    refused="EventsRefused", failed="EventsFailed", quarantined="EventsQuarantined"
                ),
            ),
            Graph(
                "Write units",
                {
                    "used": _table("ConsumedWriteCapacityUnits", EVENTS.name),
                    "throttled": _table("WriteThrottleEvents", EVENTS.name),
                },
            ),
        ),
    ),
    Station(
        "Stream",
        "read by the aggregator",
        3,
        (
            Graph("Behind, ms", {"oldest": _lambda("IteratorAge", "Maximum", AGGREGATOR.name)}),
            Graph(
                "Batches",
                {
                    "all": _lambda("Invocations", "Sum", AGGREGATOR.name),
                    "errors": _lambda("Errors", "Sum", AGGREGATOR.name),
                },
            ),
            Graph("A batch takes, ms", {"p99": _lambda("Duration", "p99", AGGREGATOR.name)}),
        ),
    ),
    Station(
        "Counters",
        "lanes, folded into totals",
        3,
        (
            Graph(
                "Write units",
                {
                    "used": _table("ConsumedWriteCapacityUnits", COUNTERS.name),
                    "throttled": _table("WriteThrottleEvents", COUNTERS.name),
                },
            ),
            Graph("Canary: counted after, s", _now(lag="CanaryLag")),
            Graph("Canary: off by", _now(difference="CanaryDifference")),
        ),
    ),
    Station(
        "Writer",
        "plan, stamp, send, commit",
        3,
        (
            Graph("Oldest unsent, s", _now(usage="OldestUnsentUsage", push="OldestUnresolvedPush")),
            Graph("Held and stopped", _now(held="CountersHeld", stopped="StreamsStopped")),
            Graph("A run takes, ms", {"longest": _lambda("Duration", "Maximum", WRITER.name)}),
        ),
    ),
    Station(
        "Stripe",
        "what it answers, and tells us",
        4,
        (
            Graph(
                "Pushes",
                _ours(
                    accepted="PushesAccepted", refused="StripeRefused", limited="StripeRateLimited"
                ),
            ),
            Graph("Trouble", _ours(failed="StripeServerError", unreachable="StripeUnreachable")),
            Graph("Webhooks", _ours(refused="WebhooksRefused")),
        ),
    ),
    Station(
        "Reconciler",
        "do all four numbers agree?",
        3,
        (
            Graph("Drift", _now(drift="Drift")),
            Graph("Rows", _now(unexplained="RowsUnexplained", counter_wrong="RowsCounterWrong")),
            Graph("Closing", _now(held="ClosesHeld", overdue="ClosesOverdue")),
        ),
    ),
)
