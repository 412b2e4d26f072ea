"""The ledger in the `events` table.

The stored event is its own dedupe record: one conditional write, so there is no moment in which an
event is marked as seen and not stored.
"""

import heapq
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import batched
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from metering import times
from metering.adapters.dynamodb.calls import STATEMENTS_MAX, MapOver
from metering.adapters.dynamodb.ledger_item import (
    COUNTED_BY,
    HELD_SHARDS,
    Item,
    from_item,
    held_partition,
    index_partition,
    partition_key,
    to_item,
)
from metering.adapters.dynamodb.refusals import items_of, retryable
from metering.counter import CounterKey
from metering.errors import RetryableError
from metering.event import LedgerEntry
from metering.names import CustomerRef, IdempotencyKey, Metric, TenantId
from metering.period import Span
from metering.ports import Appended, IndexOffError, LedgerTooLargeError

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient

log = logging.getLogger(__name__)

KEYS_MAX = 100
"""Of one BatchGetItem."""
_STANDS = "DuplicateItem"
"""The error of an INSERT at whose key there is an item."""


class DynamoLedger:
    """The `Ledger` port on DynamoDB."""

    def __init__(
        self,
        client: "DynamoDBClient",
        table: str,
        *,
        index_shards: int,
        map_calls: MapOver = map,
    ) -> None:
        self._client = client
        self._table = table
        self._index_shards = index_shards
        self._map_calls = map_calls

    def append(self, entries: Sequence[LedgerEntry]) -> list[Appended]:
        """See `Ledger.append`. One write unit per entry of up to 1 KB, two with the index.

        A single entry is inserted by a statement, too: `PutItem` could overwrite, if ever its
        condition were forgotten, and IAM knows no conditions. `PartiQLInsert` can only append.
        """
        items = [to_item(entry, index_shards=self._index_shards) for entry in entries]
        chunks = batched(items, STATEMENTS_MAX, strict=False)
        return [outcome for part in self._map_calls(self._insert, chunks) for outcome in part]

    def _insert(self, items: Sequence[Item]) -> list[Appended]:
        statements = [_insert_statement(self._table, item) for item in items]
        try:
            answer = self._client.batch_execute_statement(Statements=statements)  # type: ignore[arg-type]
        except (BotoCoreError, ClientError) as error:
            log.warning("%d events are not stored for now: %s", len(items), error)
            return [Appended.FAILED] * len(items)
        codes = [response.get("Error", {}).get("Code") for response in answer["Responses"]]
        if not any(codes):
            return [Appended.ACCEPTED] * len(items)
        _log_failures(codes)
        taken = [item for item, code in zip(items, codes, strict=True) if code == _STANDS]
        standing = self._standing(taken)
        return [_outcome(code, item, standing) for item, code in zip(items, codes, strict=True)]

    def _standing(self, items: Sequence[Item]) -> dict[str, Item]:
        """What stands at the keys of refused items; a key whose read failed is missing."""
        wanted = [{"pk": item["pk"]} for item in items]
        if not wanted:
            return {}
        try:
            answer = self._client.batch_get_item(
                RequestItems={
                    self._table: {
                        "Keys": wanted,
                        "ConsistentRead": True,
                        "ProjectionExpression": "pk, h, ra",
                    }
                }
            )
        except (BotoCoreError, ClientError):
            return {}
        return {item["pk"]["S"]: item for item in answer["Responses"].get(self._table, [])}

    def get(self, tenant: TenantId, key: IdempotencyKey) -> LedgerEntry | None:
        """See `Ledger.get`."""
        with retryable():
            answer = self._client.get_item(
                TableName=self._table,
                Key={"pk": {"S": partition_key(tenant, key)}},
                ConsistentRead=True,
            )
        return from_item(answer["Item"]) if "Item" in answer else None

    def get_many(
        self, tenant: TenantId, keys: Iterable[IdempotencyKey]
    ) -> dict[IdempotencyKey, LedgerEntry]:
        """See `Ledger.get_many`."""
        found = {}
        for chunk in batched(dict.fromkeys(keys), KEYS_MAX, strict=False):
            wanted = [{"pk": {"S": partition_key(tenant, key)}} for key in chunk]
            for item in self._items(wanted):
                entry = from_item(item)
                found[entry.event.key] = entry
        return found

    def _items(self, wanted: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        with retryable():
            answer = self._client.batch_get_item(
                RequestItems={self._table: {"Keys": wanted, "ConsistentRead": True}}
            )
        if answer.get("UnprocessedKeys"):
            raise RetryableError("the ledger could not all be read for now")
        return list(answer["Responses"].get(self._table, []))

    def held(
        self, tenant: TenantId, *, metric: Metric | None, customer: CustomerRef | None
    ) -> Iterator[LedgerEntry]:
        """See `Ledger.held`."""
        wanted: dict[str, str | None] = {"m": metric, "c": customer}
        asked = {name: {"S": value} for name, value in wanted.items() if value is not None}
        request: dict[str, Any] = {}
        if asked:
            request["FilterExpression"] = " AND ".join(f"{name} = :{name}" for name in asked)
        for shard in range(HELD_SHARDS):
            values = {f":{name}": value for name, value in asked.items()}
            values[":partition"] = {"S": held_partition(tenant, shard)}
            pages = self._client.get_paginator("query").paginate(
                TableName=self._table,
                IndexName="by_held",
                KeyConditionExpression="lp = :partition",
                ExpressionAttributeValues=values,
                **request,
            )
            yield from map(from_item, items_of(pages))

    def of_counter(
        self,
        counter: CounterKey,
        span: Span,
        *,
        newest_first: bool = False,
        page_size: int | None = None,
    ) -> Iterator[LedgerEntry]:
        """See `Ledger.of_counter`; merges the index's shards."""
        if not self._index_shards:
            raise IndexOffError
        shards = [
            self._of_shard(counter, shard, span, newest_first=newest_first, page_size=page_size)
            for shard in range(self._index_shards)
        ]
        return heapq.merge(*shards, key=_by_time, reverse=newest_first)

    def _of_shard(
        self,
        counter: CounterKey,
        shard: int,
        span: Span,
        *,
        newest_first: bool,
        page_size: int | None,
    ) -> Iterator[LedgerEntry]:
        paging = {} if page_size is None else {"PageSize": page_size}
        pages = self._client.get_paginator("query").paginate(
            TableName=self._table,
            IndexName="by_counter",
            KeyConditionExpression="gp = :partition AND gs BETWEEN :start AND :end",
            ExpressionAttributeValues={
                ":partition": {"S": index_partition(counter, shard)},
                ":start": {"S": times.to_text(span.start)},
                ":end": {"S": times.to_text(span.end)},
            },
            ScanIndexForward=not newest_first,
            PaginationConfig=paging,  # type: ignore[arg-type]
        )
        for item in items_of(pages):
            entry = from_item(item)
            if entry.event.occurred_at < span.end:  # BETWEEN takes in the end itself
                yield entry

    def of_tenant(self, tenant: TenantId) -> Iterator[LedgerEntry]:
        """See `Ledger.of_tenant`; reads the whole table, other tenants' entries included."""
        pages = self._client.get_paginator("scan").paginate(
            TableName=self._table,
            FilterExpression="t = :tenant",
            ExpressionAttributeValues={":tenant": {"S": tenant}},
            ConsistentRead=True,
        )
        yield from map(from_item, items_of(pages))

    def to_recount(
        self, tenant: TenantId, *, pages_max: int | None = None
    ) -> Iterator[LedgerEntry]:
        """See `Ledger.to_recount`; what is left out saves half the time, which is JSON."""
        names = {f"#{name}": name for name in COUNTED_BY}
        pages = self._client.get_paginator("scan").paginate(
            TableName=self._table,
            FilterExpression="#t = :tenant",
            ProjectionExpression=", ".join(names),
            ExpressionAttributeNames=names,
            ExpressionAttributeValues={":tenant": {"S": tenant}},
            ConsistentRead=True,
        )
        yield from map(from_item, items_of(_at_most(pages, pages_max)))


def _at_most[P](pages: Iterable[P], most: int | None) -> Iterator[P]:
    for number, page in enumerate(pages):
        if most is not None and number >= most:
            raise LedgerTooLargeError
        yield page


def _by_time(entry: LedgerEntry) -> tuple[Any, str]:
    return entry.event.occurred_at, entry.event.key


@lru_cache
def _insert_text(table: str, attributes: tuple[str, ...]) -> str:
    """The INSERT of an item with these attributes; few forms exist, each is written once."""
    fields = ", ".join(f"'{name}': ?" for name in attributes)
    return f'INSERT INTO "{table}" VALUE {{{fields}}}'


def _insert_statement(table: str, item: Item) -> dict[str, Any]:
    return {"Statement": _insert_text(table, tuple(item)), "Parameters": list(item.values())}


def _log_failures(codes: Sequence[str | None]) -> None:
    """Say why events are not stored: whoever sent them is only told to send them again."""
    failures = Counter(code for code in codes if code not in {None, _STANDS})
    if failures:
        log.warning("%d events are not stored for now: %s", failures.total(), dict(failures))


def _outcome(code: str | None, item: Item, standing: dict[str, Item]) -> Appended:
    if code is None:
        return Appended.ACCEPTED
    if code != _STANDS:
        return Appended.FAILED
    stands = standing.get(item["pk"]["S"])
    return Appended.FAILED if stands is None else _compare(item, stands)


def _compare(sent: Item, standing: Item) -> Appended:
    """What a refused write means, by what stands at its key."""
    if sent["h"]["B"] != standing["h"]["B"]:
        return Appended.CONFLICT
    # The client's own retry after a lost answer meets the write of its first attempt.
    is_our_own = sent["ra"] == standing["ra"]
    return Appended.ACCEPTED if is_our_own else Appended.DUPLICATE
