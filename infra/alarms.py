"""When an operator is told: every alarm, and all that CloudWatch must know of it.

An alarm is a row. `page` wakes somebody, for money or usage is lost if nobody comes; `warn` is for
the day. Each has a section in `docs/runbook.md`, which says how long there is and what to do. Our
own numbers are those of `metering.adapters.emf`, once an invocation, under the one dimension
`deployment`; all others AWS measures at no price.

CloudWatch bills $0.10 a month for each metric that an alarm reads. `python -m infra.alarms prod`
prints the table with its price: $7.80 for `prod` and for `dev` as they stand.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from infra.deployments import Deployment
from infra.functions import (
    AGGREGATOR,
    API,
    INGEST,
    INGEST_QUEUE,
    STRIPE_WEBHOOK,
    Function,
    Queue,
    Schedule,
)
from infra.tables import TABLES

PRICE = 0.10
"""Dollars a month for one metric of one alarm."""
OURS = "StripeMeter"
"""The namespace of our own numbers."""
HOUR_S, DAY_S = 3600, 24 * 3600


class Severity(StrEnum):
    """Whom an alarm tells."""

    WARN = "warn"
    """Somebody during the day."""
    PAGE = "page"
    """Somebody now."""


class Missing(StrEnum):
    """What CloudWatch takes a period without data for; the values are its own words."""

    BREACHING = "breaching"
    FINE = "notBreaching"
    AS_BEFORE = "ignore"


class Comparison(StrEnum):
    """When a value breaches the threshold; the values are CloudWatch's own words."""

    AT_LEAST = "GreaterThanOrEqualToThreshold"
    ABOVE = "GreaterThanThreshold"
    BELOW = "LessThanThreshold"
    AT_MOST = "LessThanOrEqualToThreshold"


class Kind(StrEnum):
    """What a metric is of, by the dimension that names it."""

    DEPLOYMENT = "deployment"
    """Ours: the deployment's name."""
    FUNCTION = "FunctionName"
    """With the deployment's prefix."""
    TABLE = "TableName"
    """With the deployment's prefix."""
    INDEX = "GlobalSecondaryIndexName"
    """Beside its table's name: `of` is `table/index`. A table's metrics leave its indexes out."""
    QUEUE = "QueueName"
    """With the deployment's prefix."""
    MAPPING = "EventSourceMappingUUID"
    """Of the named function's event source mapping; it is known only when that is made, and must
    have `MetricsConfig` with `EventCount`."""
    API = "ApiId"
    """Known only when the API is made; of all its stages and routes."""
    ACCOUNT = ""
    """No dimension: all of the account in the region."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric of CloudWatch and how its values of a period become one."""

    namespace: str
    name: str
    statistic: str
    """`Sum`, `Maximum`, `Minimum` or `p99`."""
    kind: Kind
    of: str = ""
    """Without the deployment's prefix; empty where the kind leaves no choice."""

    def dimension(self, deployment: Deployment) -> dict[str, str]:
        """The dimensions; what is known only when it is made stands there as `${name}`."""
        match self.kind:
            case Kind.DEPLOYMENT:
                return {self.kind: deployment.name}
            case Kind.FUNCTION | Kind.TABLE | Kind.QUEUE:
                return {self.kind: deployment.prefix + self.of}
            case Kind.INDEX:
                table, _, index = self.of.partition("/")
                return {Kind.TABLE: deployment.prefix + table, self.kind: index}
            case Kind.MAPPING:
                return {self.kind: f"${{{self.of}-mapping}}"}
            case Kind.API:
                return {self.kind: "${api}"}
            case Kind.ACCOUNT:
                return {}


@dataclass(frozen=True, slots=True)
class Alarm:
    """One row: nothing else needs to be known to make it."""

    name: str
    """`stripemeter-<env>-` stands before it."""
    says: str
    """What is the matter, in one sentence."""
    metrics: dict[str, Metric]
    """By the name under which the expression knows them."""
    threshold: float
    severity: Severity
    section: str
    """The anchor of its section in `docs/runbook.md`."""
    expression: str = ""
    """Of CloudWatch's metric math; empty where there is one metric and nothing to reckon."""
    comparison: Comparison = Comparison.AT_LEAST
    period_s: int = 300
    periods: int = 1
    """So many in a row must breach."""
    missing: Missing = Missing.FINE

    @property
    def price(self) -> float:
        """Dollars a month."""
        return PRICE * len(self.metrics)

    @property
    def runbook(self) -> str:
        """Where the alarm sends its reader, within the repository."""
        return f"docs/runbook.md#{self.section}"


