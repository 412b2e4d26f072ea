"""The `counters` table as the lane folder needs it."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import batched
from typing import TYPE_CHECKING, Any

from metering import times
from metering.adapters.dynamodb.counter_item import (
    BASE,
    LANE,
    Item,
    buckets_value,
    customer_partition,
    lane_item_key,
    lane_mark,
    part_sort_key,
    read_buckets,
    read_lane,
    read_partition,
    read_sort_key,
)
from metering.adapters.dynamodb.refusals import items_of
from metering.counter import CounterKey
from metering.lane import LaneKey
from metering.lane_folder import Base, StoredLane

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient

DELETES_MAX = 25
"""Of one BatchWriteItem."""


class DynamoLaneStore:
    """The `LaneStore` port on DynamoDB."""

    def __init__(self, client: "DynamoDBClient", table: str) -> None:
        self._client = client
        self._table = table

    def stored_lanes(self) -> Iterator[StoredLane]:
        """See `LaneStore.stored_lanes`; a scan of the whole table."""
        pages = self._client.get_paginator("scan").paginate(
            TableName=self._table, FilterExpression="attribute_exists(h)", ConsistentRead=True
        )
        yield from map(_stored_lane, items_of(pages))

    def base(self, key: LaneKey) -> Base:
        """See `LaneStore.base`."""
        answer = self._client.get_item(
            TableName=self._table, Key=_base_key(key), ConsistentRead=True
        )
        item = answer.get("Item")
        return Base(int(item["v"]["N"]), read_buckets(item)) if item else Base()

    def fold(self, lanes: Sequence[StoredLane], before: Base, after: Base, now: datetime) -> bool:
        """See `LaneStore.fold`."""
        marks = [self._mark_folded(stored, after.version, now) for stored in lanes]
        try:
            self._client.transact_write_items(
                TransactItems=[self._put_base(lanes, before, after), *marks]  # type: ignore[list-item]
            )
        except self._client.exceptions.TransactionCanceledException:
            return False
        return True

    def _put_base(self, lanes: Sequence[StoredLane], before: Base, after: Base) -> dict[str, Any]:
        marks = b"".join(lane_mark(LANE + stored.key.shard) for stored in lanes)
        content = {"v": {"N": str(after.version)}, "f": {"B": marks}}
        content["b"] = buckets_value(after.buckets)
        put: dict[str, Any] = {
            "TableName": self._table,
            "Item": _base_key(lanes[0].key) | content,
            "ConditionExpression": "attribute_not_exists(pk)",
        }
        if before.version:
            put["ConditionExpression"] = "v = :before"
            put["ExpressionAttributeValues"] = {":before": {"N": str(before.version)}}
        return {"Put": put}

    def _mark_folded(self, stored: StoredLane, version: int, now: datetime) -> dict[str, Any]:
        return {
            "Update": {
                "TableName": self._table,
                "Key": lane_item_key(stored.key),
                "UpdateExpression": "SET fv = :version, u = :now",
                "ConditionExpression": "h = :position AND attribute_not_exists(fv)",
                "ExpressionAttributeValues": {
                    ":version": {"N": str(version)},
                    ":position": {"S": stored.lane.position},
                    ":now": {"S": times.to_text(now)},
                },
            }
        }

    def remove(self, lanes: Iterable[LaneKey]) -> None:
        """See `LaneStore.remove`; what is not removed now is met by the next run."""
        requests = [{"DeleteRequest": {"Key": lane_item_key(key)}} for key in lanes]
        for chunk in batched(requests, DELETES_MAX, strict=False):
            self._client.batch_write_item(RequestItems={self._table: list(chunk)})  # type: ignore[arg-type]


def _base_key(key: LaneKey) -> Item:
    counter = key.counter
    return {
        "pk": {"S": customer_partition(counter.tenant, counter.customer)},
        "sk": {"S": part_sort_key(key.epoch, key.day, counter.metric, BASE)},
    }


def _stored_lane(item: dict[str, Any]) -> StoredLane:
    tenant, customer = read_partition(item["pk"]["S"])
    epoch, day, metric, part = read_sort_key(item["sk"]["S"])
    counter = CounterKey(tenant, customer, metric)
    key = LaneKey(counter, day, epoch, part.removeprefix(LANE))
    return StoredLane(key, read_lane(item), times.from_text(item["u"]["S"]))
