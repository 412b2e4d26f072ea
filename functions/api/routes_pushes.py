"""`/v1/pushes`: what Stripe was told and is not settled, and what a person decides about it."""

from enum import StrEnum
from typing import Annotated, Any

from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.event_handler.openapi.params import Body as FromBody
from aws_lambda_powertools.event_handler.openapi.params import Path, Query

from functions.api import call
from functions.api.answers import answer
from functions.api.fields import Body, Quantity, TenantQuery, When
from functions.api.routing import new_router, serve
from metering import wiring
from metering.auth import AuthError, Scope
from metering.decisions import Decision, Decisions, is_for_a_person
from metering.invoice_item import InvoiceItem
from metering.push import Push, PushStream, Role, Stop, quantity_of

router = new_router()

RoleQuery = Annotated[Role, Query()]


class InNeed(StrEnum):
    """Which streams are asked for."""

    OPEN = "open"
    STOPPED = "stopped"


class OpenPush(Body):
    """A push whose outcome is not settled."""

    identifier: str
    delta: Quantity
    """In the metric's unit."""
    value: str
    """The text that was sent."""
    timestamp: When
    state: str
    attempts: int
    first_attempt_at: When | None
    last_error: str


class OpenInvoiceItem(Body):
    """An invoice item for usage that came too late, which Stripe is not known to hold yet."""

    id: str
    """Stands in its metadata at Stripe."""
    quantity: Quantity
    """In the metric's unit."""
    amount: int
    """In the currency's smallest unit; negative is a credit."""
    currency: str
    state: str
    attempts: int
    next_attempt_at: When | None
    last_error: str


class StreamStop(Body):
    """Why a stream tells Stripe nothing for now."""

    reason: str
    """`refused`, `key_reused`, `ambiguous_minute`, `cannot_bill`."""
    message: str
    since: When
    until: When | None
    """When it is tried again; null waits for a decision."""


class StreamInNeed(Body):
    """A stream with an open push or a stop."""

    stream_id: str
    role: Role
    """`shadow`: its pushes go to a test account that is told the same."""
    kind: str
    customer_ref: str
    metric: str
    period_start: When
    period_end: When
    stripe_account: str
    mode: str
    meter_event_name: str
    stripe_customer: str
    subscription_item_id: str
    accepted: Quantity
    """What Stripe has taken, in the metric's unit."""
    open: OpenPush | None
    invoice_item: OpenInvoiceItem | None
    stopped: StreamStop | None
    needs_decision: bool


class DecisionMade(Body):
    """Whether the open push of a stopped stream counted at Stripe."""

    tenant_id: str | None = None
    decision: Decision


class Incarnation(Body):
    """Which life of the store of pushes this is."""

    incarnation: int


@serve(router, "GET /v1/pushes", list[StreamInNeed], scopes=(Scope.PROJECT_READ,), tag="pushes")
def list_pushes(
    status: Annotated[InNeed, Query()] = InNeed.OPEN,
    role: RoleQuery = Role.PRIMARY,
    tenant_id: TenantQuery = None,
) -> Response[Any]:
    """The tenant's streams with an open push or invoice item, or those that are stopped."""
    tenant = call.current().owner()
    waiting = _decisions(role).waiting(tenant)
    chosen = [one for one in waiting if _is_asked_for(one, status)]
    return answer([_stream(one) for one in chosen])


@serve(
    router,
    "POST /v1/pushes/<stream_id>/decision",
    StreamInNeed,
    scopes=(Scope.PROJECT_WRITE,),
    tag="pushes",
    may={409},
)
def decide_push(
    stream_id: Annotated[str, Path()],
    made: Annotated[DecisionMade, FromBody()],
    role: RoleQuery = Role.PRIMARY,
    tenant_id: TenantQuery = None,
) -> Response[Any]:
    """Say whether a stopped stream's push counted at Stripe; the stream goes on from there."""
    current = call.current()
    tenant = current.owner()
    by = current.caller.key_prefix or "anyone"
    return answer(_stream(_decisions(role).take(tenant, stream_id, made.decision, by=by)))


def _decisions(role: Role) -> Decisions:
    wired = wiring.current()
    return wired.decisions if role is Role.PRIMARY else wired.shadow_decisions


@serve(
    router, "POST /v1/pushes/incarnation", Incarnation, scopes=(Scope.PROJECT_WRITE,), tag="pushes"
)
def raise_incarnation() -> Response[Any]:
    """After a restore from a backup: begin the next life, in which no identifier is used again."""
    caller = call.current().caller
    if caller.tenant is not None:
        # It concerns all tenants of the deployment. Where keys are required, invoke the writer.
        raise AuthError(403, "The store's incarnation is no tenant's: invoke the writer function")
    return answer(Incarnation(incarnation=wiring.current().pushes.raise_incarnation()))


def _is_asked_for(stream: PushStream, status: InNeed) -> bool:
    if status is InNeed.STOPPED:
        return stream.stopped is not None
    return stream.open is not None or stream.item is not None


def _stream(stream: PushStream) -> StreamInNeed:
    target, counter, period, *_ = stream.key
    return StreamInNeed(
        stream_id=stream.key.id,
        role=target.role,
        kind=stream.kind,
        customer_ref=counter.customer,
        metric=counter.metric,
        period_start=period.start,
        period_end=period.end,
        stripe_account=target.account,
        mode=target.mode,
        meter_event_name=target.event_name,
        stripe_customer=target.customer,
        subscription_item_id=target.subscription_item,
        accepted=stream.accepted_quantity,
        open=_push(stream.open, stream.scale) if stream.open else None,
        invoice_item=_item(stream.item, stream.scale) if stream.item else None,
        stopped=_stop(stream.stopped) if stream.stopped else None,
        needs_decision=is_for_a_person(stream),
    )


def _push(push: Push, scale: int) -> OpenPush:
    return OpenPush(
        identifier=push.identifier,
        delta=quantity_of(push.delta, scale),
        value=push.value,
        timestamp=push.occurred_at,
        state=push.state,
        attempts=push.attempts,
        first_attempt_at=push.first_attempt_at,
        last_error=push.last_error,
    )


def _item(item: InvoiceItem, scale: int) -> OpenInvoiceItem:
    return OpenInvoiceItem(
        id=item.id,
        quantity=quantity_of(item.units, scale),
        amount=item.amount,
        currency=item.currency,
        state=item.state,
        attempts=item.attempts,
        next_attempt_at=item.not_before,
        last_error=item.last_error,
    )


def _stop(stop: Stop) -> StreamStop:
    return StreamStop(reason=stop.reason, message=stop.message, since=stop.since, until=stop.until)
