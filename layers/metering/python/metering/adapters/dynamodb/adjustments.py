"""The `adjustments` table: the record of each adjustment, under its tenant and id."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from metering import quantity, times
from metering.adapters.dynamodb.refusals import is_condition_failure, items_of, retryable
from metering.adjustment import Adjustment, Reason, Status
from metering.keys import join, split
from metering.names import CustomerRef, Metric, TenantId

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient

type Item = dict[str, Any]

_NEW = "attribute_not_exists(pk)"
_SORT_KEY_BYTES_MAX = 1024
"""DynamoDB's limit. A late event's id holds its idempotency key, and can be longer."""
_TEXTS = ("actor", "note", "request_id", "parent", "approved_by", "approval_reason", "reverted_by")


class DynamoAdjustments:
    """The `AdjustmentStore` port on DynamoDB."""

    def __init__(self, client: "DynamoDBClient", table: str) -> None:
        self._client = client
        self._table = table

    def get(self, tenant: TenantId, adjustment_id: str) -> Adjustment | None:
        """See `AdjustmentStore.get`."""
        with retryable():
            answer = self._client.get_item(
                TableName=self._table, Key=_key(tenant, adjustment_id), ConsistentRead=True
            )
        return _from_item(answer["Item"]) if "Item" in answer else None

    def of_tenant(
        self, tenant: TenantId, *, metric: Metric | None, customer: CustomerRef | None
    ) -> Iterator[Adjustment]:
        """See `AdjustmentStore.of_tenant`."""
        wanted: dict[str, str | None] = {"metric": metric, "customer": customer}
        asked = {name: {"S": value} for name, value in wanted.items() if value is not None}
        request: Item = {}
        if asked:
            request["FilterExpression"] = " AND ".join(f"{name} = :{name}" for name in asked)
        values = {f":{name}": value for name, value in asked.items()}
        pages = self._client.get_paginator("query").paginate(
            TableName=self._table,
            KeyConditionExpression="pk = :tenant",
            ExpressionAttributeValues=values | {":tenant": {"S": join(tenant)}},
            ConsistentRead=True,
            **request,
        )
        yield from map(_from_item, items_of(pages))

    def add(self, adjustment: Adjustment) -> bool:
        """See `AdjustmentStore.add`."""
        return self._write(_put(self._table, adjustment, _NEW))

    def approve(self, approved: Adjustment) -> bool:
        """See `AdjustmentStore.approve`."""
        return self._write(_replace(self._table, approved, Status.PENDING))

    def revert(self, reverted: Adjustment, child: Adjustment) -> bool:
        """See `AdjustmentStore.revert`."""
        return self._write(
            _replace(self._table, reverted, Status.APPROVED), _put(self._table, child, _NEW)
        )

    def _write(self, *puts: Item) -> bool:
        """All or nothing; False when a condition does not hold."""
        try:
            # Each may be sent twice: the second meets its own condition, or the same token.
            with retryable():
                if len(puts) == 1:
                    self._client.put_item(**puts[0])
                else:
                    self._client.transact_write_items(TransactItems=[{"Put": one} for one in puts])  # type: ignore[typeddict-item]
        except ClientError as error:
            if not is_condition_failure(error):
                raise
            return False
        return True


def _put(table: str, adjustment: Adjustment, condition: str) -> Item:
    return {
        "TableName": table,
        "Item": _to_item(adjustment),
        "ConditionExpression": condition,
    }


def _replace(table: str, adjustment: Adjustment, standing: Status) -> Item:
    """Put it in the place of the same adjustment in another status."""
    return _put(table, adjustment, "#status = :standing") | {
        "ExpressionAttributeNames": {"#status": "status"},
        "ExpressionAttributeValues": {":standing": {"S": standing}},
    }


def _key(tenant: TenantId, adjustment_id: str) -> Item:
    return {"pk": {"S": join(tenant)}, "sk": {"S": _sort_key(adjustment_id)}}


def _sort_key(adjustment_id: str) -> str:
    """The id; of one that is too long its digest, and the id stands in the item."""
    raw = adjustment_id.encode()
    return adjustment_id if len(raw) <= _SORT_KEY_BYTES_MAX else f"sha256:{sha256(raw).hexdigest()}"


def _to_item(adjustment: Adjustment) -> Item:
    instants = {
        "period_start": adjustment.period_start,
        "occurred_at": adjustment.occurred_at,
        "created_at": adjustment.created_at,
        "approved_at": adjustment.approved_at,
        "reverted_at": adjustment.reverted_at,
    }
    texts = {name: getattr(adjustment, name) for name in _TEXTS}
    return (
        _key(adjustment.tenant, adjustment.id)
        | {
            "id": {"S": adjustment.id},
            "metric": {"S": adjustment.metric},
            "customer": {"S": adjustment.customer},
            "delta": {"N": quantity.canonical(adjustment.delta)},
            "reason": {"S": adjustment.reason},
            "status": {"S": adjustment.status},
        }
        | {name: {"S": times.to_text(at)} for name, at in instants.items() if at is not None}
        | {name: {"S": text} for name, text in texts.items() if text}
    )


def _from_item(item: Mapping[str, Any]) -> Adjustment:
    (tenant,) = split(item["pk"]["S"])
    return Adjustment(
        id=item["id"]["S"],
        tenant=TenantId(tenant),
        metric=Metric(item["metric"]["S"]),
        customer=CustomerRef(item["customer"]["S"]),
        period_start=times.from_text(item["period_start"]["S"]),
        occurred_at=times.from_text(item["occurred_at"]["S"]),
        delta=Decimal(item["delta"]["N"]),
        reason=Reason(item["reason"]["S"]),
        created_at=times.from_text(item["created_at"]["S"]),
        status=Status(item["status"]["S"]),
        approved_at=_instant(item, "approved_at"),
        reverted_at=_instant(item, "reverted_at"),
        **{name: item[name]["S"] if name in item else "" for name in _TEXTS},
    )


def _instant(item: Mapping[str, Any], name: str) -> datetime | None:
    return times.from_text(item[name]["S"]) if name in item else None
