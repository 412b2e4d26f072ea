"""Settings of every function in one place: CDK deploys them, the local stack runs them.

Reasons for the numbers: batching and windows after AWS's documented stream semantics (see
`docs/decisions`), timeouts below the visibility and schedule intervals that retry them.
"""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Http:
    """Routes of the HTTP API, `METHOD /path` as API Gateway writes them, or `$default`."""

    routes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TableStream:
    """A DynamoDB stream, INSERT records only, one batch per shard at a time."""

    table: str
    batch_size: int
    batching_window_s: int
    tumbling_window_s: int
    """Not for aggregation: a window is what makes Lambda tell the shard id."""
    retries_max: int = -1
    """-1: until the record expires."""
    bisects_on_error: bool = True


@dataclass(frozen=True, slots=True)
class Queue:
    """An SQS queue; messages that fail `receives_max` times go to its dead-letter queue."""

    name: str
    dead_letter_name: str
    batch_size: int
    batching_window_s: int
    receives_max: int


@dataclass(frozen=True, slots=True)
class Schedule:
    """A fixed rate; locally faster, so that a person at a desk sees things happen."""

    every_s: int
    every_local_s: int


@dataclass(frozen=True, slots=True)
class EventRule:
    """A rule on the event buses that a partner fills: events whose source begins with a prefix."""

    source_prefix: str

    @property
    def pattern(self) -> dict[str, Any]:
        """The rule's event pattern, as EventBridge takes it."""
        return {"source": [{"prefix": self.source_prefix}]}


@dataclass(frozen=True, slots=True)
class Function:
    """One Lambda function; its code is `functions/<name>/handler.py`, entered at `handler`."""

    name: str
    purpose: str
    trigger: Http | TableStream | Queue | Schedule
    memory_mb: int
    timeout_s: int
    also: EventRule | None = None
    """A second trigger; the handler tells which one it was by the event's shape."""

    @property
    def handler(self) -> str:
        """The dotted path of the entry point."""
        return f"functions.{self.name}.handler.handler"


INGEST = Function(
    "ingest",
    "Take usage events over HTTPS into the ledger.",
    Http(("POST /v1/events/ingest",)),
    memory_mb=1024,
    timeout_s=15,
)
INGEST_QUEUE = Function(
    "ingest_queue",
    "Take usage events from SQS into the ledger.",
    Queue("usage-events", "usage-events-dead", 100, 5, receives_max=5),
    memory_mb=1024,
    timeout_s=30,
)
AGGREGATOR = Function(
    "aggregator",
    "Fold new ledger entries into counters.",
    TableStream("events", batch_size=10_000, batching_window_s=5, tumbling_window_s=60),
    memory_mb=1024,
    timeout_s=60,
)
WRITER = Function(
    "writer",
    "Tell Stripe what changed counters add up to, as deltas.",
    Schedule(every_s=60, every_local_s=10),
    memory_mb=1769,
    timeout_s=55,
)
PERIOD_CLOSER = Function(
    "period_closer",
    "Follow customers' subscriptions, and close the billing periods that have ended.",
    Schedule(every_s=60, every_local_s=10),
    memory_mb=512,
    timeout_s=300,
)
RECONCILER = Function(
    "reconciler",
    "Compare ledger, counters, pushes and Stripe, and say why they differ.",
    Schedule(every_s=3600, every_local_s=60),
    memory_mb=1024,
    timeout_s=900,
)
LANE_FOLDER = Function(
    "lane_folder",
    "Fold lanes that no stream shard can touch any more into their base.",
    Schedule(every_s=6 * 3600, every_local_s=3600),
    memory_mb=512,
    timeout_s=900,
)
REBUILDER = Function(
    "rebuilder",
    "Advance a requested rebuild of a tenant's counters from the ledger.",
    Schedule(every_s=60, every_local_s=10),
    memory_mb=2048,
    timeout_s=900,
)
STRIPE_WEBHOOK = Function(
    "stripe_webhook",
    "Keep what Stripe tells of invoices, subscriptions and meters, as notices.",
    Http(("POST /v1/stripe/webhook",)),
    memory_mb=512,
    timeout_s=15,
    also=EventRule(source_prefix="aws.partner/stripe.com/"),
)
API = Function(
    "api",
    "Reads, settings, reconciliation reports, health, metrics and the API's description.",
    Http(("$default",)),
    memory_mb=1024,
    timeout_s=29,
)

FUNCTIONS: tuple[Function, ...] = (
    INGEST,
    INGEST_QUEUE,
    AGGREGATOR,
    WRITER,
    PERIOD_CLOSER,
    RECONCILER,
    LANE_FOLDER,
    REBUILDER,
    STRIPE_WEBHOOK,
    API,
)
