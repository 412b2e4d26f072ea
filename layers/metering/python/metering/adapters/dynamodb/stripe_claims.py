"""Whose an object at Stripe is, one item each in the settings table."""

from collections.abc import Collection
from datetime import datetime
from typing import TYPE_CHECKING

from metering import times
from metering.adapters.dynamodb.refusals import first_refused, retryable
from metering.adapters.dynamodb.settings_keys import stripe_claim_key
from metering.config import Config
from metering.errors import ConflictError
from metering.names import TenantId
from metering.stripe_claims import StripeName

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient


class DynamoStripeClaims:
    """Answers `metering.ports.StripeClaims`."""

    def __init__(self, dynamodb: "DynamoDBClient", config: Config) -> None:
        self._dynamodb = dynamodb
        self._table = config.table_prefix + "settings"

    def take(self, tenant: TenantId, names: Collection[StripeName], now: datetime) -> None:
        """See `StripeClaims.take`."""
        wanted = list(dict.fromkeys(names))
        if not wanted:
            return
        with first_refused() as refused, retryable():
            claims = [self._claim(tenant, one, now) for one in wanted]
            self._dynamodb.transact_write_items(TransactItems=claims)  # type: ignore[arg-type]
        if refused:
            raise _anothers(wanted[refused[0]])

    def release(self, name: StripeName) -> TenantId | None:
        """See `StripeClaims.release`."""
        with retryable():
            answer = self._dynamodb.delete_item(
                TableName=self._table, Key=stripe_claim_key(*name), ReturnValues="ALL_OLD"
            )
        item = answer.get("Attributes")
        return TenantId(item["tenant"]["S"]) if item else None

    def _claim(self, tenant: TenantId, name: StripeName, now: datetime) -> dict[str, object]:
        update = {
            "TableName": self._table,
            "Key": stripe_claim_key(*name),
            "UpdateExpression": "SET tenant = :own, claimed_at = if_not_exists(claimed_at, :now)",
            "ConditionExpression": "attribute_not_exists(pk) OR tenant = :own",
            "ExpressionAttributeValues": {
                ":own": {"S": tenant},
                ":now": {"S": times.to_text(now)},
            },
        }
        return {"Update": update}


def _anothers(name: StripeName) -> ConflictError:
    return ConflictError(
        f"{name.name} at Stripe is another tenant's of this deployment; name one of this tenant's"
        " own, or have the operator release it (stripemeter tenant release)"
    )
