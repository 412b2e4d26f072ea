"""`/v1/reconciliation/corrections`: what a person has cancelled at Stripe of others' writing."""

from decimal import Decimal
from typing import Annotated, Any

from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.event_handler.openapi.params import Body as FromBody
from pydantic import Field

from functions.api import call
from functions.api.answers import answer
from functions.api.fields import Body, CustomerName, MetricName, Quantity, When
from functions.api.routes_reconciliation import Month
from functions.api.routing import new_router, serve
from metering import wiring
from metering.auth import Scope
from metering.corrections import Asked
from metering.counter import CounterKey
from metering.errors import BadRequestError
from metering.names import CustomerRef, Metric, TenantId
from metering.push import PushStream, quantity_of

router = new_router()


class NewCorrection(Body):
    """What to cancel, of one stream; named by itself, or by customer and metric."""

    tenant_id: str | None = None
    period: Month
    """In which the billing period begins."""
    stream_id: str = ""
    customer_ref: CustomerName | None = None
    metric: MetricName | None = None
    amount: Decimal
    """By how much what Stripe holds is to change, as `suggestedAdjustments` says: negative lowers
    it."""
    reason: Annotated[str, Field(min_length=1, max_length=500)]


class CorrectionState(Body):
    """A correction that was approved, and where its stream stands."""

    stream_id: str
    customer_ref: str
    metric: str
    period_start: When
    amount: Quantity
    reason: str
    approved_by: str
    approved_at: When
    compensated: Quantity
    """What Stripe has taken of all the stream's corrections."""
    due: Quantity
    """What is on its way; the writer's next run sends it."""


@serve(
    router,
    "POST /v1/reconciliation/corrections",
    CorrectionState,
    scopes=(Scope.PROJECT_WRITE,),
    tag="reconciliation",
    status=201,
    may={404, 409, 502},
)
def approve_correction(sent: Annotated[NewCorrection, FromBody()]) -> Response[Any]:
    """Have Stripe's total changed to cancel what others wrote; what was used stays as it is.

    At most what Stripe's minutes prove to be too much, in a period that is open.
    """
    current = call.current()
    tenant = current.owner()
    by = f"api:{current.caller.key_prefix or 'anyone'}"
    asked = Asked(sent.period, sent.amount, sent.reason, _counter(tenant, sent), sent.stream_id)
    stored = wiring.current().corrections.approve(tenant, asked, by=by)
    return answer(_state(stored), 201)


def _counter(tenant: TenantId, sent: NewCorrection) -> CounterKey | None:
    if sent.customer_ref and sent.metric:
        return CounterKey(tenant, CustomerRef(sent.customer_ref), Metric(sent.metric))
    if sent.stream_id:
        return None
    raise BadRequestError("name streamId, or customerRef and metric", error="Validation Error")


def _state(stream: PushStream) -> CorrectionState:
    made = stream.corrections[-1]
    return CorrectionState(
        stream_id=stream.key.id,
        customer_ref=stream.key.counter.customer,
        metric=stream.key.counter.metric,
        period_start=stream.key.period.start,
        amount=quantity_of(made.amount, stream.scale),
        reason=made.reason,
        approved_by=made.approved_by,
        approved_at=made.approved_at,
        compensated=quantity_of(stream.compensated, stream.scale),
        due=quantity_of(stream.correction_due, stream.scale),
    )
