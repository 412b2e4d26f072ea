"""What each function may do on AWS: one table, from which the roles are made and tested.

Actions are IAM's own names, resources are symbols that the CDK app turns into ARNs. IAM asks for
the parts of a transaction (`PutItem`, `ConditionCheckItem`), for the verb of a PartiQL statement
(`PartiQLInsert`), and for a batch as such (`BatchGetItem`, `BatchWriteItem`). What an index is
asked needs the index, not its table.

Every action on a table or a secret stands here because a call asks for it: tests record all calls
of all functions, and fail when one was not granted or a grant was not used. What Lambda itself
needs for logs, traces and triggers follows from `infra.functions` by rule.
`docs/permissions.md` is made of this file, by `python -m infra.permission_page`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from infra.deployments import Deployment
from infra.functions import EventRule, Function, Queue, TableStream

FAILURES_BUCKET = "failures"
ARCHIVE_BUCKET = "archive"


# --- resources ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TableResource:
    """A table, without its indexes and its stream."""

    table: str


@dataclass(frozen=True, slots=True)
class IndexResource:
    """One global secondary index of a table."""

    table: str
    index: str


@dataclass(frozen=True, slots=True)
class StreamResource:
    """The stream of a table."""

    table: str


@dataclass(frozen=True, slots=True)
class ExportResource:
    """The exports of a table: `<table's ARN>/export/*`."""

    table: str


@dataclass(frozen=True, slots=True)
class QueueResource:
    """An SQS queue, by its name without the deployment's prefix."""

    name: str


@dataclass(frozen=True, slots=True)
class SecretResource:
    """A secret of Secrets Manager, by its name without `stripemeter/<env>/`."""

    name: str


@dataclass(frozen=True, slots=True)
class BucketResource:
    """An S3 bucket itself: what lists it."""

    name: str


@dataclass(frozen=True, slots=True)
class ObjectsResource:
    """The objects of an S3 bucket whose keys begin with a prefix."""

    bucket: str
    prefix: str = ""


@dataclass(frozen=True, slots=True)
class OwnLogs:
    """The log streams of the function's own log group."""


@dataclass(frozen=True, slots=True)
class Everything:
    """`*`: the action knows no narrower resource."""

    why: str


type Resource = (
    TableResource
    | IndexResource
    | StreamResource
    | ExportResource
    | QueueResource
    | SecretResource
    | BucketResource
    | ObjectsResource
    | OwnLogs
    | Everything
)


# --- permissions ----------------------------------------------------------------------------------


class Only(StrEnum):
    """The deployments that need a permission, where not all do."""

    EVENT_INDEX = "with the event index"
    NO_EVENT_INDEX = "without the event index"
    SHADOW = "with a shadow"
    EVENT_RATE = "with a limit of events a second"
    REQUEST_RATE = "with a limit of requests a second"
    PARTNER_EVENTS = "with Stripe's event bus"
    TRACING = "with tracing"

    def is_so(self, deployment: Deployment) -> bool:
        """Whether a deployment is one of these."""
        of_all = {
            Only.EVENT_INDEX: deployment.event_index,
            Only.NO_EVENT_INDEX: not deployment.event_index,
            Only.SHADOW: deployment.shadow,
            Only.EVENT_RATE: deployment.tenant_events_per_s > 0,
            Only.REQUEST_RATE: deployment.tenant_requests_per_s > 0,
            Only.PARTNER_EVENTS: deployment.partner_event_bus is not None,
            Only.TRACING: deployment.tracing,
        }
        return of_all[self]


@dataclass(frozen=True, slots=True)
class Permission:
    """Some actions on one resource, and what they are for."""

    actions: tuple[str, ...]
    """`service:Action`, as IAM names them."""
    on: Resource
    why: str
    only: Only | None = None
    """None is needed in every deployment."""
    unrecorded: str | None = None
    """Why no test of ours sees it used; None where one must."""


def statements_of(
    function: Function, deployment: Deployment | None = None
) -> tuple[Permission, ...]:
    """All that a function's role holds; without a deployment, what it holds in any."""
    held = (*PERMISSIONS.get(function.name, ()), *_of_lambda(function))
    if deployment is None:
        return held
    return tuple(one for one in held if one.only is None or one.only.is_so(deployment))


# --- what Lambda does in a function's name --------------------------------------------------------

_BY_RULE = "Lambda does it in the function's name"


