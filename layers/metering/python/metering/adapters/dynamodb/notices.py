"""Notices from Stripe, in the `billing` table.

known     pk = notice id      sk = notice                  for 30 days, so that it is kept once
waiting   pk = kind, shard    sk = received at, notice id  until somebody has acted on it

Both are written in one transaction, so a notice that is known was waiting. One that nobody acted on
is dropped after the same 30 days: by then Stripe, too, has forgotten the event, and what it told
has long been found by asking.
"""

import heapq
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from metering import times
from metering.adapters.dynamodb.push_item import Item, key
from metering.adapters.dynamodb.refusals import is_condition_failure, items_of, retryable
from metering.config import Config
from metering.keys import join, shard_of
from metering.notice import Notice, NoticeKind

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient

KNOWN_FOR = timedelta(days=30)
SHARDS = 4
"""Partitions of the waiting notices of a kind: invoices of one moment come in their thousands."""


class DynamoNotices:
    """The `Notices` port on DynamoDB."""

    def __init__(self, client: "DynamoDBClient", config: Config) -> None:
        self._client = client
        self._table = config.table_prefix + "billing"

    def keep(self, notice: Notice) -> bool:
        """See `Notices.keep`. 4 write units."""
        known: Item = {
            "TableName": self._table,
            "Item": _known_key(notice) | _expires(notice),
            "ConditionExpression": "attribute_not_exists(pk)",
        }
        waiting: Item = {"TableName": self._table, "Item": _item(notice)}
        writes: list[Any] = [{"Put": known}, {"Put": waiting}]
        try:
            with retryable():
                self._client.transact_write_items(TransactItems=writes)
        except ClientError as error:
            if is_condition_failure(error):
                return False
            raise
        return True

    def waiting(self, *kinds: NoticeKind) -> Iterator[Notice]:
        """See `Notices.waiting`. Read page by page, as far as somebody asks."""
        partitions = [_waiting_partition(kind, shard) for kind in kinds for shard in range(SHARDS)]
        items = heapq.merge(*map(self._query, partitions), key=_received)
        return map(_read, items)

    def _query(self, partition: str) -> Iterator[Item]:
        pages = self._client.get_paginator("query").paginate(
            TableName=self._table,
            KeyConditionExpression="pk = :pk",
            ExpressionAttributeValues={":pk": {"S": partition}},
            ConsistentRead=True,
        )
        return items_of(pages)

    def done(self, notice: Notice) -> None:
        """See `Notices.done`."""
        with retryable():
            self._client.delete_item(TableName=self._table, Key=_waiting_key(notice))


# --- keys and items -------------------------------------------------------------------------------


def _known_key(notice: Notice) -> Item:
    return key(join("notice", notice.id), "notice")


def _waiting_partition(kind: NoticeKind, shard: int) -> str:
    return join("notices", kind, str(shard))


def _waiting_key(notice: Notice) -> Item:
    partition = _waiting_partition(notice.kind, shard_of(notice.id, SHARDS))
    return key(partition, f"{times.to_text(notice.received_at)}#{notice.id}")


def _received(item: Item) -> str:
    return str(item["sk"]["S"])


def _expires(notice: Notice) -> Item:
    return {"expires": {"N": str(int((notice.received_at + KNOWN_FOR).timestamp()))}}


def _item(notice: Notice) -> Item:
    return (
        _waiting_key(notice)
        | _expires(notice)
        | {
            "id": {"S": notice.id},
            "kind": {"S": notice.kind},
            "type": {"S": notice.type},
            "object": {"S": notice.object_id},
            "customer": {"S": notice.customer},
            "account": {"S": notice.account},
            "live": {"BOOL": notice.is_live},
            "created_at": {"S": times.to_text(notice.created_at)},
            "received_at": {"S": times.to_text(notice.received_at)},
        }
    )


def _read(item: Mapping[str, Any]) -> Notice:
    return Notice(
        id=item["id"]["S"],
        kind=NoticeKind(item["kind"]["S"]),
        type=item["type"]["S"],
        object_id=item["object"]["S"],
        customer=item["customer"]["S"],
        account=item["account"]["S"],
        is_live=item["live"]["BOOL"],
        created_at=times.from_text(item["created_at"]["S"]),
        received_at=times.from_text(item["received_at"]["S"]),
    )
