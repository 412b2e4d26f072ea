"""`POST /v1/customers/{ref}/cancel`: end a subscription once Stripe has all of its usage."""

from datetime import timedelta
from decimal import Decimal
from typing import Annotated, Any

from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.event_handler.openapi.params import Body as FromBody
from aws_lambda_powertools.event_handler.openapi.params import Path
from pydantic import Field

from functions.api import call
from functions.api.answers import answer
from functions.api.fields import Body, CustomerName, Quantity, TenantQuery, When
from functions.api.routes_mappings import WRITE
from functions.api.routes_usage import Period
from functions.api.routing import new_router, serve
from metering import wiring
from metering.cancellation import Cancelled
from metering.names import CustomerRef

router = new_router()

TIME_TO_TELL = timedelta(seconds=15)
"""Of the 29 s that a request may take; cancelling itself needs some."""


class CancellationAsked(Body):
    """How to end the subscription."""

    tenant_id: str | None = None
    invoice_now: Annotated[bool, Field(strict=True)] = False
    """Whether its usage since the last invoice is billed; Stripe forgets it otherwise."""
    force: Annotated[bool, Field(strict=True)] = False
    """End it even though Stripe does not have all usage; what it lacks is not billed."""


class MetricTold(Body):
    """What Stripe had been told of a metric when the subscription ended."""

    metric: str
    quantity: Quantity


class CancellationState(Body):
    """A subscription that was ended."""

    tenant_id: str
    customer_ref: str
    subscription: str
    period: Period
    """Its last billing period, up to its end."""
    ended_at: When
    told: list[MetricTold]
    trouble: str
    """What Stripe was not told; empty unless it was forced."""


@serve(
    router,
    "POST /v1/customers/<customer_ref>/cancel",
    CancellationState,
    scopes=WRITE,
    tag="customers",
    may={409, 502},
)
def cancel_subscription(
    customer_ref: Annotated[CustomerName, Path()],
    sent: Annotated[CancellationAsked, FromBody()],
    tenant_id: TenantQuery = None,
) -> Response[Any]:
    """Tell Stripe all usage of the customer's period, check that it has it, and then cancel.

    409 when Stripe does not have it all; nothing is cancelled then.
    """
    tenant = call.current().owner()
    wired = wiring.current()
    until = wired.clock.now() + TIME_TO_TELL
    cancelled = wired.cancellation.cancel(
        tenant,
        CustomerRef(customer_ref),
        invoice_now=sent.invoice_now,
        force=sent.force,
        has_time=lambda: wired.clock.now() < until,
    )
    return answer(_state(cancelled))


def _state(cancelled: Cancelled) -> CancellationState:
    told: dict[str, Decimal] = {}
    for stream in cancelled.streams:
        metric = stream.key.counter.metric
        told[metric] = told.get(metric, Decimal(0)) + stream.accepted_quantity
    period = cancelled.period
    return CancellationState(
        tenant_id=cancelled.customer.tenant,
        customer_ref=cancelled.customer.ref,
        subscription=cancelled.subscription,
        period=Period(start=period.start, end=period.end),
        ended_at=period.end,
        told=[MetricTold(metric=name, quantity=total) for name, total in sorted(told.items())],
        trouble=cancelled.trouble,
    )
