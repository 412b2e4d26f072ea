"""The reading side of the `counters` table."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from itertools import batched, islice
from typing import TYPE_CHECKING, Any

from metering import times
from metering.adapters.dynamodb.counter_item import (
    BASE,
    LANE,
    LANE_MARK_BYTES,
    Item,
    customer_partition,
    lane_mark,
    read_buckets,
    read_sort_key,
    time_prefix,
)
from metering.adapters.dynamodb.epochs import DynamoEpochs
from metering.adapters.dynamodb.refusals import items_of
from metering.counter import BucketKey, CounterKey, Usage, sum_of_buckets
from metering.errors import RetryableError
from metering.keys import join, shard_of, split
from metering.names import CustomerRef, Metric, TenantId
from metering.period import DAY, Span, day_of
from metering.ports import Changes, Clock, KnownCounter

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient

DIRECTORY_SHARDS = 16
CHANGED_SHARDS = 8
PARTS_MAX = 500
"""Parts of slots with marks that one look reads: an hour of a busy system, weeks of a quiet one."""
READS_MAX = 5
"""How often a read that met lanes being folded is done again."""


def directory_partition(tenant: TenantId, customer: CustomerRef) -> str:
    """Where the directory lists a customer's counters."""
    return f"dir#{shard_of(customer, DIRECTORY_SHARDS)}#{join(tenant)}"


def changed_partition(part: str) -> str:
    """Where one part of a slot's marks stands; see `changed_part`."""
    return f"changed#{part}"


def changed_part(slot: datetime, shard: int) -> str:
    """The name of one part of a slot's marks; later slots have later names."""
    return f"{times.to_text(slot)}#{shard}"


def slot_of_part(part: str) -> datetime:
    """The slot that a part's name was made of."""
    return times.from_text(part.partition("#")[0])


def changed_days(instant: datetime) -> str:
    """Where the parts are listed that hold any marks of a UTC day."""
    return f"changed_parts#{times.to_text(day_of(instant))}"


def slot_of(instant: datetime, slot: timedelta) -> datetime:
    """The start of the slot of time that holds an instant."""
    return instant - (instant - datetime.min.replace(tzinfo=instant.tzinfo)) % slot


