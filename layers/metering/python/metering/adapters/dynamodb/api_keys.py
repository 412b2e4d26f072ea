"""API keys in the settings table, one GetItem each, by prefix."""

from datetime import datetime
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from metering import times
from metering.adapters.dynamodb.refusals import is_condition_failure, retryable
from metering.adapters.dynamodb.settings_keys import api_key_key, tenant_key
from metering.auth import ApiKey, Scope
from metering.cache import ShortCache
from metering.config import Config
from metering.errors import ConflictError
from metering.names import TenantId
from metering.ports import Clock

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient
    from types_boto3_dynamodb.type_defs import AttributeValueTypeDef

type Item = dict[str, AttributeValueTypeDef]


class DynamoKeyStore:
    """Answers `metering.ports.KeyStore`."""

    def __init__(self, dynamodb: "DynamoDBClient", config: Config, clock: Clock) -> None:
        self._dynamodb = dynamodb
        self._table = config.table_prefix + "settings"
        self._cache: ShortCache[str, ApiKey | None] = ShortCache(clock, config.settings_cache)

    def find(self, prefix: str) -> ApiKey | None:
        """The key with this prefix, usable or not; also remembers that there is none."""
        return self._cache.get(prefix, lambda: self._read(prefix))

    def add(self, key: ApiKey) -> None:
        """Keep a new key, and note its tenant, in one transaction."""
        put_key = {
            "TableName": self._table,
            "Item": _item(key),
            "ConditionExpression": "attribute_not_exists(pk)",
        }
        note_tenant = {
            "TableName": self._table,
            "Key": tenant_key(key.tenant),
            "UpdateExpression": "SET created_at = if_not_exists(created_at, :now)",
            "ExpressionAttributeValues": {":now": {"S": times.to_text(key.created_at)}},
        }
        try:
            with retryable():
                self._dynamodb.transact_write_items(
                    TransactItems=[{"Put": put_key}, {"Update": note_tenant}]  # type: ignore[typeddict-item]
                )
        except ClientError as error:
            if not is_condition_failure(error):
                raise
            raise ConflictError(f"An API key with the prefix {key.prefix} exists") from error
        self._cache.forget(key.prefix)

    def revoke(self, key: ApiKey, now: datetime) -> None:
        """Refuse the key from now on; a key that is revoked stays revoked since when it was."""
        with retryable():
            self._dynamodb.update_item(
                TableName=self._table,
                Key=api_key_key(key.prefix),
                UpdateExpression="SET revoked_at = if_not_exists(revoked_at, :now)",
                ConditionExpression="attribute_exists(pk)",
                ExpressionAttributeValues={":now": {"S": times.to_text(now)}},
            )
        self._cache.forget(key.prefix)

    def _read(self, prefix: str) -> ApiKey | None:
        with retryable():
            answer = self._dynamodb.get_item(
                TableName=self._table, Key=api_key_key(prefix), ConsistentRead=True
            )
        item = answer.get("Item")
        return _key_from(item) if item else None


def _item(key: ApiKey) -> "Item":
    item: Item = {
        **api_key_key(key.prefix),
        "prefix": {"S": key.prefix},
        "tenant": {"S": key.tenant},
        "scopes": {"S": " ".join(sorted(key.scopes))},
        "secret_sha256": {"B": key.secret_sha256},
        "created_at": {"S": times.to_text(key.created_at)},
    }
    if key.expires_at:
        item["expires_at"] = {"S": times.to_text(key.expires_at)}
    return item


def _key_from(item: "Item") -> ApiKey:
    return ApiKey(
        prefix=item["prefix"]["S"],
        tenant=TenantId(item["tenant"]["S"]),
        scopes=frozenset(Scope(name) for name in item["scopes"]["S"].split()),
        secret_sha256=item["secret_sha256"]["B"],
        created_at=times.from_text(item["created_at"]["S"]),
        expires_at=_instant(item, "expires_at"),
        revoked_at=_instant(item, "revoked_at"),
    )


def _instant(item: "Item", name: str) -> datetime | None:
    return times.from_text(item[name]["S"]) if name in item else None
