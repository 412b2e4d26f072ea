"""What a rebuild counted, in the `counters` table."""

from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime
from itertools import batched
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from metering.adapters.dynamodb.counter_item import (
    RECOUNT,
    buckets_value,
    customer_partition,
    part_sort_key,
)
from metering.counter import BucketKey, Buckets, CounterKey, Usage
from metering.errors import RetryableError
from metering.period import DAY, day_of
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
        days: dict[tuple[CounterKey, datetime], dict[datetime, Usage]] = defaultdict(dict)
        for (counter, start), counted in usage.items():
            days[counter, day_of(start)][start] = counted
        requests = [_put(epoch, counter, day, buckets) for (counter, day), buckets in days.items()]
        for chunk in batched(requests, PUTS_MAX, strict=False):
            self._write(list(chunk))
        self._lanes.mark_changed(usage.keys())

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
        for watermark in (part.counted.watermark, part.late.watermark, _decided_until(key, part)):
            if watermark is not None:
                newest[key.counter] = max(watermark, newest.get(key.counter, watermark))
    return newest


def _decided_until(key: BucketKey, usage: Usage) -> datetime | None:
    """An end for the times of adjustments, which no watermark shows: that of their day."""
    is_usage_alone = usage.entries == usage.counted.count + usage.late.count
    return None if is_usage_alone else day_of(key.bucket) + DAY


def _put(epoch: int, counter: CounterKey, day: datetime, buckets: Buckets) -> dict[str, Any]:
    item = {
        "pk": {"S": customer_partition(counter.tenant, counter.customer)},
        "sk": {"S": part_sort_key(epoch, day, counter.metric, RECOUNT)},
        "b": buckets_value(buckets),
    }
    return {"PutRequest": {"Item": item}}
