"""What tenants may send (the `settings` table) and have sent lately (the `rates` table).

Apart, because the functions that take usage write what was sent, and must not be able to write
anything of the settings table, where the API keys are.
"""

from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from metering.adapters.dynamodb.refusals import is_condition_failure, retryable
from metering.adapters.dynamodb.settings_keys import tenant_limits_key
from metering.cache import ShortCache
from metering.config import Config
from metering.keys import join
from metering.names import TenantId
from metering.ports import Clock
from metering.rate_limit import RateKind, TenantLimits

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient
    from types_boto3_dynamodb.type_defs import AttributeValueTypeDef

    from metering.adapters.dynamodb.settings_keys import Key

_SECOND_US = 1_000_000


class DynamoTenantRates:
    """Answers `metering.ports.TenantRates`."""

    def __init__(self, dynamodb: "DynamoDBClient", config: Config, clock: Clock) -> None:
        self._dynamodb = dynamodb
        self._settings = config.table_prefix + "settings"
        self._rates = config.table_prefix + "rates"
        self._limits: ShortCache[TenantId, TenantLimits]
        self._limits = ShortCache(clock, config.settings_cache)

    def limits(self, tenant: TenantId) -> TenantLimits:
        """See `TenantRates.limits`; through the short cache."""
        return self._limits.get(tenant, lambda: self._read(tenant))

    def put_limits(self, tenant: TenantId, limits: TenantLimits) -> None:
        """See `TenantRates.put_limits`."""
        said = {
            "events_a_second": limits.events_a_second,
            "requests_a_second": limits.requests_a_second,
        }
        item: dict[str, AttributeValueTypeDef] = {
            name: {"N": str(limit)} for name, limit in said.items() if limit is not None
        }
        with retryable():
            self._dynamodb.put_item(TableName=self._settings, Item=tenant_limits_key(tenant) | item)
        self._limits.forget(tenant)

    def spend(
        self, kind: RateKind, tenant: TenantId, seconds: float, *, since: float, heard: float
    ) -> float:
        """See `TenantRates.spend`.

        One write, or two when nothing was owed as far as was heard, and somebody else has been
        quicker. The instant never runs backwards, so that what was heard to lie ahead still does.
        """
        by, at = round(seconds * _SECOND_US), round(since * _SECOND_US)
        key: Key = {"pk": {"S": join(kind, tenant)}}
        if heard < since and self._begin(key, at, by):
            return (at + by) / _SECOND_US
        with retryable():
            answer = self._dynamodb.update_item(
                TableName=self._rates,
                Key=key,
                UpdateExpression="ADD paid_until_us :by",
                ExpressionAttributeValues={":by": {"N": str(by)}},
                ReturnValues="UPDATED_NEW",
            )
        return int(answer["Attributes"]["paid_until_us"]["N"]) / _SECOND_US

    def _begin(self, key: "Key", at: int, by: int) -> bool:
        """Whether nothing was owed at that instant; then what is owed begins there."""
        try:
            with retryable():
                self._dynamodb.update_item(
                    TableName=self._rates,
                    Key=key,
                    UpdateExpression="SET paid_until_us = :until",
                    ConditionExpression="attribute_not_exists(pk) OR paid_until_us < :since",
                    ExpressionAttributeValues={
                        ":until": {"N": str(at + by)},
                        ":since": {"N": str(at)},
                    },
                )
        except ClientError as error:
            if is_condition_failure(error):
                return False
            raise
        return True

    def _read(self, tenant: TenantId) -> TenantLimits:
        with retryable():
            answer = self._dynamodb.get_item(
                TableName=self._settings, Key=tenant_limits_key(tenant)
            )
        said = {
            name: int(value["N"]) for name, value in answer.get("Item", {}).items() if "N" in value
        }
        return TenantLimits(**said)