def alarms_of(deployment: Deployment) -> tuple[Alarm, ...]:
    """All alarms of a deployment, in the order of an event's way."""
    return (
        *_ingest(),
        *_counting(),
        *_dead_letters(deployment),
        *_telling(),
        *_closing(),
        *_comparing(deployment),
        *_heartbeats(deployment),
        *_canary(deployment),
        *_machinery(deployment),
    )


def _ours(name: str, statistic: str = "Sum") -> dict[str, Metric]:
    return {"value": Metric(OURS, name, statistic, Kind.DEPLOYMENT)}


def _lambda(name: str, statistic: str, function: Function) -> dict[str, Metric]:
    return {"value": Metric("AWS/Lambda", name, statistic, Kind.FUNCTION, function.name)}


def _queue(name: str, queue: str) -> dict[str, Metric]:
    return {"value": Metric("AWS/SQS", name, "Maximum", Kind.QUEUE, queue)}


# --- events come in -------------------------------------------------------------------------------


def _ingest() -> Iterator[Alarm]:
    yield Alarm(
        "api-5xx",
        "The HTTP API answers 5xx: customers' requests fail.",
        {"value": Metric("AWS/ApiGateway", "5xx", "Sum", Kind.API)},
        5,
        Severity.PAGE,
        "api-answers-5xx",
        periods=2,
    )
    yield Alarm(
        "events-failed",
        "Events are answered with an error that says: send it again.",
        _ours("EventsFailed"),
        1,
        Severity.PAGE,
        "events-cannot-be-stored",
        periods=3,
    )
    yield Alarm(
        "ingest-slow",
        "One in a hundred requests to ingest takes more than 3 seconds.",
        _lambda("Duration", "p99", INGEST),
        3_000,
        Severity.WARN,
        "ingest-is-slow",
        periods=3,
    )
    yield Alarm(
        "duplicates",
        "More than half of the events of a busy quarter of an hour were sent before.",
        _ours("EventsDuplicate")
        | {"fresh": Metric(OURS, "EventsAccepted", "Sum", Kind.DEPLOYMENT)},
        50,
        Severity.WARN,
        "duplicate-storm",
        "IF(FILL(value, 0) + FILL(fresh, 0) >= 1000,"
        " 100 * FILL(value, 0) / (FILL(value, 0) + FILL(fresh, 0)), 0)",
        Comparison.ABOVE,
        periods=3,
    )
    yield Alarm(
        "conflicts",
        "Events come under keys that stand for other content: their usage is not counted.",
        _ours("EventsConflict"),
        1,
        Severity.WARN,
        "conflicts",
    )
    yield Alarm(
        "quarantine",
        "Input was set aside: nothing counts it until a person has looked.",
        _ours("EventsQuarantined"),
        1,
        Severity.WARN,
        "quarantine",
    )
    queue = INGEST_QUEUE.trigger
    assert isinstance(queue, Queue)
    for name, age_s, severity in (
        ("queue-behind", 900, Severity.WARN),
        ("queue-far-behind", 4 * HOUR_S, Severity.PAGE),
    ):
        yield Alarm(
            name,
            f"The oldest usage event in the queue has waited for {_span(age_s)}.",
            _queue("ApproximateAgeOfOldestMessage", queue.name),
            age_s,
            severity,
            "queue-falls-behind",
            periods=2,
        )


# --- events are counted ---------------------------------------------------------------------------


