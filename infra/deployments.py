"""What differs between one deployment and another; `-c env=prod` chooses one by its name.

Every value can be set in `cdk.json` under `stripemeter:<name>`, or by `-c NAME=VALUE` at the command
line; what neither names keeps the default here.
"""

from dataclasses import dataclass


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
    """A topic that exists already; None makes one."""
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
    warehouse: bool = False
    """Whether a second reader of the ledger's stream writes every event to a bucket."""
    canary: bool = True

    @property
    def prefix(self) -> str:
        """What stands before the names of tables, queues and functions."""
        return f"stripemeter-{self.name}-"


DEV = Deployment("dev", keeps_data=False, log_days=7)
PROD = Deployment("prod", keeps_data=True, log_days=90)
