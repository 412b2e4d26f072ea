"""What AWS and Stripe allow, and what of it can be raised."""

from dataclasses import dataclass
from decimal import Decimal

from infra.cost.sheet import Sheet, number


@dataclass(frozen=True, slots=True)
class Limit:
    """One limit; `name` is what Service Quotas or the document calls it."""

    value: Decimal
    unit: str
    name: str
    raised: str
    """By whom or what; "no" where nobody can."""
    source: str = "read"
    """`known` is general knowledge that was not looked up again."""


def _limit(value: int, unit: str, name: str, raised: str, source: str = "read") -> Limit:
    return Limit(Decimal(value), unit, name, raised, source)


PARTITION_WRITES = _limit(1_000, "write units a second", "DynamoDB: one partition", "no")
PARTITION_READS = _limit(3_000, "read units a second", "DynamoDB: one partition", "no")
TABLE_WRITES = _limit(
    40_000, "write units a second", "DynamoDB: table-level write throughput", "Service Quotas"
)
NEW_TABLE_WRITES = _limit(
    4_000, "write units a second", "DynamoDB: a new table on demand", "warm throughput"
)
NEW_TABLE_PARTITIONS = _limit(4, "partitions", "DynamoDB: a new table on demand", "itself", "known")
STREAM_READERS = _limit(2, "readers of a shard", "DynamoDB Streams", "no")
SHARD_READS = _limit(
    4_000,
    "records a second",
    "Lambda: 4 polls a second of 1,000 records of one shard",
    "no",
    "known",
)
STREAM_KEPT = _limit(24, "hours", "DynamoDB Streams: retention", "no")
CONCURRENCY = _limit(
    1_000, "at once", "Lambda: concurrent executions (new accounts: 10)", "Service Quotas"
)
CONCURRENCY_RISE = _limit(1_000, "more each 10 s", "Lambda: scaling of one function", "no")
API_REQUESTS = _limit(
    10_000, "requests a second", "API Gateway: throttle, all APIs of a region", "Service Quotas"
)
API_BURST = _limit(5_000, "requests", "API Gateway: burst", "AWS, with the rate")
QUEUE_BATCHES = _limit(1_250, "batches at once", "Lambda: one standard queue", "provisioned mode")
STRIPE_CALLS = _limit(1_000, "calls a second", "Stripe: meter events, live mode", "Stripe")
STRIPE_AT_ONCE = _limit(1, "call at once", "Stripe: per customer and meter", "no")
STRIPE_READS = _limit(
    10_000, "reads in 30 days", "Stripe: 500 for each transaction, at least", "more transactions"
)
STRIPE_GRACE = _limit(72, "hours", "Stripe: draft invoices, 1 h by default", "no")

LIMITS: tuple[Limit, ...] = (
    PARTITION_WRITES,
    PARTITION_READS,
    TABLE_WRITES,
    NEW_TABLE_WRITES,
    NEW_TABLE_PARTITIONS,
    STREAM_READERS,
    SHARD_READS,
    STREAM_KEPT,
    CONCURRENCY,
    CONCURRENCY_RISE,
    API_REQUESTS,
    API_BURST,
    QUEUE_BATCHES,
    STRIPE_CALLS,
    STRIPE_AT_ONCE,
    STRIPE_READS,
    STRIPE_GRACE,
)


def sheet() -> Sheet:
    """The limits as a table."""
    rows = [(one.name, f"{number(one.value)} {one.unit}", one.raised, one.source) for one in LIMITS]
    return Sheet("Limits and quotas", ("whose", "how much", "raised by", "source"), tuple(rows))