def _counting() -> Iterator[Alarm]:
    for name, age_s, says, severity in (
        ("counters-behind", 300, "5 minutes", Severity.WARN),
        ("counters-far-behind", HOUR_S, "an hour", Severity.PAGE),
        ("counters-lost", 12 * HOUR_S, "12 hours; at 24 records are lost", Severity.PAGE),
    ):
        yield Alarm(
            name,
            f"The oldest record that the aggregator has not folded is older than {says}.",
            _lambda("IteratorAge", "Maximum", AGGREGATOR),
            1000 * age_s,
            severity,
            "counters-must-be-rebuilt" if name == "counters-lost" else "counters-fall-behind",
            periods=2,
        )
    delivered = "OnFailureDestinationDeliveredEventCount"
    yield Alarm(
        "failed-batches",
        "Records of the ledger's stream were given up: they stand in no counter.",
        {"value": Metric("AWS/Lambda", delivered, "Sum", Kind.MAPPING, AGGREGATOR.name)},
        1,
        Severity.PAGE,
        "failed-batches",
    )
    yield Alarm(
        "failed-batches-lost",
        "Records that were given up could not be put into the bucket for them either.",
        _lambda("DestinationDeliveryFailures", "Sum", AGGREGATOR),
        1,
        Severity.PAGE,
        "failed-batches",
    )


def _dead_letters(deployment: Deployment) -> Iterator[Alarm]:
    queue, rule = INGEST_QUEUE.trigger, STRIPE_WEBHOOK.also
    assert isinstance(queue, Queue)
    assert rule is not None
    rows = [
        (queue.dead_letter_name, "Usage events failed five times and wait", Severity.PAGE),
        ("schedules-dead", "A scheduled run could not be started", Severity.WARN),
    ]
    if deployment.partner_event_bus:
        rows.append((rule.dead_letter_name, "Events of Stripe's bus were not kept", Severity.WARN))
    if deployment.warehouse:
        rows.append(("warehouse-dead", "Events did not reach the warehouse", Severity.WARN))
    for name, says, severity in rows:
        yield Alarm(
            name,
            f"{says}: {name} holds a message.",
            _queue("ApproximateNumberOfMessagesVisible", name),
            1,
            severity,
            "dead-letters",
        )


# --- stripe is told -------------------------------------------------------------------------------


def _telling() -> Iterator[Alarm]:
    yield Alarm(
        "unresolved-push",
        "Nobody knows for 20 hours whether a push counted; at 23 it is never sent again.",
        _ours("OldestUnresolvedPush", "Maximum"),
        20 * HOUR_S,
        Severity.PAGE,
        "a-push-stays-unresolved",
    )
    for name, age_s, severity in (
        ("unsent-usage", HOUR_S, Severity.WARN),
        ("unsent-usage-old", 12 * HOUR_S, Severity.PAGE),
    ):
        yield Alarm(
            name,
            f"Usage has waited to be told to Stripe for {_span(age_s)}.",
            _ours("OldestUnsentUsage", "Maximum"),
            age_s,
            severity,
            "usage-is-not-told",
            periods=3,
        )
    yield Alarm(
        "period-ends",
        "A billing period ends within 2 hours, and usage of it is late.",
        _ours("LateUsageEndsIn", "Minimum"),
        2 * HOUR_S,
        Severity.PAGE,
        "a-period-ends-with-late-usage",
        comparison=Comparison.AT_MOST,
    )
    yield Alarm(
        "streams-stopped",
        "A stream tells Stripe nothing until a person has decided.",
        _ours("StreamsStopped", "Maximum"),
        1,
        Severity.WARN,
        "a-stream-waits-for-a-person",
        periods=3,
    )
    yield Alarm(
        "account-paused",
        "Stripe refuses our key: no push of that account is sent.",
        _ours("AccountPaused"),
        1,
        Severity.PAGE,
        "stripe-refuses-our-key",
        periods=2,
    )
    yield Alarm(
        "stripe-4xx",
        "Stripe refuses pushes: a meter, a customer or a mapping is not as it was.",
        _ours("StripeRefused"),
        1,
        Severity.WARN,
        "stripe-refuses-pushes",
        periods=2,
    )
    yield Alarm(
        "stripe-429",
        "Stripe answers that we send too much.",
        _ours("StripeRateLimited"),
        50,
        Severity.WARN,
        "stripe-limits-us",
        periods=3,
    )
    # Two alarms and no sum: of a metric that was never written there is nothing to fill.
    for name, metric, says in (
        ("stripe-5xx", "StripeServerError", "Stripe answers that it fails."),
        ("stripe-unreachable", "StripeUnreachable", "Stripe cannot be reached."),
    ):
        yield Alarm(name, says, _ours(metric), 5, Severity.WARN, "stripe-fails", periods=3)
    yield Alarm(
        "webhook-signatures",
        "Webhooks come whose signature is wrong: the secret was changed, or somebody tries.",
        _ours("WebhooksRefused"),
        3,
        Severity.WARN,
        "webhook-signatures-fail",
        period_s=900,
    )


