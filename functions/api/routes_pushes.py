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
from metering.decisions import Decision, is_for_a_person
from metering.push import Push, PushStream, Stop, quantity_of

router = new_router()


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


class StreamStop(Body):
    """Why a stream tells Stripe nothing for now."""

    reason: str
    """`refused`, `key_reused`, `ambiguous_minute`."""
    message: str
    since: When
    until: When | None
    """When it is tried again; null waits for a decision."""


class StreamInNeed(Body):
    """A stream with an open push or a stop."""

    stream_id: str
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
    stopped: StreamStop | None
    needs_decision: bool


class DecisionMade(Body):
    """Whether the open push of a stopped stream counted at Stripe."""

    tenant_id: str | None = None
    decision: Decision


class Incarnation(Body):
    """Which life of the store of pushes this is."""

    incarnation: int


@serve(router, "GET /v1/pushes", list[StreamInNeed], tag="pushes")
def list_pushes(
    status: Annotated[InNeed, Query()] = InNeed.OPEN, tenant_id: TenantQuery = None
) -> Response[Any]:
    """The tenant's streams with an open push, or those that are stopped."""
    tenant = call.current().tenant_with(Scope.PROJECT_READ)
    waiting = wiring.current().decisions.waiting(tenant)
    chosen = [
        one for one in waiting if (one.open if status is InNeed.OPEN else one.stopped) is not None
    ]
    return answer([_stream(one) for one in chosen])


@serve(router, "POST /v1/pushes/<stream_id>/decision", StreamInNeed, tag="pushes")
def decide_push(
    stream_id: Annotated[str, Path()],
    made: Annotated[DecisionMade, FromBody()],
    tenant_id: TenantQuery = None,
) -> Response[Any]:
    """Say whether a stopped stream's push counted at Stripe; the stream goes on from there."""
    current = call.current()
    tenant = current.tenant_with(Scope.PROJECT_WRITE)
    by = current.caller.key_prefix or "anyone"
    return answer(_stream(wiring.current().decisions.take(tenant, stream_id, made.decision, by=by)))


@serve(router, "POST /v1/pushes/incarnation", Incarnation, tag="pushes")
def raise_incarnation() -> Response[Any]:
    """After a restore from a backup: begin the next life, in which no identifier is used again."""
    caller = call.current().caller
    caller.require(Scope.PROJECT_WRITE)
    if caller.tenant is not None:
        # It concerns all tenants of the deployment. Where keys are required, invoke the writer.
        raise AuthError(403, "The store's incarnation is no tenant's: invoke the writer function")
    return answer(Incarnation(incarnation=wiring.current().pushes.raise_incarnation()))


def _stream(stream: PushStream) -> StreamInNeed:
    target, counter, period, *_ = stream.key
    return StreamInNeed(
        stream_id=stream.key.id,
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


def _stop(stop: Stop) -> StreamStop:
    return StreamStop(reason=stop.reason, message=stop.message, since=stop.since, until=stop.until)
