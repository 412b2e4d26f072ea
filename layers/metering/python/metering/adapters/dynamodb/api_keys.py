"""API keys in the settings table, one GetItem each, by prefix.

A key stands twice: at its prefix, with the hash of its secret, and in its tenant's list without it.
Both are written in one transaction; the list is for people, and can show nothing that it lacks.
"""

from datetime import datetime
from typing import TYPE_CHECKING, Any

from metering import times
from metering.adapters.dynamodb.refusals import first_refused, retryable
from metering.adapters.dynamodb.settings_keys import (
    api_key_key,
    api_keys_of,
    listed_api_key_key,
    tenant_key,
)
from metering.auth import ApiKey, KeyRecord, Scope
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
        return self._cache.get(prefix, lambda: self.stored(prefix))

    def stored(self, prefix: str) -> ApiKey | None:
        """See `KeyStore.stored`."""
        with retryable():
            answer = self._dynamodb.get_item(
                TableName=self._table, Key=api_key_key(prefix), ConsistentRead=True
            )
        item = answer.get("Item")
        return _key_from(item) if item else None

    def listed(self, tenant: TenantId, after: str | None, limit: int) -> list[KeyRecord]:
        """See `KeyStore.listed`."""
        request: dict[str, Any] = {
            "TableName": self._table,
            "KeyConditionExpression": "pk = :partition",
            "ExpressionAttributeValues": {":partition": {"S": api_keys_of(tenant)}},
            "ConsistentRead": True,
            "Limit": limit,
        }
        if after:
            request["ExclusiveStartKey"] = listed_api_key_key(tenant, after)
        with retryable():
            answer = self._dynamodb.query(**request)
        # A hundred lines are far from a page's megabyte: only the limit ends it.
        return [KeyRecord(**_said(item)) for item in answer["Items"]]

    def add(self, key: ApiKey, *, opens_tenant: bool = False) -> None:
        """Keep a new key, and note its tenant, in one transaction."""
        note_tenant = {
            "TableName": self._table,
            "Key": tenant_key(key.tenant),
            "UpdateExpression": "SET created_at = if_not_exists(created_at, :now)",
            "ExpressionAttributeValues": {":now": {"S": times.to_text(key.created_at)}},
        }
        if opens_tenant:
            note_tenant["ConditionExpression"] = "attribute_not_exists(pk)"
        refused = self._write([{"Update": note_tenant}, *self._put(key)])
        if refused == 0:
            raise ConflictError(f"The tenant {key.tenant} exists")
        if refused is not None:
            raise ConflictError(f"An API key with the prefix {key.prefix} exists")
        self._cache.forget(key.prefix)

    def replace(self, old: ApiKey, new: ApiKey, retires_at: datetime) -> None:
        """See `KeyStore.replace`."""
        unchanged = "attribute_not_exists(revoked_at) AND attribute_not_exists(retires_at)"
        values = {":end": {"S": times.to_text(retires_at)}}
        if old.retires_at:
            unchanged = "attribute_not_exists(revoked_at) AND retires_at = :seen"
            values[":seen"] = {"S": times.to_text(old.retires_at)}
        retire = {
            "UpdateExpression": "SET retires_at = :end",
            "ConditionExpression": f"attribute_exists(pk) AND {unchanged}",
            "ExpressionAttributeValues": values,
        }
        refused = self._write([*self._update(old, retire), *self._put(new)])
        if refused is not None:
            raise ConflictError(f"The API key {old.prefix} was changed meanwhile; look at it again")
        self._cache.forget(old.prefix)
        self._cache.forget(new.prefix)

    def revoke(self, key: KeyRecord, now: datetime) -> None:
        """Refuse the key from now on; a key that is revoked stays revoked since when it was."""
        change = {
            "UpdateExpression": "SET revoked_at = if_not_exists(revoked_at, :now)",
            "ConditionExpression": "attribute_exists(pk)",
            "ExpressionAttributeValues": {":now": {"S": times.to_text(now)}},
        }
        if self._write(self._update(key, change)) is not None:
            raise ConflictError(f"There is no API key {key.prefix}")
        self._cache.forget(key.prefix)

    def _put(self, key: ApiKey) -> list[dict[str, Any]]:
        listed = _attributes(key)
        found = listed | {"secret_sha256": {"B": key.secret_sha256}}
        items = api_key_key(key.prefix) | found, listed_api_key_key(key.tenant, key.prefix) | listed
        return [
            {
                "Put": {
                    "TableName": self._table,
                    "Item": item,
                    "ConditionExpression": "attribute_not_exists(pk)",
                }
            }
            for item in items
        ]

    def _update(self, key: KeyRecord, change: dict[str, Any]) -> list[dict[str, Any]]:
        places = api_key_key(key.prefix), listed_api_key_key(key.tenant, key.prefix)
        return [{"Update": {"TableName": self._table, "Key": place} | change} for place in places]

    def _write(self, writes: list[dict[str, Any]]) -> int | None:
        """All or nothing; the position of the first write whose condition did not hold."""
        with first_refused() as refused, retryable():
            self._dynamodb.transact_write_items(TransactItems=writes)  # type: ignore[arg-type]
        return refused[0] if refused else None


def _attributes(key: KeyRecord) -> "Item":
    """What stands in both places."""
    item: Item = {
        "prefix": {"S": key.prefix},
        "tenant": {"S": key.tenant},
        "scopes": {"S": " ".join(sorted(key.scopes))},
        "created_at": {"S": times.to_text(key.created_at)},
        "name": {"S": key.name},
        "created_by": {"S": key.created_by},
    }
    ends = {"expires_at": key.expires_at, "retires_at": key.retires_at}
    return item | {name: {"S": times.to_text(end)} for name, end in ends.items() if end}


def _key_from(item: "Item") -> ApiKey:
    return ApiKey(**_said(item), secret_sha256=item["secret_sha256"]["B"])


def _said(item: "Item") -> dict[str, Any]:
    """A record's fields."""
    return {
        "prefix": item["prefix"]["S"],
        "tenant": TenantId(item["tenant"]["S"]),
        "scopes": frozenset(Scope(name) for name in item["scopes"]["S"].split()),
        "created_at": times.from_text(item["created_at"]["S"]),
        "name": item["name"]["S"],
        "created_by": item["created_by"]["S"],
        "expires_at": _instant(item, "expires_at"),
        "retires_at": _instant(item, "retires_at"),
        "revoked_at": _instant(item, "revoked_at"),
    }


def _instant(item: "Item", name: str) -> datetime | None:
    return times.from_text(item[name]["S"]) if name in item else None