def _of_lambda(function: Function) -> Iterator[Permission]:
    """What logs, traces and the trigger need."""
    logs = ("logs:CreateLogStream", "logs:PutLogEvents")
    yield Permission(logs, OwnLogs(), "Its log.", unrecorded=_BY_RULE)
    traces = ("xray:PutTraceSegments", "xray:PutTelemetryRecords")
    everywhere = Everything("X-Ray knows no resource to narrow it to")
    yield Permission(traces, everywhere, "Its traces.", Only.TRACING, unrecorded=_BY_RULE)
    match function.trigger:
        case TableStream(table=table):
            yield from _of_stream(table)
        case Queue(name=name):
            yield from _of_queue(name)
    if function.also is not None:
        yield from _of_rule(function.also)


def _of_stream(table: str) -> Iterator[Permission]:
    reads = ("dynamodb:DescribeStream", "dynamodb:GetRecords", "dynamodb:GetShardIterator")
    yield Permission(reads, StreamResource(table), "Reads its trigger.", unrecorded=_BY_RULE)
    everywhere = Everything("the action knows no resource; it tells the names of streams alone")
    lists = ("dynamodb:ListStreams",)
    yield Permission(lists, everywhere, "Finds its trigger.", unrecorded=_BY_RULE)
    why = "Keeps what was discarded, whole."
    put = ("s3:PutObject",)
    yield Permission(put, ObjectsResource(FAILURES_BUCKET), why, unrecorded=_BY_RULE)
    # Source: AWS, "Retaining discarded records": both are asked of an S3 destination.
    look = ("s3:ListBucket",)
    yield Permission(look, BucketResource(FAILURES_BUCKET), why, unrecorded=_BY_RULE)


def _of_queue(name: str) -> Iterator[Permission]:
    takes = ("sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes")
    yield Permission(
        takes, QueueResource(name), "Takes its trigger's messages.", unrecorded=_BY_RULE
    )


def _of_rule(rule: EventRule) -> Iterator[Permission]:
    """EventBridge hands an event over and is done: what then fails, Lambda puts aside."""
    puts, queue = ("sqs:SendMessage",), QueueResource(rule.dead_letter_name)
    why = "Keeps what could not be taken."
    yield Permission(puts, queue, why, Only.PARTNER_EVENTS, unrecorded=_BY_RULE)


# --- what the functions' own calls need -----------------------------------------------------------


def _on(table: str, actions: str, why: str, only: Only | None = None) -> Permission:
    """Actions of DynamoDB, by their names with blanks between, on a table or `table/index`."""
    name, _, index = table.partition("/")
    resource = IndexResource(name, index) if index else TableResource(name)
    named = tuple(f"dynamodb:{action}" for action in actions.split())
    return Permission(named, resource, why, only)


def _reads_secret(name: str, why: str, only: Only | None = None) -> Permission:
    action = ("secretsmanager:GetSecretValue",)
    return Permission(action, SecretResource(name), why, only)


_OWN_KEY = _reads_secret("stripe-key", "Speaks to Stripe.")
_SHADOW_KEY = _reads_secret("stripe-shadow-key", "Speaks to the test account.", Only.SHADOW)
_TAKES_EVENTS = (
    _on("events", "PartiQLInsert", "Appends events; this action overwrites nothing."),
    _on("events", "BatchGetItem", "Tells a duplicate from a conflict."),
    _on("events", "GetItem", "Tells a retry from an event that is refused as late."),
    _on("quarantine", "PutItem", "Sets aside what cannot be taken."),
)

