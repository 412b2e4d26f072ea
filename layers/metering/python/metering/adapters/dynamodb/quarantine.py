"""The `quarantine` table: input that could not be taken or folded, whole, with its reason."""

import zlib
from collections.abc import Iterator, Sequence
from itertools import batched
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from metering import times
from metering.adapters.dynamodb.refusals import items_of
from metering.errors import RetryableError
from metering.keys import join, split
from metering.names import IdempotencyKey, TenantId
from metering.ports import Quarantined

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient

PART_BYTES_MAX = 300_000
"""DynamoDB takes items of 400 KB; a message of 1 MiB that does not compress is cut in parts."""
_NO_TENANT = "unknown"
_HALVES = "surrogatepass"
"""Input may hold half a surrogate pair, which is no Unicode; it is kept all the same."""


class DynamoQuarantine:
    """The `Quarantine` port on DynamoDB."""

    def __init__(self, client: "DynamoDBClient", table: str) -> None:
        self._client = client
        self._table = table

    def put(self, items: Sequence[Quarantined]) -> None:
        """See `Quarantine.put`."""
        parts = [part for item in items for part in _to_items(item)]
        for part in parts:
            try:
                self._client.put_item(TableName=self._table, Item=part)
            except (BotoCoreError, ClientError) as error:
                raise RetryableError("the quarantine table refused for now") from error

    def of_key(self, tenant: TenantId, key: IdempotencyKey) -> list[Quarantined]:
        """See `Quarantine.of_key`."""
        items = self._query(
            KeyConditionExpression="pk = :subject",
            ExpressionAttributeValues={":subject": {"S": join(tenant, key)}},
            ConsistentRead=True,
        )
        found = _from_items(list(items))
        return sorted(found, key=lambda item: item.recorded_at, reverse=True)

    def newest(self, tenant: TenantId | None, limit: int) -> list[Quarantined]:
        """See `Quarantine.newest`."""
        items = self._query(
            IndexName="by_tenant",
            KeyConditionExpression="gp = :tenant",
            ExpressionAttributeValues={":tenant": {"S": _tenant_partition(tenant)}},
            ScanIndexForward=False,
            PaginationConfig={"MaxItems": limit, "PageSize": limit},
        )
        return [whole for item in items for whole in self._whole(item)]

    def _whole(self, head: dict[str, Any]) -> list[Quarantined]:
        """A listed item with its payload's further parts."""
        if head["parts"]["N"] == "1":
            return _from_items([head])
        items = self._query(
            KeyConditionExpression="pk = :subject AND begins_with(sk, :id)",
            ExpressionAttributeValues={":subject": head["pk"], ":id": {"S": head["id"]["S"] + "#"}},
        )
        return _from_items(list(items))

    def _query(self, **request: Any) -> Iterator[dict[str, Any]]:
        """All items of a query; a page ends at 1 MB, which is three parts of a payload."""
        pages = self._client.get_paginator("query").paginate(TableName=self._table, **request)
        return items_of(pages)


def _tenant_partition(tenant: TenantId | None) -> str:
    return _NO_TENANT if tenant is None else join(tenant)


def _subject(item: Quarantined) -> str:
    """What the item is about: an event's key where it has one, else itself."""
    if item.tenant is not None and item.key is not None:
        return join(item.tenant, item.key)
    return item.id


def _to_items(item: Quarantined) -> list[dict[str, Any]]:
    packed = zlib.compress(item.payload.encode(errors=_HALVES))
    parts = [bytes(part) for part in batched(packed, PART_BYTES_MAX, strict=False)]
    head: dict[str, Any] = {
        "pk": {"S": _subject(item)},
        "sk": {"S": f"{item.id}#0"},
        "gp": {"S": _tenant_partition(item.tenant)},
        "gs": {"S": f"{times.to_text(item.recorded_at)}#{item.id}"},
        "id": {"S": item.id},
        "about": {"S": join(item.tenant or "", item.key or "")},
        "kind": {"S": item.kind},
        "reason": {"S": item.reason},
        "origin": {"S": item.origin},
        "at": {"S": times.to_text(item.recorded_at)},
        "parts": {"N": str(len(parts))},
        "payload": {"B": parts[0]},
    }
    rest = [
        {
            "pk": head["pk"],
            "sk": {"S": f"{item.id}#{number}"},
            "id": head["id"],
            "payload": {"B": part},
        }
        for number, part in enumerate(parts[1:], start=1)
    ]
    # The head last: whoever sees it finds its payload whole.
    return [*rest, head]


def _from_items(items: Sequence[dict[str, Any]]) -> list[Quarantined]:
    heads = [item for item in items if "kind" in item]
    return [
        _from_head(head, [item for item in items if item["id"] == head["id"]]) for head in heads
    ]


def _from_head(head: dict[str, Any], parts: list[dict[str, Any]]) -> Quarantined:
    parts.sort(key=lambda item: item["sk"]["S"])
    payload = b"".join(bytes(part["payload"]["B"]) for part in parts)
    tenant, key = split(head["about"]["S"])
    return Quarantined(
        id=head["id"]["S"],
        tenant=TenantId(tenant) if tenant else None,
        key=IdempotencyKey(key) if key else None,
        kind=head["kind"]["S"],
        reason=head["reason"]["S"],
        origin=head["origin"]["S"],
        payload=zlib.decompress(payload).decode(errors=_HALVES),
        recorded_at=times.from_text(head["at"]["S"]),
    )
