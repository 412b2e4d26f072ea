"""How a ledger entry stands in the `events` table and in its stream.

Names are short because DynamoDB bills them: an entry with a small `meta` stays under 1 KB, one
write unit. The key is tenant and idempotency key and nothing else, so a retry with another
timestamp still finds its first copy.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from metering import quantity, times
from metering.counter import CounterKey, counter_of
from metering.event import EntryKind, LedgerEntry, Source, UsageEvent
from metering.keys import join, shard_of
from metering.names import CustomerRef, IdempotencyKey, Metric, TenantId

HELD_SHARDS = 16
"""Of the index of late events: an import of old usage may hold back thousands a second."""

COUNTED_BY = ("t", "k", "m", "c", "q", "ts", "ra", "src", "late", "kd", "by")
"""The attributes of an entry that its counter depends on, and the source that each must have."""

Item = dict[str, Any]
"""Attribute name to DynamoDB's typed value, `{"S": "text"}`."""


def partition_key(tenant: TenantId, key: IdempotencyKey) -> str:
    """The whole primary key of an entry."""
    return join(tenant, key)


def index_partition(counter: CounterKey, shard: int) -> str:
    """Where a counter's entries stand in the `by_counter` index; `shard` spreads a hot one."""
    return f"{join(*counter)}#{shard}"


def held_partition(tenant: TenantId, shard: int) -> str:
    """Where a tenant's late events stand in the `by_held` index."""
    return f"{join(tenant)}#{shard}"


def to_item(entry: LedgerEntry, *, index_shards: int) -> Item:
    """The item of an entry; `index_shards` 0 leaves the index away."""
    event = entry.event
    occurred_at = times.to_text(event.occurred_at)
    item: Item = {
        "pk": {"S": partition_key(event.tenant, event.key)},
        "t": {"S": event.tenant},
        "k": {"S": event.key},
        "m": {"S": event.metric},
        "c": {"S": event.customer},
        "q": {"N": quantity.canonical(event.quantity)},
        "ts": {"S": occurred_at},
        "ra": {"S": times.to_text(entry.received_at)},
        "src": {"S": event.source},
        "h": {"B": event.content_hash()},
    }
    if event.resource is not None:
        item["r"] = {"S": event.resource}
    if event.meta != "{}":
        item["meta"] = {"S": event.meta}
    if entry.is_late:
        item["late"] = {"BOOL": True}
        item["lp"] = {"S": held_partition(event.tenant, shard_of(event.key, HELD_SHARDS))}
        item["ls"] = {"S": occurred_at}
    if entry.kind is not EntryKind.USAGE:
        item["kd"] = {"S": entry.kind}
        item["by"] = {"S": entry.decided_by}
    if index_shards:
        shard = shard_of(event.key, index_shards)
        item["gp"] = {"S": index_partition(counter_of(event), shard)}
        item["gs"] = {"S": occurred_at}
    return item


def from_item(item: Mapping[str, Any]) -> LedgerEntry:
    """The entry of an item or of a stream record's new image.

    Raises:
        KeyError, ValueError, decimal.InvalidOperation: the item is not a ledger entry.
    """
    event = UsageEvent(
        tenant=TenantId(item["t"]["S"]),
        key=IdempotencyKey(item["k"]["S"]),
        metric=Metric(item["m"]["S"]),
        customer=CustomerRef(item["c"]["S"]),
        resource=item["r"]["S"] if "r" in item else None,
        quantity=Decimal(item["q"]["N"]),
        occurred_at=times.from_text(item["ts"]["S"]),
        meta=item["meta"]["S"] if "meta" in item else "{}",
        source=Source(item["src"]["S"]),
    )
    return LedgerEntry(
        event,
        times.from_text(item["ra"]["S"]),
        is_late="late" in item,
        kind=EntryKind(item["kd"]["S"]) if "kd" in item else EntryKind.USAGE,
        decided_by=item["by"]["S"] if "by" in item else "",
    )
