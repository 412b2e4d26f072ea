"""`/v1/mappings`: which Stripe meter a metric is pushed to."""

import uuid
from collections.abc import Set as AbstractSet
from dataclasses import replace
from typing import Annotated, Any, Literal

from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.event_handler.openapi.params import Body as FromBody
from aws_lambda_powertools.event_handler.openapi.params import Path, Query
from pydantic import Field

from functions.api import call
from functions.api.answers import answer
from functions.api.fields import (
    Body,
    MetricFilter,
    MetricName,
    StripeId,
    TenantQuery,
    When,
)
from functions.api.routing import new_router, serve
from metering import wiring
from metering.auth import Scope
from metering.counter import Aggregation
from metering.errors import BadRequestError, NotFoundError
from metering.legacy_price import migration_plan
from metering.mapping import Mapping
from metering.mapping_setup import (
    MeterAsked,
    check_id,
    check_mapping,
    with_meter,
    with_shadow,
)
from metering.names import Metric, TenantId
from metering.stripe_claims import named_by_mapping
from metering.value_range import SCALE_MAX, check_fits, counted

router = new_router()

Scale = Annotated[int, Field(ge=0, le=SCALE_MAX)]
Currency = Annotated[str, Field(pattern=r"^([a-z]{3})?$")]
EventName = Annotated[str, Field(max_length=100)]
MappingId = Annotated[str, Path()]


class NewMapping(Body):
    """A mapping to be made; `priceId` alone is enough, its meter is looked up at Stripe."""

    tenant_id: str | None = None
    metric: MetricName
    aggregation: Aggregation
    stripe_account: StripeId = ""
    price_id: StripeId = ""
    subscription_item_id: StripeId = ""
    currency: Currency = ""
    meter_id: StripeId = ""
    meter_event_name: EventName = ""
    scale: Scale = 0
    """Stripe is told whole units of 10^-scale; 0 tells it whole units of the metric."""
    active: bool = True
    shadow: bool = False
    shadow_stripe_account: StripeId = ""
    shadow_price_id: StripeId = ""
    shadow_subscription_item_id: StripeId = ""


class MappingChange(Body):
    """What to change of a mapping; what is left out stays."""

    tenant_id: str | None = None
    metric: MetricName | None = None
    aggregation: Aggregation | None = None
    stripe_account: StripeId | None = None
    price_id: StripeId | None = None
    subscription_item_id: StripeId | None = None
    currency: Currency | None = None
    meter_id: StripeId | None = None
    meter_event_name: EventName | None = None
    scale: Scale | None = None
    active: bool | None = None
    shadow: bool | None = None
    shadow_stripe_account: StripeId | None = None
    shadow_price_id: StripeId | None = None
    shadow_subscription_item_id: StripeId | None = None


type ShadowState = Literal["off", "on", "no_key", "no_meter"]


class MappingState(Body):
    """A mapping as it stands."""

    id: str
    tenant_id: str
    metric: str
    aggregation: str
    stripe_account: str
    price_id: str
    subscription_item_id: str
    currency: str
    meter_id: str
    meter_event_name: str
    scale: int
    active: bool
    shadow: bool
    shadow_stripe_account: str
    shadow_price_id: str
    shadow_subscription_item_id: str
    meter_window: str
    """`hour` or `day` for a meter that keeps one event per window."""
    is_legacy: bool
    """Its price has no meter and is told usage records."""
    shadow_meter_id: str
    shadow_meter_event_name: str
    """Empty while nothing is told in parallel."""
    shadow_state: ShadowState
    """`off`, `on`, or why the test account is told nothing: `no_key` is set for it, or `no_meter`
    was found; a mapping made before the key was set gets its meter when it is saved again."""
    shadow_since: When | None
    """When it began: periods that had closed by then are left alone."""
    created_at: When
    updated_at: When


class LegacyPlan(Body):
    """How to leave a legacy metered price."""

    price_id: str
    is_legacy: bool
    """False: it has a meter or is not metered, and nothing is to be done."""
    steps: list[str]


