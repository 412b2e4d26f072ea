"""What differs between one deployment and another; `-c env=prod` chooses one by its name.

Every value can be set in `cdk.json` under `stripemeter:<name>`, or by `-c NAME=VALUE` at the
command line; what neither names keeps the default here. `infra.context` reads and checks them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from infra.functions import CANARY, FUNCTIONS, Function, Schedule
from infra.tables import OPTIONAL_INDEXES, Index, Table


@dataclass(frozen=True, slots=True)
class Provisioned:
    """Capacity that is paid by the hour and follows the load, in units a second."""

    write_units_min: int
    write_units_max: int
    read_units_min: int
    read_units_max: int
    target_percent: int = 70


@dataclass(frozen=True, slots=True)
class Domain:
    """Where customers reach the API instead of at API Gateway's own name."""

    name: str
    certificate_arn: str


@dataclass(frozen=True, slots=True)
class Deployment:
    """One StripeMeter in one account and region."""

    name: str
    """Stands before every stack's and every resource's name: `stripemeter-<name>-...`."""
    keeps_data: bool
    """Whether tables and buckets outlive their stack and refuse to be deleted."""
    log_days: int
    alarm_email: str | None = None
    alarm_topic_arn: str | None = None
    """A topic that exists already and takes every alarm; None makes two, `warn` and `page`."""
    domain: Domain | None = None
    capacity: Provisioned | None = None
    """Of the ledger and the counters; None pays by request."""
    event_index: bool = False
    """Whether events can be listed by their counter; it doubles the ledger's write cost."""
    event_index_shards: int = 4
    lateness_h: int = 48
    """How late an event may be and still be counted, where its metric says nothing else."""
    stripe_transport: str = "v1"
    stripe_reads_a_month: int = 10_000
    legacy_usage_records: bool = False
    shadow: bool = False
    """Whether a second Stripe key, of a test account, is told the same."""
    tracing: bool = False
    """Whether X-Ray traces every function: the first request of each second and a twentieth of the
    others, which nobody can change for Lambda, at $5 per million traces."""
    warehouse: bool = False
    """Whether a second reader of the ledger's stream writes every event to a bucket."""
    canary: bool = True
    canary_customer: str = "canary"
    """Whose usage the canary sends; one that is mapped onto a test customer is told Stripe, too."""
    schedules_s: Mapping[str, int] = field(default_factory=dict)
    """How often a scheduled function runs, in seconds, by its name; others as `infra.functions`."""
    requests_per_s: int = 2_000
    """What the HTTP API takes before it answers 429; an account has 10,000 for all its APIs."""
    requests_burst: int = 1_000
    tenant_events_per_s: int = 0
    """What one tenant may send over HTTPS, where an operator says nothing else; 0 limits nobody."""
    tenant_requests_per_s: int = 0
    """The same for requests to all other routes."""
    queue_concurrency: int = 10
    """How many batches of the queue are taken at once, 2 at least; it protects the ledger."""
    reserved_concurrency: Mapping[str, int] = field(default_factory=dict)
    """Of functions, by name. None by default: new accounts have 10 in all and may reserve nothing,
    and what must not run twice at once holds a lease."""
    concurrency: int = 1_000
    """How many invocations at once AWS grants the account; an alarm tells of 80 % of it."""
    partner_event_bus: str | None = None
    """The bus that Stripe fills, `aws.partner/stripe.com/...`, once it is associated with the
    account; None has webhooks only."""

    @property
    def prefix(self) -> str:
        """What stands before the names of tables, queues and functions."""
        return f"stripemeter-{self.name}-"

    @property
    def functions(self) -> tuple[Function, ...]:
        """The functions that it has."""
        return tuple(one for one in FUNCTIONS if self.canary or one is not CANARY)

    def every_s(self, name: str, schedule: Schedule) -> int:
        """How often the function of that name and schedule runs, in seconds."""
        return self.schedules_s.get(name, schedule.every_s)

    def indexes_of(self, table: Table) -> tuple[Index, ...]:
        """The indexes that a table has in it."""
        optional = frozenset() if self.event_index else OPTIONAL_INDEXES
        return tuple(one for one in table.indexes if one.name not in optional)


DEV = Deployment("dev", keeps_data=False, log_days=7)
PROD = Deployment("prod", keeps_data=True, log_days=90)
