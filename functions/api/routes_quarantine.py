"""`GET /v1/quarantine`: input that was set aside, newest first, whole and with its reason."""

from typing import Annotated, Any

from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.event_handler.openapi.params import Query

from functions.api import call
from functions.api.answers import answer
from functions.api.fields import Body, TenantQuery, When
from functions.api.routing import new_router, serve
from metering import wiring
from metering.auth import AuthError, Scope
from metering.ports import Quarantined

router = new_router()


class SetAside(Body):
    """Input that was not taken, or could not be counted."""

    id: str
    kind: str
    """`unparseable`, `invalid_event`, `conflict`, `unfoldable`, `unreadable`."""
    reason: str
    origin: str
    """Where it came from: `sqs:<message id>`, `stream:<sequence number>`, an event's source."""
    idempotency_key: str | None
    recorded_at: When
    payload: str


class SetAsidePage(Body):
    """The newest input that was set aside."""

    items: list[SetAside]


def set_aside_of(item: Quarantined) -> SetAside:
    """A quarantined item as the API shows it."""
    return SetAside(
        id=item.id,
        kind=item.kind,
        reason=item.reason,
        origin=item.origin,
        idempotency_key=item.key,
        recorded_at=item.recorded_at,
        payload=item.payload,
    )


@serve(
    router,
    "GET /v1/quarantine",
    SetAsidePage,
    scopes=(Scope.PROJECT_READ, Scope.EVENTS_READ),
    tag="events",
)
def list_quarantine(
    tenant_id: TenantQuery = None,
    unowned: Annotated[bool, Query()] = False,  # noqa: FBT002 (a query parameter)
    limit: Annotated[int, Query(ge=1, le=100)] = 25,
) -> Response[Any]:
    """A tenant's quarantine; or what names no tenant, where no key is required."""
    current = call.current()
    if unowned and current.caller.tenant is not None:
        # Unreadable input may be anybody's, so no tenant's key opens it.
        raise AuthError(403, "Input without a tenant is shown to no tenant")
    tenant = None if unowned else current.owner()
    found = wiring.current().quarantine.newest(tenant, limit)
    return answer(SetAsidePage(items=[set_aside_of(item) for item in found]))