def _closing() -> Iterator[Alarm]:
    yield Alarm(
        "closes-held",
        "Draft invoices are held for an hour because our numbers and Stripe's differ.",
        _ours("ClosesHeld", "Minimum"),
        1,
        Severity.WARN,
        "invoices-are-held",
        period_s=900,
        periods=4,
    )
    yield Alarm(
        "closes-overdue",
        "Billing periods should have been closed for 12 hours and are not.",
        _ours("ClosesOverdue", "Maximum"),
        1,
        Severity.PAGE,
        "closes-are-overdue",
        periods=3,
    )


# --- everything is compared -----------------------------------------------------------------------


def _comparing(deployment: Deployment) -> Iterator[Alarm]:
    rows = [
        ("drift", "Drift", "Ledger, counters, pushes and Stripe differ for good.", Severity.PAGE),
        (
            "unexplained",
            "RowsUnexplained",
            "A reconciliation's difference has no explanation yet.",
            Severity.PAGE,
        ),
        (
            "counters-wrong",
            "RowsCounterWrong",
            "A counter is not what its ledger adds up to: it must be rebuilt.",
            Severity.PAGE,
        ),
        (
            "set-up-wrong",
            "RowsSetUpWrong",
            "Meters, prices or subscriptions at Stripe are not what mappings were made for.",
            Severity.WARN,
        ),
        ("late-held", "RowsLateHeld", "Late events await approval.", Severity.WARN),
    ]
    if deployment.shadow:
        says = "The shadow was told other numbers than the primary."
        rows.append(("shadow-differs", "ShadowDiffers", says, Severity.WARN))
    for name, metric, says, severity in rows:
        yield Alarm(
            name,
            says,
            _ours(metric, "Maximum"),
            0,
            severity,
            _SECTIONS[name],
            comparison=Comparison.ABOVE,
            # A report is as old as the last run, so silence changes nothing.
            missing=Missing.AS_BEFORE,
        )


_SECTIONS = {
    "drift": "drift",
    "unexplained": "drift",
    "counters-wrong": "a-counter-is-wrong",
    "set-up-wrong": "the-set-up-at-stripe-is-wrong",
    "late-held": "late-events-await-approval",
    "shadow-differs": "the-shadow-differs",
}

# --- everything still runs ------------------------------------------------------------------------

_CAN_WAIT = frozenset({"lane_folder", "archiver", "rebuilder"})
"""Nothing is lost while these do not run for a day."""


def _heartbeats(deployment: Deployment) -> Iterator[Alarm]:
    for function in deployment.functions:
        if not isinstance(function.trigger, Schedule):
            continue
        every_s = deployment.every_s(function.name, function.trigger)
        period_s, periods = beat_of(max(every_s, function.timeout_s))
        yield Alarm(
            f"{function.name.replace('_', '-')}-silent",
            f"No run of {function.name} has ended well for {_span(period_s * periods)}.",
            _ours(heartbeat_of(function)),
            1,
            Severity.WARN if function.name in _CAN_WAIT else Severity.PAGE,
            "a-schedule-is-silent",
            comparison=Comparison.BELOW,
            period_s=period_s,
            periods=periods,
            missing=Missing.BREACHING,
        )


def heartbeat_of(function: Function) -> str:
    """The metric that a scheduled function leaves at the end of a good run."""
    return function.name.title().replace("_", "") + "Ran"


