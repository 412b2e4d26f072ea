"""What tenants set up, in the settings table.

An active mapping stands twice: at its own id, and at its metric's one place for the active mapping.
Both are written in one transaction, so a metric never has two, and one read finds it.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import batched, islice
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from metering import times
from metering.adapters.dynamodb import settings_items as items
from metering.adapters.dynamodb import settings_keys as keys
from metering.adapters.dynamodb.refusals import is_condition_failure, retryable
from metering.cache import ShortCache
from metering.config import Config
from metering.errors import ConflictError, RetryableError
from metering.mapping import (
    Customer,
    Mapping,
    MetricSettings,
    in_place_of,
    unmapped_customer,
)
from metering.names import CustomerRef, Metric, TenantId
from metering.ports import Clock
from metering.tenant_settings import TenantSettings

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient

    from metering.adapters.dynamodb.settings_items import Item
    from metering.adapters.dynamodb.settings_keys import Key

_BATCH_GET_MAX = 100
_BATCH_GET_ATTEMPTS = 5
_PUT_ATTEMPTS = 5
"""Of a customer that others change at the same time."""


class DynamoSettings:
    """Answers `metering.ports.Settings` and `SettingsStore`."""

    def __init__(self, dynamodb: "DynamoDBClient", config: Config, clock: Clock) -> None:
        self._dynamodb = dynamodb
        self._table = config.table_prefix + "settings"
        self._clock = clock
        self._lateness = config.lateness
        self._tenants_noted: set[TenantId] = set()
        lifetime = config.settings_cache
        self._tenant_settings: ShortCache[TenantId, TenantSettings]
        self._tenant_settings = ShortCache(clock, lifetime)
        self._metrics: ShortCache[tuple[TenantId, Metric], MetricSettings]
        self._metrics = ShortCache(clock, lifetime)
        self._active_mappings: ShortCache[tuple[TenantId, Metric], Mapping | None]
        self._active_mappings = ShortCache(clock, lifetime)
        self._customers: ShortCache[tuple[TenantId, CustomerRef], Customer]
        self._customers = ShortCache(clock, lifetime)

    # --- reading, through the cache ---

    def tenant(self, tenant: TenantId) -> TenantSettings:
        """What a tenant has decided, the defaults when it decided nothing."""
        return self._tenant_settings.get(tenant, lambda: self.stored_tenant(tenant))

    def metric(self, tenant: TenantId, metric: Metric) -> MetricSettings:
        """A metric's settings, the defaults when nobody set it up."""

        def load() -> MetricSettings:
            item = self._get(keys.metric_key(tenant, metric))
            if item is None:
                return MetricSettings(metric, lateness=self._lateness)
            return items.metric_from(item)

        return self._metrics.get((tenant, metric), load)

    def active_mapping(self, tenant: TenantId, metric: Metric) -> Mapping | None:
        """The mapping that pushes this metric, None when it is unmapped."""

        def load() -> Mapping | None:
            item = self._get(keys.active_mapping_key(tenant, metric))
            return items.mapping_from(item) if item else None

        return self._active_mappings.get((tenant, metric), load)

    def customer(self, tenant: TenantId, ref: CustomerRef) -> Customer:
        """Who a customer is at Stripe (`unmapped_customer` when nobody said)."""

        def load() -> Customer:
            item = self._get(keys.customer_key(tenant, ref))
            return items.customer_from(item) if item else unmapped_customer(tenant, ref)

        return self._customers.get((tenant, ref), load)

    def customers(
        self, tenant: TenantId, refs: Iterable[CustomerRef]
    ) -> dict[CustomerRef, Customer]:
        """Many at once; refs that nobody set up come as `unmapped_customer`."""
        wanted = {(tenant, ref) for ref in refs}
        found = self._customers.get_many(wanted, self._read_customers)
        # In an order of their own: callers go through them, and a run must do so twice alike.
        return {ref: found[tenant, ref] for tenant, ref in sorted(wanted)}

    def _read_customers(
        self, wanted: set[tuple[TenantId, CustomerRef]]
    ) -> dict[tuple[TenantId, CustomerRef], Customer]:
        customers = {(tenant, ref): unmapped_customer(tenant, ref) for tenant, ref in wanted}
        for batch in batched(sorted(wanted), _BATCH_GET_MAX, strict=False):
            for item in self._get_many([keys.customer_key(tenant, ref) for tenant, ref in batch]):
                customer = items.customer_from(item)
                customers[customer.tenant, customer.ref] = customer
        return customers

    def tenants(self) -> list[TenantId]:
        """Every tenant that has settings."""
        return [TenantId(item["sk"]["S"]) for item in self._all_of(keys.TENANTS)]

    # --- the tenant ---

    def stored_tenant(self, tenant: TenantId) -> TenantSettings:
        """What a tenant has decided, as it stands in the table now."""
        item = self._get(keys.tenant_settings_key(tenant))
        return items.tenant_from(item) if item else TenantSettings(tenant)

    def put_tenant(self, settings: TenantSettings) -> None:
        """Keep a tenant's decisions in place of what stood there."""
        self._note_tenant(settings.tenant)
        self._put(items.tenant_item(settings))
        self._tenant_settings.forget(settings.tenant)

    # --- metrics ---

    def put_metric(self, tenant: TenantId, settings: MetricSettings) -> None:
        """Keep a metric's settings in place of what stood there."""
        self._note_tenant(tenant)
        self._put(items.metric_item(tenant, settings))
        self._metrics.forget((tenant, settings.metric))

    def metrics(self, tenant: TenantId) -> list[MetricSettings]:
        """The metrics that were set up, by name."""
        return [items.metric_from(item) for item in self._all_of(keys.metrics_of(tenant))]

    # --- mappings ---

    def mapping(self, tenant: TenantId, mapping_id: str) -> Mapping | None:
        """The tenant's mapping with this id."""
        item = self._get(keys.mapping_key(tenant, mapping_id))
        return items.mapping_from(item) if item else None

    def mappings(self, tenant: TenantId) -> list[Mapping]:
        """All mappings of a tenant, active or not, oldest first."""
        found = [items.mapping_from(item) for item in self._all_of(keys.mappings_of(tenant))]
        return sorted(found, key=lambda mapping: (mapping.created_at, mapping.id))

    def add_mapping(self, mapping: Mapping) -> None:
        """Keep a new mapping, and where it is active, as its metric's only active one."""
        self._note_tenant(mapping.tenant)
        writes = [self._put_if(items.mapping_item(mapping), "attribute_not_exists(pk)")]
        if mapping.active:
            writes.append(self._take_active_place(mapping))
        self._write_mapping(writes, mapping)

    def change_mapping(self, before: Mapping, after: Mapping) -> Mapping:
        """Put `after` in the place of `before` and answer it with its new version."""
        after = replace(after, version=before.version + 1)
        own = self._put_if(items.mapping_item(after), "version = :seen", seen=str(before.version))
        self._write_mapping([own, *self._move_active_place(before, after)], before, after)
        return after

    def delete_mapping(self, mapping: Mapping) -> None:
        """Forget a mapping; its metric is unmapped from now on."""
        own = self._delete_if(
            keys.mapping_key(mapping.tenant, mapping.id),
            "version = :seen",
            seen=str(mapping.version),
        )
        leave = [self._leave_active_place(mapping)] if mapping.active else []
        self._write_mapping([own, *leave], mapping)

    def _move_active_place(self, before: Mapping, after: Mapping) -> list[dict[str, Any]]:
        if before.active and after.active and before.metric == after.metric:
            place = keys.active_mapping_key(after.tenant, after.metric)
            item = place | items.mapping_attributes(after)
            return [self._put_if(item, "id = :own", own=after.id)]
        leave = [self._leave_active_place(before)] if before.active else []
        return leave + ([self._take_active_place(after)] if after.active else [])

    def _take_active_place(self, mapping: Mapping) -> dict[str, Any]:
        place = keys.active_mapping_key(mapping.tenant, mapping.metric)
        return self._put_if(place | items.mapping_attributes(mapping), "attribute_not_exists(pk)")

    def _leave_active_place(self, mapping: Mapping) -> dict[str, Any]:
        place = keys.active_mapping_key(mapping.tenant, mapping.metric)
        return self._delete_if(place, "id = :own", own=mapping.id)

    def _write_mapping(self, writes: list[dict[str, Any]], *mappings: Mapping) -> None:
        try:
            with retryable():
                self._dynamodb.transact_write_items(TransactItems=writes)  # type: ignore[arg-type]
        except ClientError as error:
            if not is_condition_failure(error):
                raise
            raise _conflict(error, mappings[-1]) from error
        finally:
            for mapping in mappings:
                self._active_mappings.forget((mapping.tenant, mapping.metric))

    # --- customers ---

    def put_customer(self, customer: Customer) -> None:
        """Keep a customer in place of what stood there, and count a change of its calendar."""
        self._note_tenant(customer.tenant)
        try:
            if not any(self._replace_customer(customer) for _ in range(_PUT_ATTEMPTS)):
                raise RetryableError(f"customer {customer.ref} is being changed by others")
        finally:
            self._customers.forget((customer.tenant, customer.ref))

    def _replace_customer(self, customer: Customer) -> bool:
        """Whether what stood there still did when the new one took its place."""
        before = self.stored_customer(customer.tenant, customer.ref)
        return self._put_customer(before, in_place_of(before, customer))

    def change_customer(self, before: Customer, after: Customer) -> bool:
        """Put `after` in the place of `before`; False when somebody else has changed it since."""
        self._note_tenant(after.tenant)
        stood = before if before.revision else None
        try:
            return self._put_customer(stood, in_place_of(stood, after))
        finally:
            self._customers.forget((after.tenant, after.ref))

    def _put_customer(self, before: Customer | None, kept: Customer) -> bool:
        kept = replace(kept, revision=(before.revision if before else 0) + 1)
        condition = items.while_unchanged(before)
        try:
            with retryable():
                self._dynamodb.put_item(
                    TableName=self._table, Item=items.customer_item(kept), **condition
                )
        except ClientError as error:
            if is_condition_failure(error):
                return False
            raise
        return True

    def stored_customer(self, tenant: TenantId, ref: CustomerRef) -> Customer | None:
        """A customer as it stands in the table now; None when nobody set it up."""
        item = self._get(keys.customer_key(tenant, ref))
        return items.customer_from(item) if item else None

    def customers_after(
        self, tenant: TenantId, ref: CustomerRef | None, limit: int
    ) -> list[Customer]:
        """Up to `limit` customers that were set up, by ref, from after the given one."""
        start = keys.customer_key(tenant, ref) if ref else None
        found = self._query(keys.customers_of(tenant), start=start, limit=limit)
        return [items.customer_from(item) for item in islice(found, limit)]

    # --- the table ---

    def _get(self, key: "Key") -> "Item | None":
        with retryable():
            answer = self._dynamodb.get_item(TableName=self._table, Key=key, ConsistentRead=True)
        return answer.get("Item")

    def _get_many(self, wanted: Sequence["Key"]) -> Iterator["Item"]:
        asked: dict[str, Any] = {self._table: {"Keys": list(wanted), "ConsistentRead": True}}
        for _ in range(_BATCH_GET_ATTEMPTS):
            with retryable():
                answer = self._dynamodb.batch_get_item(RequestItems=asked)
            yield from answer["Responses"].get(self._table, [])
            asked = dict(answer.get("UnprocessedKeys", {}))
            if not asked:
                return
        raise RetryableError("DynamoDB left some customers unread each time it was asked")

    def _all_of(self, partition: str) -> Iterator["Item"]:
        return self._query(partition, start=None, limit=None)

    def _query(self, partition: str, *, start: "Key | None", limit: int | None) -> Iterator["Item"]:
        request: dict[str, Any] = {
            "TableName": self._table,
            "KeyConditionExpression": "pk = :partition",
            "ExpressionAttributeValues": {":partition": {"S": partition}},
            "ConsistentRead": True,
        }
        if limit is not None:
            request["Limit"] = limit
        while True:
            if start:
                request["ExclusiveStartKey"] = start
            with retryable():
                answer = self._dynamodb.query(**request)
            yield from answer["Items"]
            start = answer.get("LastEvaluatedKey")
            if not start:
                return

    def _put(self, item: "Item") -> None:
        with retryable():
            self._dynamodb.put_item(TableName=self._table, Item=item)

    def _put_if(self, item: "Item", condition: str, **values: str) -> dict[str, Any]:
        return {"Put": {"TableName": self._table, "Item": item} | _conditions(condition, values)}

    def _delete_if(self, key: "Key", condition: str, **values: str) -> dict[str, Any]:
        return {"Delete": {"TableName": self._table, "Key": key} | _conditions(condition, values)}

    def _note_tenant(self, tenant: TenantId) -> None:
        """Into the directory before anything else, so that nothing stands outside of it."""
        if tenant in self._tenants_noted:
            return
        with retryable():
            self._dynamodb.update_item(
                TableName=self._table,
                Key=keys.tenant_key(tenant),
                UpdateExpression="SET created_at = if_not_exists(created_at, :now)",
                ExpressionAttributeValues={":now": {"S": times.to_text(self._clock.now())}},
            )
        self._tenants_noted.add(tenant)


def _conditions(condition: str, values: dict[str, str]) -> dict[str, Any]:
    conditions: dict[str, Any] = {"ConditionExpression": condition}
    if values:
        conditions["ExpressionAttributeValues"] = {
            f":{name}": {"S": text} for name, text in values.items()
        }
    return conditions


def _conflict(error: ClientError, mapping: Mapping) -> ConflictError:
    """The first write is the mapping itself, the others are its metric's active place."""
    reasons = error.response.get("CancellationReasons", [])
    if reasons and reasons[0].get("Code") == "ConditionalCheckFailed":
        return ConflictError(f"Mapping {mapping.id} was changed meanwhile; read it and try again")
    return ConflictError(
        f"Metric {mapping.metric} has an active mapping already; "
        "deactivate or delete that one first (GET /v1/mappings?active=true)"
    )