PERMISSIONS: dict[str, tuple[Permission, ...]] = {
    "ingest": (
        *_TAKES_EVENTS,
        _on("settings", "GetItem", "API keys, tenants' limits, metrics."),
        _on("rates", "UpdateItem", "Notes how much a tenant has sent.", Only.EVENT_RATE),
    ),
    "ingest_queue": (
        *_TAKES_EVENTS,
        _on("settings", "GetItem", "Metrics."),
    ),
    "aggregator": (
        _on("counters", "BatchGetItem", "Reads cold lanes."),
        _on("counters", "PartiQLInsert PartiQLUpdate", "Writes lanes, lists, marks."),
        _on("counters", "GetItem", "Reads which epochs there are."),
        _on("settings", "GetItem BatchGetItem", "Metrics and customers' billing periods."),
        _on("quarantine", "PutItem", "Sets aside what cannot be folded."),
    ),
    "writer": (
        _on("counters", "GetItem Query", "What changed, and what it adds up to."),
        _on("settings", "GetItem BatchGetItem Query", "Mappings and customers."),
        _on("settings", "ConditionCheckItem", "That a customer's periods are as they were."),
        _on("billing", "GetItem BatchGetItem Query", "Streams and pushes."),
        _on("billing", "PutItem UpdateItem DeleteItem", "Pushes, its lease, the list of needs."),
        _OWN_KEY,
        _SHADOW_KEY,
    ),
    "period_closer": (
        _on("counters", "GetItem Query", "What a period adds up to."),
        _on("counters", "PutItem", "Asks for a rebuild where a period was cut otherwise."),
        _on("settings", "GetItem BatchGetItem Query", "Mappings and customers."),
        _on("settings", "PutItem UpdateItem", "Customers' billing periods."),
        _on("settings", "ConditionCheckItem", "That a customer's periods are as they were."),
        _on("billing", "GetItem Query", "Notices, closes, streams and pushes."),
        _on("billing", "PutItem UpdateItem DeleteItem", "Closes, pushes, notices it is done with."),
        _OWN_KEY,
    ),
    "reconciler": (
        _on("events/by_counter", "Query", "Recounts one counter.", Only.EVENT_INDEX),
        _on("events", "Scan", "Recounts a small ledger.", Only.NO_EVENT_INDEX),
        _on("counters", "GetItem Query", "What was counted."),
        _on("settings", "GetItem BatchGetItem Query", "Mappings and customers."),
        _on("billing", "GetItem Query", "Streams, pushes, closes, notices, reports."),
        _on(
            "billing", "PutItem UpdateItem DeleteItem", "Reports, repairs, notices it is done with."
        ),
        _OWN_KEY,
        _SHADOW_KEY,
    ),
    "lane_folder": (
        _on("counters", "Scan", "Finds lanes at rest."),
        _on("counters", "GetItem", "Reads bases and epochs."),
        _on("counters", "PutItem UpdateItem", "Folds lanes into a base and marks them, at once."),
        _on("counters", "BatchWriteItem", "Removes folded lanes."),
    ),
    "rebuilder": (
        _on("events", "Scan", "Recounts a tenant's ledger."),
        _on("settings", "GetItem", "Metrics and customers' billing periods."),
        _on("counters", "GetItem Query PutItem", "Epochs, and which of them are under rebuild."),
        _on("counters", "BatchWriteItem", "Writes bases of the next epoch."),
        _on("counters", "PartiQLInsert PartiQLUpdate", "Lists and marks the counters."),
    ),
    "stripe_webhook": (
        _on("billing", "PutItem", "Keeps a notice, once."),
        _reads_secret("stripe-webhook", "Checks who has signed."),
        _reads_secret("stripe-key", "Compares the key's world with the event's."),
    ),
    "api": (
        _on("events", "GetItem BatchGetItem", "Traces, and who has decided about late events."),
        _on("events/by_counter", "Query", "Lists a counter's events.", Only.EVENT_INDEX),
        _on("events/by_held", "Query", "Lists late events that wait."),
        _on("events", "Scan", "Recounts a small ledger.", Only.NO_EVENT_INDEX),
        _on("events", "PartiQLInsert", "Appends a decision about an adjustment."),
        _on("counters", "GetItem Query", "What was counted."),
        _on("counters", "PutItem", "Asks for a rebuild where a period was cut otherwise."),
        _on("settings", "GetItem BatchGetItem Query", "Keys, metrics, mappings, customers."),
        _on("settings", "PutItem UpdateItem DeleteItem", "The same, by who may change them."),
        _on("settings", "ConditionCheckItem", "That a customer's periods are as they were."),
        _on("adjustments", "GetItem Query PutItem", "Adjustments."),
        _on("quarantine/by_tenant", "Query", "Lists what was set aside."),
        _on("quarantine", "Query", "What was set aside under a key."),
        _on("quarantine", "GetItem", "Whether the table answers."),
        _on("rates", "GetItem", "Whether the table answers."),
        _on("rates", "UpdateItem", "Notes how much a tenant has sent.", Only.REQUEST_RATE),
        _on("billing", "GetItem BatchGetItem Query", "Pushes, closes, reports."),
        _on("billing", "PutItem UpdateItem DeleteItem", "Reports, decisions, last pushes."),
        _OWN_KEY,
        _SHADOW_KEY,
    ),
    "canary": (_reads_secret("canary-key", "Calls the API as a customer does."),),
    "archiver": (
        _on("events", "DescribeContinuousBackups DescribeTable", "Since when it can export."),
        _on("events", "ExportTableToPointInTime", "Begins an export."),
        Permission(
            ("dynamodb:DescribeExport",), ExportResource("events"), "Looks after what was begun."
        ),
        _on("billing", "Query PutItem", "Which windows were exported."),
        # Source: AWS, "Requesting a table export": the three are asked of whoever begins one.
        Permission(
            ("s3:PutObject", "s3:PutObjectAcl", "s3:AbortMultipartUpload"),
            ObjectsResource(ARCHIVE_BUCKET, "ledger/"),
            "Where the export goes.",
            unrecorded="DynamoDB writes it in the name of who began the export",
        ),
    ),
}
"""By the function's name."""
