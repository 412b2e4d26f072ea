"""The ends of billing periods, in the `billing` table.

closes    pk = tenant, month of the period's start, shard    sk = customer, start
closing   pk = shard                                         sk = tenant, customer, start
          and from when on the draft is to be held before anything else is done

A close stands in `closing` too for as long as it is not finished; both are written in one
transaction, so whoever lists the unfinished ones misses none.
"""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from metering import times
from metering.adapters.dynamodb.push_item import key
from metering.adapters.dynamodb.refusals import is_condition_failure, items_of, retryable
from metering.config import Config
from metering.keys import digest, join, shard_of
from metering.names import CustomerRef, TenantId
from metering.period import Span
from metering.period_close import PeriodClose, PeriodState, held_from

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient

type Item = dict[str, Any]

CLOSE_SHARDS = 4
"""Partitions of a tenant's closes of one month."""
CLOSING_SHARDS = 8


class DynamoPeriodCloses:
    """The `PeriodCloses` port on DynamoDB."""

    def __init__(self, client: "DynamoDBClient", config: Config) -> None:
        self._client = client
        self._table = config.table_prefix + "billing"

    def of(self, tenant: TenantId, customer: CustomerRef, period: Span) -> PeriodClose | None:
        """See `PeriodCloses.of`."""
        return self._get(_close_key(tenant, customer, period.start))

    def of_month(self, tenant: TenantId, month: str) -> Iterator[PeriodClose]:
        """See `PeriodCloses.of_month`."""
        for shard in range(CLOSE_SHARDS):
            yield from map(_read_close, self._query(_closes_partition(tenant, month, shard)))

    def unfinished(self) -> Iterator[PeriodClose]:
        """See `PeriodCloses.unfinished`."""
        for line in self._closing():
            found = self._get(_place_of(line))
            if found is not None and found.state is PeriodState.CLOSING:
                yield found

    def to_hold(self, now: datetime) -> Iterator[PeriodClose]:
        """See `PeriodCloses.to_hold`. Only those closes are read of which it is true."""
        for line in self._closing():
            since = line.get("held_from")
            if since is None or times.from_text(since["S"]) > now:
                continue
            found = self._get(_place_of(line))
            since_now = held_from(found) if found is not None else None
            if found is not None and since_now is not None and since_now <= now:
                yield found

    def _closing(self) -> Iterator[Item]:
        for shard in range(CLOSING_SHARDS):
            yield from self._query(_closing_partition(shard))

    def store(self, close: PeriodClose) -> PeriodClose | None:
        """See `PeriodCloses.store`. 4 write units."""
        stored = replace(close, version=close.version + 1)
        put = {"Put": self._put(stored, before=close.version)}
        line = self._line(stored, was_stored=close.version > 0)
        return stored if self._write([put, *line]) else None

    def _put(self, close: PeriodClose, *, before: int) -> Item:
        put: Item = {"TableName": self._table, "Item": _close_item(close)}
        if before == 0:
            return put | {"ConditionExpression": "attribute_not_exists(pk)"}
        return put | {
            "ConditionExpression": "version = :before",
            "ExpressionAttributeValues": {":before": {"N": str(before)}},
        }

    def _line(self, close: PeriodClose, *, was_stored: bool) -> list[Item]:
        """What changes among the unfinished ones; one that stands there is written again."""
        at = _closing_key(close)
        if close.state is PeriodState.CLOSING:
            return [{"Put": {"TableName": self._table, "Item": at | _line_content(close)}}]
        return [{"Delete": {"TableName": self._table, "Key": at}}] if was_stored else []

    def _write(self, writes: list[Any]) -> bool:
        """Whether all was written; False when somebody else had stored the close."""
        try:
            with retryable():
                self._client.transact_write_items(TransactItems=writes)
        except ClientError as error:
            if is_condition_failure(error):
                return False
            raise
        return True

    def _get(self, at: Item) -> PeriodClose | None:
        with retryable():
            answer = self._client.get_item(TableName=self._table, Key=at, ConsistentRead=True)
        return _read_close(dict(answer["Item"])) if "Item" in answer else None

    def _query(self, partition: str) -> Iterator[Item]:
        pages = self._client.get_paginator("query").paginate(
            TableName=self._table,
            KeyConditionExpression="pk = :pk",
            ExpressionAttributeValues={":pk": {"S": partition}},
            ConsistentRead=True,
        )
        return items_of(pages)


# --- keys and items -------------------------------------------------------------------------------


def _closes_partition(tenant: TenantId, month: str, shard: int) -> str:
    return join("closes", tenant, month, str(shard))


def _close_key(tenant: TenantId, customer: CustomerRef, start: datetime) -> Item:
    """Where a close stands; names may be longer than a sort key, so they stand there as a hash."""
    shard = shard_of(customer, CLOSE_SHARDS)
    partition = _closes_partition(tenant, f"{start:%Y-%m}", shard)
    return key(partition, f"{digest(customer).hex()}#{times.to_text(start)}")


def _closing_partition(shard: int) -> str:
    return join("closing", str(shard))


def _closing_key(close: PeriodClose) -> Item:
    whose = digest(join(close.tenant, close.customer)).hex()
    shard = shard_of(whose, CLOSING_SHARDS)
    return key(_closing_partition(shard), f"{whose}#{times.to_text(close.period.start)}")


def _line_content(close: PeriodClose) -> Item:
    """Where a close stands, and from when on its draft is to be held first."""
    own = _close_key(close.tenant, close.customer, close.period.start)
    content = {"close_pk": own["pk"], "close_sk": own["sk"]}
    since = held_from(close)
    return content | {"held_from": {"S": times.to_text(since)}} if since else content


def _place_of(line: Item) -> Item:
    return {"pk": line["close_pk"], "sk": line["close_sk"]}


_INSTANTS = ("finalizes_at", "agreed_at", "closed_at", "held_at", "released_at", "next_look_at")


def _close_item(close: PeriodClose) -> Item:
    item = _close_key(close.tenant, close.customer, close.period.start) | {
        "tenant": {"S": close.tenant},
        "customer": {"S": close.customer},
        "period_start": {"S": times.to_text(close.period.start)},
        "period_end": {"S": times.to_text(close.period.end)},
        "state": {"S": close.state},
        "began_at": {"S": times.to_text(close.began_at)},
        "subscription": {"S": close.subscription},
        "invoice": {"S": close.invoice},
        "held": {"BOOL": close.is_held},
        "trial": {"BOOL": close.is_trial},
        "message": {"S": close.message},
        "version": {"N": str(close.version)},
    }
    instants = {name: getattr(close, name) for name in _INSTANTS}
    return item | {name: {"S": times.to_text(at)} for name, at in instants.items() if at}


def _read_close(item: Item) -> PeriodClose:
    return PeriodClose(
        tenant=TenantId(item["tenant"]["S"]),
        customer=CustomerRef(item["customer"]["S"]),
        period=Span(
            times.from_text(item["period_start"]["S"]), times.from_text(item["period_end"]["S"])
        ),
        state=PeriodState(item["state"]["S"]),
        began_at=times.from_text(item["began_at"]["S"]),
        subscription=item["subscription"]["S"],
        invoice=item["invoice"]["S"],
        is_held=item["held"]["BOOL"],
        is_trial=item["trial"]["BOOL"],
        message=item["message"]["S"],
        version=int(item["version"]["N"]),
        **{name: times.from_text(item[name]["S"]) for name in _INSTANTS if name in item},
    )
