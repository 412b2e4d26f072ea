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
    record_age_max_s: int = 23 * 3600
    """After this a record that fails is put to the failures bucket, whole, and its shard goes on.
    The stream forgets it an hour later and leaves nothing behind: better to have the payload than
    another hour of attempts, for the alarms have been paging for 22."""


@dataclass(frozen=True, slots=True)
class Queue:
    """An SQS queue; messages that fail `receives_max` times go to its dead-letter queue."""

    name: str
    dead_letter_name: str
    batch_size: int
    batching_window_s: int
    receives_max: int

    def visibility_s(self, *, timeout_s: int) -> int:
        """How long a message is hidden from others while it is worked on.

        AWS asks for six times the function's timeout, and the batching window on top.
        """
        return 6 * timeout_s + self.batching_window_s


@dataclass(frozen=True, slots=True)
class Schedule:
    """A fixed rate; locally faster, so that a person at a desk sees things happen."""

    every_s: int
    every_local_s: int


@dataclass(frozen=True, slots=True)
class EventRule:
    """A rule on the event buses that a partner fills: events whose source begins with a prefix."""

    source_prefix: str
    dead_letter_name: str
    """The queue for events that could not be taken; there is none where no partner's bus is."""

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
    calls_stripe: bool = False
    """Whether it gets the layer with Stripe's SDK and the name of the key."""

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
    calls_stripe=True,
)
PERIOD_CLOSER = Function(
    "period_closer",
    "Follow customers' subscriptions, and close the billing periods that have ended.",
    Schedule(every_s=60, every_local_s=10),
    memory_mb=512,
    timeout_s=300,
    calls_stripe=True,
)
RECONCILER = Function(
    "reconciler",
    "Compare ledger, counters, pushes and Stripe, and say why they differ.",
    Schedule(every_s=3600, every_local_s=60),
    memory_mb=1024,
    timeout_s=900,
    calls_stripe=True,
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
    also=EventRule("aws.partner/stripe.com/", dead_letter_name="stripe-events-dead"),
)
API = Function(
    "api",
    "Reads, settings, reconciliation reports, health, metrics and the API's description.",
    Http(("$default",)),
    memory_mb=1024,
    timeout_s=29,
    calls_stripe=True,
)
CANARY = Function(
    "canary",
    "Send a known event by the public API, and see that it is counted, once and soon.",
    # A slot is five minutes: more runs would only send duplicates.
    Schedule(every_s=300, every_local_s=30),
    memory_mb=256,
    timeout_s=120,
)
ARCHIVER = Function(
    "archiver",
    "Export what the ledger took since the last export to S3.",
    Schedule(every_s=24 * 3600, every_local_s=3600),
    memory_mb=256,
    timeout_s=300,
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
    CANARY,
    ARCHIVER,
)
