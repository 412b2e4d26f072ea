"""`GET /v1/events` and `GET /v1/events/trace`: what is in the ledger, and what became of it."""

from typing import Annotated, Any, Literal

from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.event_handler.openapi.params import Query

from functions.api import call
from functions.api.answers import answer
from functions.api.fields import (
    Body,
    CustomerFilter,
    Instant,
    MetricFilter,
    Quantity,
    TenantQuery,
    When,
)
from functions.api.routes_quarantine import SetAside, set_aside_of
from functions.api.routing import new_router, serve
from metering import wiring
from metering.auth import Scope
from metering.errors import BadRequestError
from metering.event import LedgerEntry, Source
from metering.event_list import EventQuery, Order
from metering.names import CustomerRef, IdempotencyKey, Metric, TenantId
from metering.push import Push, quantity_of
from metering.trace import InCounter, Told, Trace

router = new_router()


class Event(Body):
    """One entry of the ledger."""

    id: str
    """Its idempotency key."""
    tenant_id: str
    metric: str
    customer_ref: str
    resource_id: str | None
    quantity: Quantity
    timestamp: When
    meta: str
    source: str
    received_at: When
    late: bool
    """Held back from every total until it is approved."""
    kind: str
    """`usage`; or a decision of somebody: `adjustment`, `approval` (of a late event), and
    `approval_revert`."""
    decided_by: str | None
    """Of a decision: `api:<key prefix>`."""


class EventPage(Body):
    """Part of a tenant's events."""

    total: int
    total_is_exact: bool
    """False: counting on would read too much, there are at least `total`."""
    events: list[Event]


def event_of(entry: LedgerEntry) -> Event:
    """A ledger entry as the API shows it."""
    sent = entry.event
    return Event(
        id=sent.key,
        tenant_id=sent.tenant,
        metric=sent.metric,
        customer_ref=sent.customer,
        resource_id=sent.resource,
        quantity=sent.quantity,
        timestamp=sent.occurred_at,
        meta=sent.meta,
        source=sent.source,
        received_at=entry.received_at,
        late=entry.is_late,
        kind=entry.kind,
        decided_by=entry.decided_by or None,
    )


@serve(
    router,
    "GET /v1/events",
    EventPage,
    scopes=(Scope.PROJECT_READ, Scope.EVENTS_READ),
    tag="events",
    may={422, 501},
)
def list_events(  # noqa: PLR0913, PLR0917 (one argument per query parameter)
    tenant_id: TenantQuery = None,
    metric: MetricFilter = None,
    customer: CustomerFilter = None,
    source: Annotated[Source | None, Query()] = None,
    start_time: Annotated[Instant | None, Query(alias="startTime")] = None,
    end_time: Annotated[Instant | None, Query(alias="endTime")] = None,
    sort: Annotated[Order, Query()] = Order.TIME,
    sort_direction: Annotated[Literal["asc", "desc"], Query(alias="sortDir")] = "desc",
    limit: Annotated[int, Query(ge=1, le=100)] = 25,
    offset: Annotated[int, Query(ge=0)] = 0,
) -> Response[Any]:
    """List accepted events, newest first unless told otherwise; both times are included."""
    tenant = call.current().owner()
    if start_time and end_time and end_time < start_time:
        raise BadRequestError("endTime: lies before startTime", error="Validation Error")
    page = wiring.current().event_list.page(
        EventQuery(
            tenant=tenant,
            metric=Metric(metric) if metric else None,
            customer=CustomerRef(customer) if customer else None,
            source=source,
            first=start_time,
            last=end_time,
            order=sort,
            is_descending=sort_direction == "desc",
            offset=offset,
            limit=limit,
        )
    )
    events = [event_of(entry) for entry in page.entries]
    return answer(EventPage(total=page.total, total_is_exact=page.is_total_exact, events=events))


# --- trace ----------------------------------------------------------------------------------------


class CounterState(Body):
    """The counter that an event belongs to, in the event's bucket of time."""

    metric: str
    customer_ref: str
    bucket_start: When
    bucket_end: When
    period_start: When
    period_end: When
    count: int
    sum: Quantity
    watermark: When | None
    late_count: int


class PushState(Body):
    """One push of the counter's total to Stripe."""

    identifier: str
    delta: Quantity
    """In the metric's unit."""
    state: str
    timestamp: When
    planned_at: When
    attempts: int
    closed_at: When | None
    resolution: str
    last_error: str


class StreamState(Body):
    """Where a counter's total is told, and the pushes since the event was received."""

    stripe_account: str
    mode: str
    meter_event_name: str
    stripe_customer: str
    accepted: Quantity
    """What Stripe has taken of the period's total, in the metric's unit."""
    pushes: list[PushState]


class TraceAnswer(Body):
    """What became of one event."""

    idempotency_key: str
    outcome: str
    """`counted`, `held_as_late`, `reverted` (a late event whose approval was taken back),
    `accepted` (not in its counter yet) or `refused`."""
    event: Event | None
    counter: CounterState | None
    streams: list[StreamState]
    set_aside: list[SetAside]


@serve(
    router,
    "GET /v1/events/trace",
    TraceAnswer,
    scopes=(Scope.PROJECT_READ, Scope.EVENTS_READ),
    tag="events",
    may={404},
)
def trace_event(
    idempotency_key: Annotated[str, Query(alias="idempotencyKey", min_length=1, max_length=300)],
    tenant_id: TenantQuery = None,
) -> Response[Any]:
    """Follow one event: when it came, where it counts, and how its counter's total was told."""
    tenant: TenantId = call.current().owner()
    trace = wiring.current().tracer.trace(tenant, IdempotencyKey(idempotency_key))
    return answer(_trace(trace))


def _trace(trace: Trace) -> TraceAnswer:
    return TraceAnswer(
        idempotency_key=trace.key,
        outcome=trace.outcome,
        event=event_of(trace.entry) if trace.entry else None,
        counter=_counter(trace.place) if trace.place else None,
        streams=[_stream(told) for told in trace.told],
        set_aside=[set_aside_of(item) for item in trace.set_aside],
    )


def _counter(place: InCounter) -> CounterState:
    counted = place.usage.counted
    return CounterState(
        metric=place.counter.metric,
        customer_ref=place.counter.customer,
        bucket_start=place.bucket.start,
        bucket_end=place.bucket.end,
        period_start=place.period.start,
        period_end=place.period.end,
        count=counted.count,
        sum=counted.sum,
        watermark=counted.watermark,
        late_count=place.usage.late.count,
    )


def _stream(told: Told) -> StreamState:
    stream = told.history.stream
    target = stream.key.target
    return StreamState(
        stripe_account=target.account,
        mode=target.mode,
        meter_event_name=target.event_name,
        stripe_customer=target.customer,
        accepted=stream.accepted_quantity,
        pushes=[_push(push, stream.scale) for push in told.pushes],
    )


def _push(push: Push, scale: int) -> PushState:
    return PushState(
        identifier=push.identifier,
        delta=quantity_of(push.delta, scale),
        state=push.state,
        timestamp=push.occurred_at,
        planned_at=push.planned_at,
        attempts=push.attempts,
        closed_at=push.closed_at,
        resolution=push.resolution,
        last_error=push.last_error,
    )