class DynamoCounters:
    """The `Counters` port on DynamoDB."""

    def __init__(
        self,
        client: "DynamoDBClient",
        table: str,
        *,
        epochs: DynamoEpochs,
        clock: Clock,
        changed_slot: timedelta,
    ) -> None:
        self._client = client
        self._table = table
        self._epochs = epochs
        self._clock = clock
        self._changed_slot = changed_slot

    def usage(
        self, tenant: TenantId, customer: CustomerRef, span: Span
    ) -> dict[tuple[Metric, datetime], Usage]:
        """See `Counters.usage`. One query, about 150 bytes per lane.

        Raises:
            RetryableError: lanes were being folded all the while.
        """
        epoch = self._epochs.of(tenant).current
        for _ in range(READS_MAX):
            days = _by_day(self._parts(customer_partition(tenant, customer), epoch, span))
            if all(map(_is_consistent, days.values())):
                return {
                    (metric, start): usage
                    for (metric, _), parts in days.items()
                    for start, usage in _total(parts).items()
                    if start in span
                }
        raise RetryableError(f"the counters of {customer} are being folded; read them again")

    def _parts(self, partition: str, epoch: int, span: Span) -> list[Item]:
        pages = self._client.get_paginator("query").paginate(
            TableName=self._table,
            KeyConditionExpression="pk = :customer AND sk BETWEEN :start AND :end",
            ExpressionAttributeValues={
                ":customer": {"S": partition},
                ":start": {"S": time_prefix(epoch, day_of(span.start))},
                ":end": {"S": time_prefix(epoch, span.end)},
            },
            ConsistentRead=True,
        )
        return list(items_of(pages))

    def known(
        self, tenant: TenantId, *, customer: CustomerRef | None = None
    ) -> Iterator[KnownCounter]:
        """See `Counters.known`."""
        if customer is not None:
            yield from self._listed(directory_partition(tenant, customer), tenant, join(customer))
            return
        for shard in range(DIRECTORY_SHARDS):
            yield from self._listed(f"dir#{shard}#{join(tenant)}", tenant, "")

    def _listed(self, partition: str, tenant: TenantId, prefix: str) -> Iterator[KnownCounter]:
        values = {":partition": {"S": partition}}
        condition = "pk = :partition"
        if prefix:
            condition += " AND begins_with(sk, :prefix)"
            values[":prefix"] = {"S": prefix}
        pages = self._client.get_paginator("query").paginate(
            TableName=self._table,
            KeyConditionExpression=condition,
            ExpressionAttributeValues=values,
            ConsistentRead=True,
        )
        for item in items_of(pages):
            listed_customer, metric = split(item["sk"]["S"])
            counter = CounterKey(tenant, CustomerRef(listed_customer), Metric(metric))
            yield KnownCounter(counter, times.from_text(item["newest"]["S"]))

    def changed_since(self, instant: datetime) -> Changes:
        """See `Counters.changed_since`; looks at one slot before the instant's as well."""
        first = slot_of(instant, self._changed_slot) - self._changed_slot
        now = self._clock.now()
        parts = list(islice(self._parts_marked(first, now + self._changed_slot), PARTS_MAX + 1))
        read, rest = parts[:PARTS_MAX], parts[PARTS_MAX:]
        buckets = {bucket for part in read for bucket in self._marked(part)}
        return Changes(buckets, slot_of_part(rest[0]) if rest else now)

    def _parts_marked(self, first: datetime, last: datetime) -> Iterator[str]:
        """The parts of the slots from the first to the last that hold any marks."""
        span = (changed_part(first, 0), changed_part(last, CHANGED_SHARDS))
        day = day_of(first)
        while day <= last:
            yield from self._sort_keys(changed_days(day), between=span)
            day += DAY

    def _marked(self, part: str) -> Iterator[BucketKey]:
        for sort_key in self._sort_keys(changed_partition(part)):
            tenant, customer, metric, bucket = split(sort_key)
            counter = CounterKey(TenantId(tenant), CustomerRef(customer), Metric(metric))
            yield BucketKey(counter, times.from_text(bucket))

    def _sort_keys(self, partition: str, between: tuple[str, str] | None = None) -> Iterator[str]:
        condition, values = "pk = :pk", {":pk": {"S": partition}}
        if between is not None:
            condition += " AND sk BETWEEN :first AND :last"
            values |= {":first": {"S": between[0]}, ":last": {"S": between[1]}}
        pages = self._client.get_paginator("query").paginate(
            TableName=self._table,
            KeyConditionExpression=condition,
            ExpressionAttributeValues=values,
            ConsistentRead=True,
        )
        return (item["sk"]["S"] for item in items_of(pages))


def _by_day(items: Sequence[Item]) -> dict[tuple[Metric, datetime], list[tuple[str, Item]]]:
    days = defaultdict(list)
    for item in items:
        _, day, metric, part = read_sort_key(item["sk"]["S"])
        days[metric, day].append((part, item))
    return days


def _is_consistent(parts: Sequence[tuple[str, Item]]) -> bool:
    """Whether base and lanes agree on what was folded.

    A query is no snapshot of a transaction: it may meet the base as it was before a fold and a lane
    as it was after (the lane would be missing), or the other way round (it would count twice).
    """
    base = next((item for part, item in parts if part == BASE), None)
    version, marks = (int(base["v"]["N"]), _marks(base)) if base else (0, set())
    for part, item in parts:
        if "fv" in item:
            if int(item["fv"]["N"]) > version:
                return False
        elif marks and lane_mark(part) in marks:
            return False
    return True


def _marks(base: Item) -> set[bytes]:
    """The lanes that the base was last made of."""
    joined = bytes(base["f"]["B"])
    return {bytes(mark) for mark in batched(joined, LANE_MARK_BYTES, strict=True)}


def _total(parts: Sequence[tuple[str, Any]]) -> dict[datetime, Usage]:
    """The usage of a day's buckets."""
    return sum_of_buckets(
        read_buckets(item) for part, item in parts if not (part.startswith(LANE) and "fv" in item)
    )
