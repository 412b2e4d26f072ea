"""How counters stand in the `counters` table.

One partition per customer, so that a billing period's usage of all its metrics is one query:

    pk  tenant, customer
    sk  e<epoch>#<UTC day>#<metric>A              recounted by a rebuild
                                   B              folded from lanes at rest
                                   L<shard>       a lane

each with the usage of the day's buckets, of which there is usually one. Beside them, each under a
partition of its own kind: the directory (`dir#`), the marks of changed counters (`changed#`,
listed under `changed_parts#`) and the epochs (`epochs`).
"""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from metering import quantity, times
from metering.counter import EMPTY, ZERO, Buckets, Last, Tally, Usage
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
    """A tally as one map attribute; an empty one is an empty map.

    One that only takes events out has neither max nor last.
    """
    if tally == EMPTY:
        return {"M": {}}
    value: Item = {"n": {"N": str(tally.count)}, "s": {"N": quantity.canonical(tally.sum)}}
    if tally.max is not None and tally.last is not None:
        value["x"] = {"N": quantity.canonical(tally.max)}
        value["t"] = {"S": times.to_text(tally.last.occurred_at)}
        value["k"] = {"S": tally.last.key}
        value["q"] = {"N": quantity.canonical(tally.last.quantity)}
    return {"M": value}


def read_tally(value: Mapping[str, Any]) -> Tally:
    """The tally that `tally_value` wrote."""
    parts = value["M"]
    if not parts:
        return EMPTY
    count, summed = int(parts["n"]["N"]), Decimal(parts["s"]["N"])
    if "k" not in parts:
        return Tally(count, summed)
    last = Last(
        times.from_text(parts["t"]["S"]), IdempotencyKey(parts["k"]["S"]), Decimal(parts["q"]["N"])
    )
    return Tally(count, summed, Decimal(parts["x"]["N"]), last)


def usage_value(usage: Usage) -> Item:
    """A usage as one map attribute: counted, and of the rest what there is."""
    value = {"c": tally_value(usage.counted)}
    if usage.late != EMPTY:
        value["l"] = tally_value(usage.late)
    if usage.adjusted:
        value["a"] = {"N": quantity.canonical(usage.adjusted)}
    if usage.entries != _events(usage.counted, usage.late):
        value["e"] = {"N": str(usage.entries)}
    if usage.decided_until is not None:
        value["d"] = {"S": times.to_text(usage.decided_until)}
    return {"M": value}


def _events(counted: Tally, late: Tally) -> int:
    """How many entries of the ledger a usage is made of when nobody decided anything."""
    return counted.count + late.count


def read_usage(value: Mapping[str, Any]) -> Usage:
    """The usage that `usage_value` wrote."""
    parts = value["M"]
    counted = read_tally(parts["c"])
    late = read_tally(parts["l"]) if "l" in parts else EMPTY
    adjusted = Decimal(parts["a"]["N"]) if "a" in parts else ZERO
    entries = int(parts["e"]["N"]) if "e" in parts else _events(counted, late)
    decided_until = times.from_text(parts["d"]["S"]) if "d" in parts else None
    return Usage(counted, late, adjusted, entries, decided_until)


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
