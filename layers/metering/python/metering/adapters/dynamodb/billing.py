"""What Stripe was told, in the `billing` table: streams, pushes, pauses of accounts.

A stream's item holds its open push, so planning and stamping are one conditional write each. What
must change together (a push leaving its stream for the history, a stream being listed as in need)
changes in one transaction.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import batched
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from metering import times
from metering.adapters.dynamodb import push_item as items
from metering.adapters.dynamodb.push_item import Item
from metering.adapters.dynamodb.refusals import (
    code_of,
    is_condition_failure,
    items_of,
    retryable,
)
from metering.config import Config
from metering.counter import CounterKey
from metering.errors import RetryableError
from metering.keys import join
from metering.names import TenantId
from metering.period import DAY, Span
from metering.ports import PushHistory
from metering.push import Mode, Push, PushStream

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient

KEYS_MAX = 100
"""Of one BatchGetItem."""
BATCH_READS_MAX = 5
MONTH_AND_A_DAY = timedelta(days=32)
INCARNATION_KEY = items.key(join("store"), "incarnation")


class DynamoPushes:
    """The `Pushes` port on DynamoDB."""

    def __init__(self, client: "DynamoDBClient", config: Config) -> None:
        self._client = client
        self._table = config.table_prefix + "billing"

    # --- reading ---

    def streams(self, counter: CounterKey, period: Span) -> list[PushStream]:
        """See `Pushes.streams`."""
        partition = items.partition_of(counter, period.start)
        found = self._query(partition, items.stream_prefix(counter, period))
        return [items.read_stream(item) for item in found]

    def overlapping(self, counter: CounterKey, period: Span) -> list[PushStream]:
        """See `Pushes.overlapping`; periods are a month, so it looks at the months around."""
        first = period.start.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        around = (first - DAY, first, (first + MONTH_AND_A_DAY).replace(day=1))
        months = [month for month in around if month < period.end]
        found = (
            items.read_stream(item)
            for month in months
            for item in self._query(
                items.partition_of(counter, month), items.counter_prefix(counter)
            )
        )
        return [stream for stream in found if _overlaps(stream.key.period, period)]

    def of_period(self, counter: CounterKey, period: Span) -> list[PushHistory]:
        """See `Pushes.of_period`."""
        streams = self.streams(counter, period)
        return [PushHistory(stream, self.history(stream)) for stream in streams]

    def history(self, stream: PushStream) -> list[Push]:
        """See `Pushes.history`."""
        closed = self._query(items.pushes_partition(stream.key.id))
        pushes = [items.read_push(item) for item in closed]
        return pushes + ([stream.open] if stream.open else [])

    def of_month(self, tenant: TenantId, month: str) -> Iterator[PushStream]:
        """See `Pushes.of_month`."""
        for shard in range(items.STREAM_SHARDS):
            for item in self._query(items.streams_partition(tenant, month, shard)):
                yield items.read_stream(item)

    def in_need(self) -> list[PushStream]:
        """See `Pushes.in_need`."""
        listed = [
            {"pk": item["stream_pk"], "sk": item["stream_sk"]}
            for shard in range(items.IN_NEED_SHARDS)
            for item in self._query(items.in_need_partition(shard))
        ]
        batches = batched(listed, KEYS_MAX, strict=False)
        return [items.read_stream(item) for batch in batches for item in self._get_many(batch)]

    def _query(self, partition: str, prefix: str = "") -> Iterator[Item]:
        condition, values = "pk = :pk", {":pk": {"S": partition}}
        if prefix:
            condition += " AND begins_with(sk, :prefix)"
            values[":prefix"] = {"S": prefix}
        pages = self._client.get_paginator("query").paginate(
            TableName=self._table,
            KeyConditionExpression=condition,
            ExpressionAttributeValues=values,
            ConsistentRead=True,
        )
        return items_of(pages)

    def _get_many(self, keys: Sequence[Item]) -> list[Item]:
        found: list[Item] = []
        wanted: Any = {self._table: {"Keys": list(keys), "ConsistentRead": True}}
        for _ in range(BATCH_READS_MAX):
            with retryable():
                answer = self._client.batch_get_item(RequestItems=wanted)
            found += answer["Responses"].get(self._table, [])
            wanted = answer["UnprocessedKeys"]
            if not wanted:
                return found
        raise RetryableError("DynamoDB left streams unread")

    def _get(self, key: Item) -> Item | None:
        with retryable():
            answer = self._client.get_item(TableName=self._table, Key=key, ConsistentRead=True)
        return dict(answer["Item"]) if "Item" in answer else None

    # --- writing ---

    def store(self, stream: PushStream, closed: Push | None = None) -> PushStream | None:
        """See `Pushes.store`. 1 write unit while a push stays open; 4 to open it, 6 to close it."""
        was_listed = stream.is_listed
        stored = replace(stream, version=stream.version + 1, is_listed=stream.needs_attention)
        writes = [{"Put": self._put_stream(stored, before=stream.version)}]
        if stored.is_listed and not was_listed:
            writes.append({"Put": self._put_in_need(stored)})
        if was_listed and not stored.is_listed:
            writes.append({"Delete": {"TableName": self._table, "Key": items.in_need_key(stored)}})
        if closed is not None:
            item = items.push_item(stored, closed)
            writes.append({"Put": {"TableName": self._table, "Item": item}})
        return stored if self._write(writes) else None

    def _put_stream(self, stream: PushStream, *, before: int) -> Item:
        put: Item = {"TableName": self._table, "Item": items.stream_item(stream)}
        if before == 0:
            return put | {"ConditionExpression": "attribute_not_exists(pk)"}
        return put | {
            "ConditionExpression": "version = :before",
            "ExpressionAttributeValues": {":before": {"N": str(before)}},
        }

    def _put_in_need(self, stream: PushStream) -> Item:
        at = items.stream_key(stream)
        place = {"stream_pk": at["pk"], "stream_sk": at["sk"]}
        return {"TableName": self._table, "Item": items.in_need_key(stream) | place}

    def _write(self, writes: Sequence[Any]) -> bool:
        """Whether all was written; False when a condition did not hold."""
        try:
            with retryable():
                if len(writes) == 1:
                    self._client.put_item(**writes[0]["Put"])
                else:
                    self._client.transact_write_items(TransactItems=writes)
        except ClientError as error:
            if is_condition_failure(error):
                return False
            if code_of(error) == "TransactionCanceledException":
                raise RetryableError(f"DynamoDB cancelled a transaction: {error}") from error
            raise
        return True

    # --- the store's life and the accounts ---

    def incarnation(self) -> int:
        """See `Pushes.incarnation`."""
        item = self._get(INCARNATION_KEY)
        return int(item["number"]["N"]) if item else 0

    def pause(self, account: str, mode: Mode, until: datetime, reason: str) -> None:
        """See `Pushes.pause`."""
        item = _pause_key(account, mode) | {
            "until": {"S": times.to_text(until)},
            "reason": {"S": reason},
        }
        with retryable():
            self._client.put_item(TableName=self._table, Item=item)

    def paused_until(self, account: str, mode: Mode) -> datetime | None:
        """See `Pushes.paused_until`."""
        item = self._get(_pause_key(account, mode))
        return times.from_text(item["until"]["S"]) if item else None


def _overlaps(one: Span, other: Span) -> bool:
    return one.start != other.start and one.start < other.end and other.start < one.end


def _pause_key(account: str, mode: Mode) -> Item:
    return items.key(join("account", account, mode), "pause")
