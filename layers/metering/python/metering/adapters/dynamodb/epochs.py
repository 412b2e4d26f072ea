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
    cuts = (epochs.current_cut_at, epochs.next_cut_at)
    return "#".join([str(epochs.current), *(times.to_text(cut) if cut else "" for cut in cuts)])


def _to_item(tenant: TenantId, epochs: Epochs) -> dict[str, Any]:
    item = _key(tenant) | {"current": {"N": str(epochs.current)}, "seal": {"S": _seal(epochs)}}
    if epochs.current_cut_at:
        item["cut"] = {"S": times.to_text(epochs.current_cut_at)}
    if epochs.next_cut_at:
        item["next_cut"] = {"S": times.to_text(epochs.next_cut_at)}
    return item


def _from_item(item: Mapping[str, Any]) -> Epochs:
    if not item:
        return Epochs()
    return Epochs(
        int(item["current"]["N"]),
        times.from_text(item["cut"]["S"]) if "cut" in item else None,
        times.from_text(item["next_cut"]["S"]) if "next_cut" in item else None,
    )
