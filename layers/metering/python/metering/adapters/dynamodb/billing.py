"""What Stripe was told, in the `billing` table: streams, pushes, pauses of accounts.

A stream's item holds its open push, so planning and stamping are one conditional write each. What
must change together (a push leaving its stream for the history, a stream being listed as in need)
changes in one transaction.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import batched
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from metering import times
from metering.adapters.dynamodb import push_item as items
from metering.adapters.dynamodb import settings_items
from metering.adapters.dynamodb.push_item import Item
from metering.adapters.dynamodb.refusals import (
    code_of,
    is_condition_failure,
    items_of,
    retryable,
)
from metering.adapters.dynamodb.settings_keys import customer_key
from metering.config import Config
from metering.counter import CounterKey
from metering.errors import RetryableError
from metering.keys import join
from metering.mapping import Customer
from metering.names import CustomerRef, Metric, TenantId
from metering.period import DAY, FIRST, Span, day_of
from metering.ports import Change, PushHistory
from metering.push import Mode, Push, PushStream, Role

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient

KEYS_MAX = 100
"""Of one BatchGetItem."""
BATCH_READS_MAX = 5
TRANSACTION_MAX = 100
"""Actions of one TransactWriteItems."""
CHANGE_MAX = 4
"""Actions of one change at most: stream, its line among those in need, closed push, customer."""
LONGEST_PERIOD = timedelta(days=3 * 366)
"""Stripe bills at least every three years."""
MOMENT = timedelta(microseconds=1)
INCARNATION_KEY = items.key(join("store"), "incarnation")


class DynamoPushes:
    """The `Pushes` port on DynamoDB, for one role: it sees and stores no stream of the other's."""

    def __init__(self, client: "DynamoDBClient", config: Config, role: Role = Role.PRIMARY) -> None:
        self.role = role
        self._client = client
        self._table = config.table_prefix + "billing"
        self._settings_table = config.table_prefix + "settings"

    # --- reading ---

    def streams(self, counter: CounterKey, period: Span) -> list[PushStream]:
        """See `Pushes.streams`."""
        tenant, customer, _ = counter
        partition = items.partition_of(self.role, tenant, customer, period.start)
        found = self._query(partition, items.stream_prefix(counter, period))
        return [items.read_stream(item) for item in found]

    def of_customer(
        self, tenant: TenantId, customer: CustomerRef, period: Span
    ) -> dict[Metric, list[PushStream]]:
        """See `Pushes.of_customer`. One query, about 1 KB per metric."""
        partition = items.partition_of(self.role, tenant, customer, period.start)
        streams: dict[Metric, list[PushStream]] = defaultdict(list)
        for item in self._query(partition, items.period_prefix(customer, period)):
            stream = items.read_stream(item)
            streams[stream.key.counter.metric].append(stream)
        return streams

    def overlapping(self, counter: CounterKey, period: Span) -> list[PushStream]:
        """See `Pushes.overlapping`; some 40 queries, since a period may have begun years before."""
        months = months_around(period)
        tenant, customer, _ = counter
        found = (
            items.read_stream(item)
            for month in months
            for item in self._query(
                items.partition_of(self.role, tenant, customer, month),
                items.customer_prefix(customer),
            )
        )
        return [
            stream
            for stream in found
            if stream.key.counter == counter and _overlaps(stream.key.period, period)
        ]

    def of_period(self, counter: CounterKey, period: Span) -> list[PushHistory]:
        """See `Pushes.of_period`."""
        streams = self.streams(counter, period)
        return [PushHistory(stream, self.history(stream)) for stream in streams]

    def history(self, stream: PushStream) -> list[Push]:
        """See `Pushes.history`. One query, and one per stream that it has received pushes from."""
        pushes = self._sent(stream.key.id)
        if stream.ceded_from is not None:
            pushes = [one for one in pushes if one.occurred_at < stream.ceded_from]
        received = [
            push
            for source in stream.sources - {stream.key.id}
            for push in self._sent(source)
            if push.occurred_at in stream.key.period
        ]
        received.sort(key=lambda one: (one.planned_at, one.identifier))
        return received + pushes + ([stream.open] if stream.open else [])

    def _sent(self, stream_id: str) -> list[Push]:
        """The closed pushes that a stream has sent, whoever holds them by now."""
        found = self._query(items.pushes_partition(stream_id))
        return [items.read_push(item) for item in found]

    def of_month(self, tenant: TenantId, month: str) -> Iterator[PushStream]:
        """See `Pushes.of_month`."""
        for shard in range(items.STREAM_SHARDS):
            for item in self._query(items.streams_partition(self.role, tenant, month, shard)):
                yield items.read_stream(item)

    def in_need(self, tenant: TenantId | None = None) -> list[PushStream]:
        """See `Pushes.in_need`."""
        # Of other tenants, not even what the list names is read for one of them.
        whose = items.streams_prefix(self.role, tenant) if tenant is not None else ""
        listed = [
            {"pk": item["stream_pk"], "sk": item["stream_sk"]}
            for shard in range(items.IN_NEED_SHARDS)
            for item in self._query(items.in_need_partition(self.role, shard))
            if item["stream_pk"]["S"].startswith(whose)
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
        return self._store(Change(stream, closed))

    def store_all(self, changes: Sequence[Change]) -> list[PushStream | None]:
        """See `Pushes.store_all`.

        As many write units as one by one, and 2 per customer whose stream begins; but one call for
        many streams, which is what a push costs in CPU.
        """
        stored: list[PushStream | None] = []
        for batch in batched(changes, TRANSACTION_MAX // CHANGE_MAX, strict=False):
            stored += self._store_in_one(batch)
        return stored

    def store_together(self, changes: Sequence[Change]) -> list[PushStream] | None:
        """See `Pushes.store_together`. One transaction; 2 to 4 write units per stream."""
        stored = [_next_version(change.stream) for change in changes]
        return stored if self._write(self._writes_of(changes, stored)) else None

    def _store_in_one(self, changes: Sequence[Change]) -> list[PushStream | None]:
        """In one transaction; where the condition of one does not hold, each in its own."""
        stored = [_next_version(change.stream) for change in changes]
        if len(changes) > 1 and self._write(self._writes_of(changes, stored)):
            return list(stored)
        return [self._store(change) for change in changes]

    def _store(self, change: Change) -> PushStream | None:
        stored = _next_version(change.stream)
        return stored if self._write(self._writes_of([change], [stored])) else None

    def _writes_of(self, changes: Iterable[Change], stored: Iterable[PushStream]) -> list[Item]:
        pairs = list(zip(changes, stored, strict=True))
        writes = [write for change, after in pairs for write in self._writes(change, after)]
        # A transaction takes one action per item, and several streams may be of one customer.
        customers = [change.customer for change, _ in pairs if change.customer is not None]
        checked = {(one.tenant, one.ref, one.recuts): one for one in customers}
        return writes + [{"ConditionCheck": self._not_recut(one)} for one in checked.values()]

    def _writes(self, change: Change, stored: PushStream) -> Iterator[Item]:
        before = change.stream
        assert before.key.target.role is self.role, f"{before.key.id} is not the {self.role}'s"
        yield {"Put": self._put_stream(stored, before=before.version)}
        if stored.is_listed and not before.is_listed:
            yield {"Put": self._put_in_need(stored)}
        if before.is_listed and not stored.is_listed:
            yield {"Delete": {"TableName": self._table, "Key": items.in_need_key(stored)}}
        if change.closed is not None:
            item = items.push_item(stored, change.closed)
            yield {"Put": {"TableName": self._table, "Item": item}}

    def _not_recut(self, customer: Customer) -> Item:
        key = customer_key(customer.tenant, customer.ref)
        check = {"TableName": self._settings_table, "Key": key}
        return check | settings_items.while_not_recut(customer)

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

    def claim(self, stream: PushStream) -> bool:
        """See `Pushes.claim`. 1 write unit."""
        item = items.claim_item(stream)
        put: Item = {
            "TableName": self._table,
            "Item": item,
            "ConditionExpression": "attribute_not_exists(pk) OR #owner = :owner",
            "ExpressionAttributeNames": {"#owner": "owner"},
            "ExpressionAttributeValues": {":owner": item["owner"]},
        }
        return self._write([{"Put": put}])

    # --- the store's life and the accounts ---

    def incarnation(self) -> int:
        """See `Pushes.incarnation`."""
        item = self._get(INCARNATION_KEY)
        return int(item["number"]["N"]) if item else 0

    def announce_life(self, now: datetime) -> datetime:
        """See `Pushes.announce_life`.

        A note of more than a day ago is of another restore: it came with the backup.
        """
        item = self._get(INCARNATION_KEY) or {}
        noted = times.from_text(item["announced_at"]["S"]) if "announced_at" in item else None
        if noted is not None and now - DAY <= noted <= now:
            return noted
        with retryable():
            self._client.update_item(
                TableName=self._table,
                Key=INCARNATION_KEY,
                UpdateExpression="SET announced_at = :now, #number = if_not_exists(#number, :zero)",
                ExpressionAttributeNames={"#number": "number"},
                ExpressionAttributeValues={":now": {"S": times.to_text(now)}, ":zero": {"N": "0"}},
            )
        return now

    def raise_incarnation(self) -> int:
        """See `Pushes.raise_incarnation`."""
        with retryable():
            answer = self._client.update_item(
                TableName=self._table,
                Key=INCARNATION_KEY,
                UpdateExpression="ADD #number :one REMOVE announced_at",
                ExpressionAttributeNames={"#number": "number"},
                ExpressionAttributeValues={":one": {"N": "1"}},
                ReturnValues="UPDATED_NEW",
            )
        return int(answer["Attributes"]["number"]["N"])

    def pause(self, account: str, mode: Mode, until: datetime, reason: str) -> None:
        """See `Pushes.pause`."""
        item = _pause_key(self.role, account, mode) | {
            "until": {"S": times.to_text(until)},
            "reason": {"S": reason},
        }
        with retryable():
            self._client.put_item(TableName=self._table, Item=item)

    def paused_until(self, account: str, mode: Mode) -> datetime | None:
        """See `Pushes.paused_until`."""
        item = self._get(_pause_key(self.role, account, mode))
        return times.from_text(item["until"]["S"]) if item else None


def _next_version(stream: PushStream) -> PushStream:
    return replace(stream, version=stream.version + 1, is_listed=stream.needs_attention)


def months_around(period: Span) -> list[datetime]:
    """The months in which a period that shares time with this one may begin, the latest first."""
    last = _first_of_month(min(period.end - MOMENT, period.start + LONGEST_PERIOD))
    earliest = _first_of_month(max(period.start, FIRST + LONGEST_PERIOD) - LONGEST_PERIOD)
    months = [last]
    while months[-1] > earliest:
        months.append(_first_of_month(months[-1] - DAY))
    return months


def _first_of_month(instant: datetime) -> datetime:
    return day_of(instant).replace(day=1)


def _overlaps(one: Span, other: Span) -> bool:
    return one.start != other.start and one.start < other.end and other.start < one.end


def _pause_key(role: Role, account: str, mode: Mode) -> Item:
    return items.key(join("account", account, mode, role), "pause")
