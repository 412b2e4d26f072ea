"""`/v1/settings`: what a tenant decides for all of its usage."""

from dataclasses import replace
from decimal import Decimal
from typing import Annotated, Any

from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.event_handler.openapi.params import Body as FromBody
from pydantic import Field

from functions.api import call
from functions.api.answers import answer
from functions.api.fields import Body, Quantity, TenantQuery
from functions.api.routes_mappings import READ, WRITE
from functions.api.routing import new_router, serve
from metering import wiring
from metering.tenant_settings import AfterClose, TenantSettings

router = new_router()

ADJUSTMENT_LIMIT = Decimal(10**15)
"""Quantities have at most 15 integer digits."""


class SettingsChange(Body):
    """What to change; what is left out stays."""

    tenant_id: str | None = None
    after_close: AfterClose | None = None
    """What becomes of usage that is counted after its period's invoice was closed."""
    four_eyes: Annotated[bool | None, Field(strict=True)] = None
    """Whether an adjustment must be approved by another than its author."""
    adjustment_max: Annotated[
        Decimal | None, Field(gt=0, lt=ADJUSTMENT_LIMIT, max_digits=27, decimal_places=12)
    ] = None
    """The greatest adjustment, without its sign, in the metric's unit."""
    holds_invoices: Annotated[bool | None, Field(strict=True)] = None
    """Whether a draft invoice is held back when the period's numbers do not agree in time."""


class SettingsState(Body):
    """A tenant's decisions as they stand."""

    tenant_id: str
    after_close: str
    four_eyes: bool
    adjustment_max: Quantity
    holds_invoices: bool


@serve(router, "GET /v1/settings", SettingsState, scopes=READ, tag="settings")
def get_settings(tenant_id: TenantQuery = None) -> Response[Any]:
    """What the tenant has decided, the defaults where it decided nothing."""
    tenant = call.current().owner()
    return answer(_state(wiring.current().settings.tenant(tenant)))


@serve(router, "PUT /v1/settings", SettingsState, scopes=WRITE, tag="settings")
def put_settings(
    sent: Annotated[SettingsChange, FromBody()], tenant_id: TenantQuery = None
) -> Response[Any]:
    """Change some decisions; periods that are closed keep what was done with them."""
    tenant = call.current().owner()
    wired = wiring.current()
    said = sent.model_dump(exclude={"tenant_id"}, exclude_none=True)
    settings = replace(wired.settings_store.stored_tenant(tenant), **said)
    wired.settings_store.put_tenant(settings)
    return answer(_state(settings))


def _state(settings: TenantSettings) -> SettingsState:
    return SettingsState(
        tenant_id=settings.tenant,
        after_close=settings.after_close,
        four_eyes=settings.four_eyes,
        adjustment_max=settings.adjustment_max,
        holds_invoices=settings.holds_invoices,
    )
