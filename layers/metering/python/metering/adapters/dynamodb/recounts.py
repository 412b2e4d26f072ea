"""What a rebuild counted, in the `counters` table."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from itertools import batched
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from metering.adapters.dynamodb.counter_item import (
    RECOUNT,
    Item,
    customer_partition,
    epoch_prefix,
    part_sort_key,
    read_sort_key,
    usage_values,
)
from metering.counter import BucketKey, CounterKey, Usage
from metering.errors import RetryableError
from metering.ports import Lanes

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient

PUTS_MAX = 25
"""Of one BatchWriteItem."""


class DynamoRecounts:
    """The `RecountStore` port on DynamoDB."""

    def __init__(self, client: "DynamoDBClient", table: str, lanes: Lanes) -> None:
        self._client = client
        self._table = table
        self._lanes = lanes

    def put_recount(self, epoch: int, usage: Mapping[BucketKey, Usage]) -> None:
        """See `RecountStore.put_recount`; lists and marks like the aggregator."""
        self._lanes.list_counters(_newest(usage))
        requests = [_put(epoch, key, counted) for key, counted in usage.items()]
        requests += [_delete(key) for key in self._leftovers(epoch, usage)]
        for chunk in batched(requests, PUTS_MAX, strict=False):
            self._write(list(chunk))
        self._lanes.mark_changed(usage.keys())

    def _leftovers(self, epoch: int, usage: Mapping[BucketKey, Usage]) -> Iterator[Item]:
        """The keys of what a killed run stored in buckets that a calendar has cut anew since."""
        places = [_place(epoch, key) for key in usage]
        wanted = {(place["pk"]["S"], place["sk"]["S"]) for place in places}
        for partition in {partition for partition, _ in wanted}:
            for place in self._recounted(partition, epoch):
                if (place["pk"]["S"], place["sk"]["S"]) not in wanted:
                    yield place

    def _recounted(self, partition: str, epoch: int) -> Iterator[Item]:
        pages = self._client.get_paginator("query").paginate(
            TableName=self._table,
            KeyConditionExpression="pk = :customer AND begins_with(sk, :epoch)",
            ExpressionAttributeValues={
                ":customer": {"S": partition},
                ":epoch": {"S": epoch_prefix(epoch)},
            },
            ProjectionExpression="pk, sk",
            ConsistentRead=True,
        )
        for page in pages:
            for item in page["Items"]:
                if read_sort_key(item["sk"]["S"])[3] == RECOUNT:
                    yield item

    def _write(self, requests: list[dict[str, Any]]) -> None:
        try:
            answer = self._client.batch_write_item(RequestItems={self._table: requests})  # type: ignore[dict-item]
        except (BotoCoreError, ClientError) as error:
            raise RetryableError("the counters table refused for now") from error
        if answer.get("UnprocessedItems"):
            raise RetryableError("the counters table took only some of a recount for now")


def _newest(usage: Mapping[BucketKey, Usage]) -> dict[CounterKey, datetime]:
    newest: dict[CounterKey, datetime] = {}
    for key, part in usage.items():
        for watermark in (part.counted.watermark, part.late.watermark):
            if watermark is not None:
                newest[key.counter] = max(watermark, newest.get(key.counter, watermark))
    return newest


def _place(epoch: int, key: BucketKey) -> Item:
    counter = key.counter
    return {
        "pk": {"S": customer_partition(counter.tenant, counter.customer)},
        "sk": {"S": part_sort_key(epoch, key.bucket, counter.metric, RECOUNT)},
    }


def _put(epoch: int, key: BucketKey, usage: Usage) -> dict[str, Any]:
    return {"PutRequest": {"Item": _place(epoch, key) | usage_values(usage)}}


def _delete(place: Item) -> dict[str, Any]:
    return {"DeleteRequest": {"Key": place}}
