"""Where each kind of thing stands in the settings table."""

from typing import TYPE_CHECKING

from metering.keys import join
from metering.names import CustomerRef, Metric, TenantId

if TYPE_CHECKING:
    from types_boto3_dynamodb.type_defs import AttributeValueTypeDef

type Key = dict[str, AttributeValueTypeDef]

TENANTS = join("tenants")


def tenant_key(tenant: TenantId) -> "Key":
    """A line of the directory of tenants."""
    return _key(TENANTS, tenant)


def tenant_settings_key(tenant: TenantId) -> "Key":
    """What a tenant has decided for all of its usage."""
    return _key(join("tenant_settings", tenant), "settings")


def api_key_key(prefix: str) -> "Key":
    """An API key, by prefix alone: the request does not say which tenant it is of."""
    return _key(join("api_key", prefix), "api_key")


def listed_api_key_key(tenant: TenantId, prefix: str) -> "Key":
    """The same key in its tenant's list."""
    return _key(api_keys_of(tenant), prefix)


def tenant_limits_key(tenant: TenantId) -> "Key":
    """How much the operator lets a tenant send."""
    return _key(join("tenant_limits", tenant), "limits")


def stripe_claim_key(account: str, stripe_id: str) -> "Key":
    """Which tenant an object at Stripe belongs to."""
    return _key(join("stripe_claim", account, stripe_id), "claim")


def metric_key(tenant: TenantId, metric: Metric) -> "Key":
    """A metric's settings."""
    return _key(metrics_of(tenant), metric)


def mapping_key(tenant: TenantId, mapping_id: str) -> "Key":
    """A mapping, active or not."""
    return _key(mappings_of(tenant), mapping_id)


def active_mapping_key(tenant: TenantId, metric: Metric) -> "Key":
    """The one place for a metric's active mapping: a copy, so that one read finds it."""
    return _key(join("active_mapping", tenant), metric)


def customer_key(tenant: TenantId, ref: CustomerRef) -> "Key":
    """A customer."""
    return _key(customers_of(tenant), ref)


def api_keys_of(tenant: TenantId) -> str:
    """The partition of the list of a tenant's API keys."""
    return join("api_keys", tenant)


def metrics_of(tenant: TenantId) -> str:
    """The partition of a tenant's metrics."""
    return join("metric", tenant)


def mappings_of(tenant: TenantId) -> str:
    """The partition of a tenant's mappings."""
    return join("mapping", tenant)


def customers_of(tenant: TenantId) -> str:
    """The partition of a tenant's customers."""
    return join("customer", tenant)


def _key(partition: str, sort: str) -> "Key":
    return {"pk": {"S": partition}, "sk": {"S": sort}}