READ = (Scope.PROJECT_READ, Scope.MAPPINGS_READ)
WRITE = (Scope.PROJECT_WRITE, Scope.MAPPINGS_WRITE)
_MAKES_THE_METER = frozenset(
    {"price_id", "stripe_account", "meter_id", "meter_event_name", "aggregation"}
)
_MAKES_THE_SHADOW = _MAKES_THE_METER | {"shadow", "shadow_stripe_account", "shadow_price_id"}
_MAKES_THE_VALUES = frozenset({"metric", "aggregation", "scale"})
_ALL = _MAKES_THE_SHADOW | _MAKES_THE_VALUES


@serve(router, "GET /v1/mappings", list[MappingState], scopes=READ, tag="mappings")
def list_mappings(
    tenant_id: TenantQuery = None,
    metric: MetricFilter = None,
    active: Annotated[bool | None, Query()] = None,
) -> Response[Any]:
    """A tenant's mappings, oldest first."""
    tenant = call.current().owner()
    return answer(
        [
            _state(mapping)
            for mapping in wiring.current().settings_store.mappings(tenant)
            if metric in {None, mapping.metric} and active in {None, mapping.active}
        ]
    )


@serve(
    router,
    "POST /v1/mappings",
    MappingState,
    scopes=WRITE,
    tag="mappings",
    status=201,
    may={404, 409, 502},
)
def add_mapping(sent: Annotated[NewMapping, FromBody()]) -> Response[Any]:
    """Map a metric onto a Stripe meter; 409 while another mapping of the metric is active.

    What it names at Stripe belongs to the tenant that names it first: to others it is refused, 409.
    """
    tenant = call.current().owner()
    asked = MeterAsked(sent.meter_id, sent.meter_event_name)
    mapping = _checked(_new(sent, tenant), asked, _ALL)
    _claim(mapping)
    wiring.current().settings_store.add_mapping(mapping)
    return answer(_state(mapping), 201)


def _checked(mapping: Mapping, asked: MeterAsked, changed: AbstractSet[str]) -> Mapping:
    """The mapping with what Stripe says of it, as far as that can have changed."""
    wired = wiring.current()
    check_mapping(mapping)
    if changed & _MAKES_THE_METER:
        allows_legacy = wired.config.legacy_usage_records
        mapping = with_meter(mapping, asked, wired.billing, allows_legacy=allows_legacy)
    if changed & _MAKES_THE_SHADOW:
        mapping = with_shadow(mapping, wired.shadow_billing if mapping.shadow else None)
    if changed & _MAKES_THE_VALUES:
        now = wired.clock.now()
        check_fits(mapping, counted(mapping, wired.counters, wired.settings, now))
    return mapping


def _claim(mapping: Mapping) -> None:
    """What a mapping names at Stripe is its tenant's from now on, or it is another's: 409."""
    wired = wiring.current()
    wired.stripe_claims.take(mapping.tenant, named_by_mapping(mapping), wired.clock.now())


def _new(sent: NewMapping, tenant: TenantId) -> Mapping:
    now = wiring.current().clock.now()
    return Mapping(
        id=str(uuid.UUID(bytes=wiring.current().machine.token_bytes(16), version=4)),
        tenant=tenant,
        metric=Metric(sent.metric),
        aggregation=sent.aggregation,
        stripe_account=sent.stripe_account,
        price_id=sent.price_id,
        subscription_item_id=sent.subscription_item_id,
        currency=sent.currency,
        meter_id=sent.meter_id,
        meter_event_name=sent.meter_event_name,
        scale=sent.scale,
        active=sent.active,
        shadow=sent.shadow,
        shadow_stripe_account=sent.shadow_stripe_account,
        shadow_price_id=sent.shadow_price_id,
        shadow_subscription_item_id=sent.shadow_subscription_item_id,
        created_at=now,
        updated_at=now,
    )


@serve(
    router, "GET /v1/mappings/legacy-plan", LegacyPlan, scopes=READ, tag="mappings", may={404, 502}
)
def get_legacy_plan(
    price_id: Annotated[StripeId, Query(alias="priceId")] = "",
    stripe_account: Annotated[StripeId, Query(alias="stripeAccount")] = "",
    tenant_id: TenantQuery = None,
) -> Response[Any]:
    """The steps from a legacy metered price to a Billing Meter."""
    call.current().owner()
    if not price_id:
        raise BadRequestError("priceId: Required", error="Validation Error")
    check_id("priceId", price_id)
    check_id("stripeAccount", stripe_account)
    price = wiring.current().billing.price(price_id, stripe_account)
    steps = migration_plan(price) if price.is_legacy else []
    return answer(LegacyPlan(price_id=price.id, is_legacy=price.is_legacy, steps=steps))


