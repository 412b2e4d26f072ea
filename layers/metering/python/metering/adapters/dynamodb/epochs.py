"""The epochs of each tenant's counters, in the `counters` table, read through a short cache."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from metering import times
from metering.adapters.dynamodb.refusals import items_of, retryable
from metering.epoch import Epochs
from metering.errors import ConflictError
from metering.keys import join, split
from metering.names import TenantId
from metering.ports import Clock

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient

_PARTITION = "epochs"


class DynamoEpochs:
    """Which epochs exist; what is read may be as old as `cached_for`."""

    def __init__(
        self, client: "DynamoDBClient", table: str, *, clock: Clock, cached_for: timedelta
    ) -> None:
        self._client = client
        self._table = table
        self._clock = clock
        self._cached_for = cached_for
        self._cache: dict[TenantId, tuple[datetime, Epochs]] = {}

    def of(self, tenant: TenantId) -> Epochs:
        """A tenant's epochs."""
        now = self._clock.now()
        cached = self._cache.get(tenant)
        if cached is not None and now < cached[0]:
            return cached[1]
        epochs = self.read(tenant)
        self._cache[tenant] = (now + self._cached_for, epochs)
        return epochs

    def read(self, tenant: TenantId) -> Epochs:
        """A tenant's epochs as they stand now."""
        with retryable():
            answer = self._client.get_item(
                TableName=self._table, Key=_key(tenant), ConsistentRead=True
            )
        return _from_item(answer.get("Item", {}))

    def change(self, tenant: TenantId, before: Epochs, after: Epochs) -> None:
        """Replace a tenant's epochs if they still are `before`.

        Raises:
            ConflictError: somebody changed them meanwhile.
        """
        try:
            self._client.put_item(
                TableName=self._table,
                Item=_to_item(tenant, after),
                ConditionExpression="attribute_not_exists(pk) OR seal = :before",
                ExpressionAttributeValues={":before": {"S": _seal(before)}},
            )
        except self._client.exceptions.ConditionalCheckFailedException:
            raise ConflictError(f"the epochs of tenant {tenant} changed meanwhile") from None
        self._cache.pop(tenant, None)

    def under_rebuild(self) -> list[TenantId]:
        """The tenants whose next epoch is being built."""
        pages = self._client.get_paginator("query").paginate(
            TableName=self._table,
            KeyConditionExpression="pk = :partition",
            ExpressionAttributeValues={":partition": {"S": _PARTITION}},
            ConsistentRead=True,
        )
        items = (item for item in items_of(pages) if "next_cut" in item)
        return [TenantId(split(item["sk"]["S"])[0]) for item in items]


def _key(tenant: TenantId) -> dict[str, Any]:
    return {"pk": {"S": _PARTITION}, "sk": {"S": join(tenant)}}


def _seal(epochs: Epochs) -> str:
    """All of a state in one text, for the condition."""
    instants = (times.to_text(at) if at else "" for at in _instants(epochs).values())
    return "#".join([str(epochs.current), *instants])


def _instants(epochs: Epochs) -> dict[str, datetime | None]:
    """By attribute."""
    return {
        "cut": epochs.current_cut_at,
        "next_cut": epochs.next_cut_at,
        "former_cut": epochs.former_cut_at,
        "former_until": epochs.former_until,
    }


def _to_item(tenant: TenantId, epochs: Epochs) -> dict[str, Any]:
    item = _key(tenant) | {"current": {"N": str(epochs.current)}, "seal": {"S": _seal(epochs)}}
    instants = _instants(epochs).items()
    return item | {name: {"S": times.to_text(at)} for name, at in instants if at is not None}


def _from_item(item: Mapping[str, Any]) -> Epochs:
    if not item:
        return Epochs()
    return Epochs(
        int(item["current"]["N"]),
        current_cut_at=_instant(item, "cut"),
        next_cut_at=_instant(item, "next_cut"),
        former_cut_at=_instant(item, "former_cut"),
        former_until=_instant(item, "former_until"),
    )


def _instant(item: Mapping[str, Any], name: str) -> datetime | None:
    return times.from_text(item[name]["S"]) if name in item else None
