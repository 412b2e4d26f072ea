"""Settings as items of their table and back; everything as text, times to the microsecond."""

from collections.abc import Mapping as ReadOnly
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from metering import times
from metering.adapters.dynamodb.settings_keys import (
    customer_key,
    mapping_key,
    metric_key,
    tenant_settings_key,
)
from metering.counter import Aggregation
from metering.keys import join, split
from metering.mapping import Customer, LatePolicy, Mapping, MetricSettings
from metering.names import CustomerRef, Metric, TenantId
from metering.period import Era, Interval, Width
from metering.quantity import canonical
from metering.tenant_settings import AfterClose, TenantSettings

if TYPE_CHECKING:
    from types_boto3_dynamodb.type_defs import AttributeValueTypeDef

type Item = dict[str, AttributeValueTypeDef]
type Condition = dict[str, Any]
"""A write's condition and the values in it."""

_SECOND = timedelta(seconds=1)
_YES, _NO = "yes", "no"


def tenant_item(settings: TenantSettings) -> "Item":
    """A tenant's decisions."""
    return tenant_settings_key(settings.tenant) | _texts(
        {
            "tenant": settings.tenant,
            "after_close": settings.after_close,
            "four_eyes": _YES if settings.four_eyes else _NO,
            "adjustment_max": canonical(settings.adjustment_max),
            "holds_invoices": _YES if settings.holds_invoices else _NO,
        }
    )


def tenant_from(item: "Item") -> TenantSettings:
    """What `tenant_item` wrote."""
    text = _text_of(item)
    return TenantSettings(
        tenant=TenantId(text["tenant"]),
        after_close=AfterClose(text["after_close"]),
        four_eyes=text["four_eyes"] == _YES,
        adjustment_max=Decimal(text["adjustment_max"]),
        holds_invoices=text["holds_invoices"] == _YES,
    )