@serve(router, "GET /v1/mappings/<mapping_id>", MappingState, scopes=READ, tag="mappings")
def get_mapping(mapping_id: MappingId, tenant_id: TenantQuery = None) -> Response[Any]:
    """One mapping."""
    tenant = call.current().owner()
    return answer(_state(_standing(tenant, mapping_id)))


@serve(
    router,
    "PUT /v1/mappings/<mapping_id>",
    MappingState,
    scopes=WRITE,
    tag="mappings",
    may={409, 502},
)
def change_mapping(
    mapping_id: MappingId,
    sent: Annotated[MappingChange, FromBody()],
    tenant_id: TenantQuery = None,
) -> Response[Any]:
    """Change a mapping; a new price brings its own meter unless one is named."""
    tenant = call.current().owner()
    wired = wiring.current()
    before = _standing(tenant, mapping_id)
    changes = sent.model_dump(exclude_none=True, exclude={"tenant_id"})
    after = replace(before, **changes, updated_at=wired.clock.now())
    after = _checked(after, _meter_asked(before, sent), changes.keys())
    _claim(after)
    return answer(_state(wired.settings_store.change_mapping(before, after)))


def _meter_asked(before: Mapping, sent: MappingChange) -> MeterAsked:
    """The meter as the change names it; one that was named without a price stays named."""
    is_moved = sent.price_id is not None or sent.stripe_account is not None
    is_kept = not is_moved and not before.price_id
    return MeterAsked(
        (before.meter_id if is_kept else "") if sent.meter_id is None else sent.meter_id,
        (before.meter_event_name if is_kept else "")
        if sent.meter_event_name is None
        else sent.meter_event_name,
    )


@serve(
    router, "DELETE /v1/mappings/<mapping_id>", scopes=WRITE, tag="mappings", status=204, may={409}
)
def delete_mapping(mapping_id: MappingId, tenant_id: TenantQuery = None) -> Response[Any]:
    """Forget a mapping; the metric is counted on, and told nobody. Gone already is gone, too."""
    tenant = call.current().owner()
    store = wiring.current().settings_store
    standing = store.mapping(tenant, mapping_id)
    if standing is not None:
        store.delete_mapping(standing)
    return Response(204)


def _standing(tenant: TenantId, mapping_id: str) -> Mapping:
    mapping = wiring.current().settings_store.mapping(tenant, mapping_id)
    if mapping is None:
        raise NotFoundError(f"No mapping has the id {mapping_id}")
    return mapping


def _shadow_state(mapping: Mapping) -> ShadowState:
    if not (mapping.active and mapping.shadow):
        return "off"
    if not wiring.current().shadow_connection.is_set_up:
        return "no_key"
    return "on" if mapping.shadow_meter_id else "no_meter"


def _state(mapping: Mapping) -> MappingState:
    return MappingState(
        id=mapping.id,
        tenant_id=mapping.tenant,
        metric=mapping.metric,
        aggregation=mapping.aggregation,
        stripe_account=mapping.stripe_account,
        price_id=mapping.price_id,
        subscription_item_id=mapping.subscription_item_id,
        currency=mapping.currency,
        meter_id=mapping.meter_id,
        meter_event_name=mapping.meter_event_name,
        scale=mapping.scale,
        active=mapping.active,
        shadow=mapping.shadow,
        shadow_stripe_account=mapping.shadow_stripe_account,
        shadow_price_id=mapping.shadow_price_id,
        shadow_subscription_item_id=mapping.shadow_subscription_item_id,
        meter_window=mapping.meter_window,
        is_legacy=mapping.is_legacy,
        shadow_meter_id=mapping.shadow_meter_id,
        shadow_meter_event_name=mapping.shadow_meter_event_name,
        shadow_state=_shadow_state(mapping),
        shadow_since=mapping.shadow_since,
        created_at=mapping.created_at,
        updated_at=mapping.updated_at,
    )