def beat_of(run_s: int) -> tuple[int, int]:
    """Period in seconds and number of periods after which silence is no accident any more.

    `run_s` is how far apart the ends of runs may be: the schedule's time, or the longest run's.
    CloudWatch takes whole minutes, and looks back a day at most, a week for periods of an hour.
    """
    period_s = max(300, -(-run_s // 60) * 60)
    return period_s, 3 if period_s <= 2 * HOUR_S else 2


def _span(seconds: int) -> str:
    return f"{seconds // HOUR_S} hours" if seconds >= 2 * HOUR_S else f"{seconds // 60} minutes"


def _canary(deployment: Deployment) -> Iterator[Alarm]:
    if not deployment.canary:
        return
    yield Alarm(
        "canary-late",
        "A known event takes more than 5 minutes from its acceptance into its counter.",
        _ours("CanaryLag", "Maximum"),
        300,
        Severity.WARN,
        "the-canary-is-late",
        comparison=Comparison.ABOVE,
        periods=2,
    )
    yield Alarm(
        "canary-differs",
        "Usage that is known to the last digit is counted otherwise.",
        {
            "most": Metric(OURS, "CanaryDifference", "Maximum", Kind.DEPLOYMENT),
            "least": Metric(OURS, "CanaryDifference", "Minimum", Kind.DEPLOYMENT),
        },
        1,
        Severity.PAGE,
        "the-canary-differs",
        "IF(most > 0 OR least < 0, 1, 0)",
        periods=2,
    )


# --- what it runs on ------------------------------------------------------------------------------


def _machinery(deployment: Deployment) -> Iterator[Alarm]:
    for function in deployment.functions:
        name = function.name.replace("_", "-")
        yield Alarm(
            f"{name}-errors",
            f"Invocations of {function.name} end in an error.",
            _lambda("Errors", "Sum", function),
            _errors_borne(function),
            Severity.WARN,
            "a-function-fails",
        )
    for function in (INGEST, INGEST_QUEUE, AGGREGATOR, API, STRIPE_WEBHOOK):
        yield Alarm(
            f"{function.name.replace('_', '-')}-throttled",
            f"Lambda does not start {function.name} as often as it is asked to.",
            _lambda("Throttles", "Sum", function),
            1,
            Severity.WARN,
            "lambda-throttles",
            periods=2,
        )
    yield from _throttled(deployment)
    yield Alarm(
        "concurrency",
        f"Lambda runs 80 % of the {deployment.concurrency} invocations at once that the account"
        " has.",
        {"value": Metric("AWS/Lambda", "ConcurrentExecutions", "Maximum", Kind.ACCOUNT)},
        deployment.concurrency * 8 // 10,
        Severity.WARN,
        "concurrency-is-near-its-limit",
        period_s=60,
        periods=3,
    )


def _throttled(deployment: Deployment) -> Iterator[Alarm]:
    """A table, and its indexes: one that is written too often holds the table's writes up."""
    for table in TABLES:
        watched = [
            ("ReadThrottleEvents", Kind.TABLE, table.name, "reads"),
            ("WriteThrottleEvents", Kind.TABLE, table.name, "writes"),
        ]
        for index in deployment.indexes_of(table):
            of = f"{table.name}/{index.name}"
            watched.append(("WriteThrottleEvents", Kind.INDEX, of, index.name))
        for metric, kind, of, what in watched:
            yield Alarm(
                f"{table.name}-{what.replace('_', '-')}-throttled",
                f"DynamoDB refuses {metric.partition('Throttle')[0].lower()}s of {of}, because"
                " there are too many.",
                {"value": Metric("AWS/DynamoDB", metric, "Sum", kind, of)},
                1,
                Severity.WARN,
                "dynamodb-throttles",
                periods=3,
            )


def _errors_borne(function: Function) -> int:
    """Errors within five minutes: what runs all the time mends a single one by itself."""
    trigger = function.trigger
    return 1 if isinstance(trigger, Schedule) and trigger.every_s >= HOUR_S else 3


def price_of(deployment: Deployment) -> float:
    """Dollars a month for all alarms of a deployment."""
    return round(sum(alarm.price for alarm in alarms_of(deployment)), 2)


def main(name: str) -> None:
    """Print the alarms of a deployment of `cdk.json`, and what they cost."""
    from infra.operate.place import (  # noqa: PLC0415 (the table itself asks no file)
        UnknownDeploymentError,
        deployment_named,
    )

    try:
        deployment = deployment_named(name)
    except UnknownDeploymentError as error:
        sys.exit(f"error: {error}\nExample:  python -m infra.alarms prod")
    for alarm in alarms_of(deployment):
        print(f"{alarm.severity:5} {alarm.name:28} {alarm.says}")  # noqa: T201 (the output)
    print(f"{len(alarms_of(deployment))} alarms, ${price_of(deployment):.2f} a month")  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:] or ["prod"])