def metric_item(tenant: TenantId, settings: MetricSettings) -> "Item":
    """A metric's settings."""
    return metric_key(tenant, settings.metric) | _texts(
        {
            "metric": settings.metric,
            "aggregation": settings.aggregation,
            "late_policy": settings.late_policy,
            "lateness_s": str(settings.lateness // _SECOND),
            "unit": settings.unit,
            "bucket": settings.bucket,
        }
    )


def metric_from(item: "Item") -> MetricSettings:
    """What `metric_item` wrote."""
    text = _text_of(item)
    return MetricSettings(
        metric=Metric(text["metric"]),
        aggregation=Aggregation(text["aggregation"]),
        late_policy=LatePolicy(text["late_policy"]),
        lateness=int(text["lateness_s"]) * _SECOND,
        unit=text["unit"],
        bucket=Width(text["bucket"]),
    )


def mapping_attributes(mapping: Mapping) -> "Item":
    """A mapping without the key it stands at; it stands at two while it is active."""
    return _texts(
        {
            "id": mapping.id,
            "tenant": mapping.tenant,
            "metric": mapping.metric,
            "aggregation": mapping.aggregation,
            "stripe_account": mapping.stripe_account,
            "price_id": mapping.price_id,
            "subscription_item_id": mapping.subscription_item_id,
            "currency": mapping.currency,
            "meter_id": mapping.meter_id,
            "meter_event_name": mapping.meter_event_name,
            "scale": str(mapping.scale),
            "active": _YES if mapping.active else _NO,
            "shadow": _YES if mapping.shadow else _NO,
            "shadow_stripe_account": mapping.shadow_stripe_account,
            "shadow_price_id": mapping.shadow_price_id,
            "shadow_subscription_item_id": mapping.shadow_subscription_item_id,
            "created_at": times.to_text(mapping.created_at),
            "updated_at": times.to_text(mapping.updated_at),
            "version": str(mapping.version),
            "meter_window": mapping.meter_window,
            "is_legacy": _YES if mapping.is_legacy else _NO,
            "shadow_meter_id": mapping.shadow_meter_id,
            "shadow_meter_event_name": mapping.shadow_meter_event_name,
            "shadow_since": times.to_text(mapping.shadow_since) if mapping.shadow_since else "",
        }
    )


def mapping_item(mapping: Mapping) -> "Item":
    """A mapping at its own place."""
    return mapping_key(mapping.tenant, mapping.id) | mapping_attributes(mapping)


def mapping_from(item: "Item") -> Mapping:
    """What `mapping_attributes` wrote."""
    text = _text_of(item)
    return Mapping(
        id=text["id"],
        tenant=TenantId(text["tenant"]),
        metric=Metric(text["metric"]),
        aggregation=Aggregation(text["aggregation"]),
        stripe_account=text["stripe_account"],
        price_id=text["price_id"],
        subscription_item_id=text["subscription_item_id"],
        currency=text["currency"],
        meter_id=text["meter_id"],
        meter_event_name=text["meter_event_name"],
        scale=int(text["scale"]),
        active=text["active"] == _YES,
        shadow=text["shadow"] == _YES,
        shadow_stripe_account=text["shadow_stripe_account"],
        shadow_price_id=text["shadow_price_id"],
        shadow_subscription_item_id=text["shadow_subscription_item_id"],
        created_at=times.from_text(text["created_at"]),
        updated_at=times.from_text(text["updated_at"]),
        version=int(text["version"]),
        meter_window=text["meter_window"],
        is_legacy=text["is_legacy"] == _YES,
        shadow_meter_id=text["shadow_meter_id"],
        shadow_meter_event_name=text["shadow_meter_event_name"],
        shadow_since=times.from_text(since) if (since := text.get("shadow_since", "")) else None,
    )


def customer_item(customer: Customer) -> "Item":
    """A customer; a shadow, eras and trouble only where there are any."""
    texts = {
        "tenant": customer.tenant,
        "ref": customer.ref,
        "stripe_customer": customer.stripe_customer,
        "subscription": customer.subscription,
        "recuts": str(customer.recuts),
        "revision": str(customer.revision),
    }
    rare = {
        "shadow_stripe_customer": customer.shadow_stripe_customer,
        "eras": join(*(_era_text(era) for era in customer.eras)),
        "trouble": customer.trouble,
    }
    texts |= {name: text for name, text in rare.items() if text}
    return customer_key(customer.tenant, customer.ref) | _texts(texts)


def customer_from(item: "Item") -> Customer:
    """What `customer_item` wrote."""
    text = _text_of(item)
    return Customer(
        tenant=TenantId(text["tenant"]),
        ref=CustomerRef(text["ref"]),
        stripe_customer=text["stripe_customer"],
        shadow_stripe_customer=text.get("shadow_stripe_customer", ""),
        subscription=text["subscription"],
        eras=tuple(_era_from(era) for era in split(text.get("eras", ""))),
        recuts=int(text["recuts"]),
        trouble=text.get("trouble", ""),
        revision=int(text["revision"]),
    )


def _era_text(era: Era) -> str:
    return join(
        times.to_text(era.begins_at),
        times.to_text(era.anchor),
        era.interval,
        str(era.count),
        str(era.day),
        era.subscription,
    )


def _era_from(text: str) -> Era:
    begins_at, anchor, interval, count, day, subscription = split(text)
    return Era(
        times.from_text(begins_at),
        times.from_text(anchor),
        Interval(interval),
        int(count),
        int(day),
        subscription,
    )


def while_unchanged(customer: Customer | None) -> "Condition":
    """Holds while the customer stands as it was read; None: while nobody set it up."""
    if customer is None:
        return {"ConditionExpression": "attribute_not_exists(pk)"}
    return {
        "ConditionExpression": "revision = :revision",
        "ExpressionAttributeValues": {":revision": {"S": str(customer.revision)}},
    }


def while_not_recut(customer: Customer) -> "Condition":
    """Holds while the customer's calendar is the one that was read and was none else meanwhile."""
    condition = "recuts = :recuts"
    if customer.recuts == 0:
        # Perhaps nobody set it up: then calendar months are its calendar.
        condition = f"attribute_not_exists(pk) OR {condition}"
    return {
        "ConditionExpression": condition,
        "ExpressionAttributeValues": {":recuts": {"S": str(customer.recuts)}},
    }


def _texts(values: ReadOnly[str, str]) -> "Item":
    return {name: {"S": str(value)} for name, value in values.items()}


def _text_of(item: "Item") -> dict[str, str]:
    return {name: value["S"] for name, value in item.items()}
