"""How counters stand in the `counters` table.

One partition per customer, so that a billing period's usage of all its metrics is one query:

    pk  tenant, customer
    sk  e<epoch>#<bucket start>#<metric>A              recounted by a rebuild
                                        B              folded from lanes at rest
                                        L<shard>       a lane

and beside them, each under a partition of its own kind: the directory (`dir#`), the marks of
changed counters (`changed#`) and the epochs (`epochs`).
"""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from metering import quantity, times
from metering.counter import EMPTY, BucketKey, CounterKey, Last, Tally, Usage
from metering.keys import digest, join, split
from metering.lane import Lane, LaneKey
from metering.names import CustomerRef, IdempotencyKey, Metric, TenantId

Item = dict[str, Any]

RECOUNT = "A"
BASE = "B"
LANE = "L"
LANE_MARK_BYTES = 8


def lane_mark(part: str) -> bytes:
    """A lane's part of a sort key, in 8 bytes: how a base names the lanes it was last made of."""
    return digest(part, size=LANE_MARK_BYTES)


def customer_partition(tenant: TenantId, customer: CustomerRef) -> str:
    """The partition that holds all counters of one customer."""
    return join(tenant, customer)


def epoch_prefix(epoch: int) -> str:
    """What the sort keys of an epoch begin with."""
    return f"e{epoch:06d}#"


def bucket_prefix(epoch: int, bucket: datetime) -> str:
    """What the sort keys of a bucket begin with, whatever the metric."""
    return f"{epoch_prefix(epoch)}{times.to_text(bucket)}#"


def part_sort_key(epoch: int, bucket: datetime, metric: Metric, part: str) -> str:
    """The sort key of one part of a counter's bucket: `RECOUNT`, `BASE` or `LANE` + shard."""
    return f"{bucket_prefix(epoch, bucket)}{join(metric)}{part}"


def lane_item_key(key: LaneKey) -> Item:
    """The primary key of a lane."""
    counter = key.counter
    sort_key = part_sort_key(key.epoch, key.bucket, counter.metric, LANE + key.shard)
    return {
        "pk": {"S": customer_partition(counter.tenant, counter.customer)},
        "sk": {"S": sort_key},
    }


def read_sort_key(sort_key: str) -> tuple[int, datetime, Metric, str]:
    """Epoch, bucket start, metric and part of a sort key."""
    epoch, bucket, rest = sort_key.split("#", 2)
    length, colon = rest.split(":", 1)
    metric, part = colon[: int(length)], colon[int(length) :]
    return int(epoch[1:]), times.from_text(bucket), Metric(metric), part


def read_partition(partition: str) -> tuple[TenantId, CustomerRef]:
    """Tenant and customer of a counters' partition."""
    tenant, customer = split(partition)
    return TenantId(tenant), CustomerRef(customer)


def bucket_key(item: Mapping[str, Any]) -> BucketKey:
    """Which counter's bucket an item is a part of."""
    tenant, customer = read_partition(item["pk"]["S"])
    _, bucket, metric, _ = read_sort_key(item["sk"]["S"])
    return BucketKey(CounterKey(tenant, customer, metric), bucket)


# --- values ---------------------------------------------------------------------------------------


def tally_value(tally: Tally) -> Item:
    """A tally as one map attribute; an empty one is an empty map."""
    if tally.max is None or tally.last is None:
        return {"M": {}}
    return {
        "M": {
            "n": {"N": str(tally.count)},
            "s": {"N": quantity.canonical(tally.sum)},
            "x": {"N": quantity.canonical(tally.max)},
            "t": {"S": times.to_text(tally.last.occurred_at)},
            "k": {"S": tally.last.key},
            "q": {"N": quantity.canonical(tally.last.quantity)},
        }
    }


def read_tally(value: Mapping[str, Any]) -> Tally:
    """The tally that `tally_value` wrote."""
    parts = value["M"]
    if not parts:
        return EMPTY
    last = Last(
        times.from_text(parts["t"]["S"]), IdempotencyKey(parts["k"]["S"]), Decimal(parts["q"]["N"])
    )
    return Tally(int(parts["n"]["N"]), Decimal(parts["s"]["N"]), Decimal(parts["x"]["N"]), last)


def usage_values(usage: Usage) -> Item:
    """The attributes of a usage: counted and late."""
    return {"c": tally_value(usage.counted), "l": tally_value(usage.late)}


def read_usage(item: Mapping[str, Any]) -> Usage:
    """The usage of a lane, a base or a recount."""
    return Usage(counted=read_tally(item["c"]), late=read_tally(item["l"]))


def read_lane(item: Mapping[str, Any]) -> Lane:
    """The lane of an item."""
    return Lane(item["h"]["S"], read_usage(item), folded="fv" in item)
