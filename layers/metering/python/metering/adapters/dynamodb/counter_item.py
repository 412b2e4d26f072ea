"""How counters stand in the `counters` table.

One partition per customer, so that a billing period's usage of all its metrics is one query:

    pk  tenant, customer
    sk  e<epoch>#<UTC day>#<metric>A              recounted by a rebuild
                                   B              folded from lanes at rest
                                   L<shard>       a lane

each with the usage of the day's buckets, of which there is usually one. Beside them, each under a
partition of its own kind: the directory (`dir#`), the marks of changed counters (`changed#`) and
the epochs (`epochs`).
"""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from metering import quantity, times
from metering.counter import EMPTY, Buckets, Last, Tally, Usage
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


def time_prefix(epoch: int, instant: datetime) -> str:
    """What the sort keys of a day begin with, whatever the metric; sorts as time does."""
    return f"{epoch_prefix(epoch)}{times.to_text(instant)}#"


def part_sort_key(epoch: int, day: datetime, metric: Metric, part: str) -> str:
    """The sort key of one part of a counter's day: `RECOUNT`, `BASE` or `LANE` + shard."""
    return f"{time_prefix(epoch, day)}{join(metric)}{part}"


def lane_item_key(key: LaneKey) -> Item:
    """The primary key of a lane."""
    counter = key.counter
    sort_key = part_sort_key(key.epoch, key.day, counter.metric, LANE + key.shard)
    return {
        "pk": {"S": customer_partition(counter.tenant, counter.customer)},
        "sk": {"S": sort_key},
    }


def read_sort_key(sort_key: str) -> tuple[int, datetime, Metric, str]:
    """Epoch, day, metric and part of a sort key."""
    epoch, day, rest = sort_key.split("#", 2)
    length, colon = rest.split(":", 1)
    metric, part = colon[: int(length)], colon[int(length) :]
    return int(epoch[1:]), times.from_text(day), Metric(metric), part


def read_partition(partition: str) -> tuple[TenantId, CustomerRef]:
    """Tenant and customer of a counters' partition."""
    tenant, customer = split(partition)
    return TenantId(tenant), CustomerRef(customer)


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


def usage_value(usage: Usage) -> Item:
    """A usage as one map attribute: counted, and late where there is any."""
    value = {"c": tally_value(usage.counted)}
    return {"M": value if usage.late == EMPTY else value | {"l": tally_value(usage.late)}}


def read_usage(value: Mapping[str, Any]) -> Usage:
    """The usage that `usage_value` wrote."""
    parts = value["M"]
    return Usage(read_tally(parts["c"]), read_tally(parts["l"]) if "l" in parts else EMPTY)


def buckets_value(buckets: Buckets) -> Item:
    """The usage of a day's buckets as one map attribute, by their starts."""
    return {"M": {times.to_text(start): usage_value(usage) for start, usage in buckets.items()}}


def read_buckets(item: Mapping[str, Any]) -> dict[datetime, Usage]:
    """The buckets of a lane, a base or a recount."""
    found = item["b"]["M"]
    return {times.from_text(start): read_usage(value) for start, value in found.items()}


def read_lane(item: Mapping[str, Any]) -> Lane:
    """The lane of an item."""
    return Lane(item["h"]["S"], read_buckets(item), folded="fv" in item)
