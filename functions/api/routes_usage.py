"""`GET /v1/usage/current` and `/history`: what customers have used."""

from datetime import timedelta
from decimal import Decimal
from typing import Annotated, Any

from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.event_handler.openapi.params import Query

from functions.api import call
from functions.api.answers import answer
from functions.api.fields import (
    Body,
    CustomerQuery,
    Instant,
    MetricName,
    Quantity,
    TenantQuery,
    When,
)
from functions.api.routing import new_router, serve
from metering import wiring
from metering.auth import Scope
from metering.names import CustomerRef, Metric
from metering.period import Span
from metering.usage_report import CurrentUsage, MetricUsage, Step

router = new_router()

MILLISECOND = timedelta(milliseconds=1)


class Period(Body):
    """From `start` up to, not including, `end`."""

    start: When
    end: When


class LateHeld(Body):
    """Events too late to count by themselves, which await approval."""

    count: int
    value: Quantity


class MetricNow(Body):
    """One metric in the present billing period."""

    name: str
    current: Quantity
    """By the metric's aggregation."""
    unit: str
    aggregation: str
    mapped: bool
    """False: counted, and told nobody."""
    count: int
    watermark: When | None
    """The newest event in it."""
    late_held: LateHeld


class Freshness(Body):
    """How recent the numbers are."""

    watermark: When | None
    """The newest event counted, of all metrics."""
    behind_seconds: Quantity | None
    """From there to now; large when nothing was used lately, too."""


class UsageNow(Body):
    """A customer's usage in its present billing period."""

    customer_ref: str
    period: Period
    metrics: list[MetricNow]
    alerts: list[str]
    freshness: Freshness


@serve(
    router,
    "GET /v1/usage/current",
    UsageNow,
    scopes=(Scope.PROJECT_READ, Scope.USAGE_READ),
    tag="usage",
)
def current_usage(customer: CustomerQuery, tenant_id: TenantQuery = None) -> Response[Any]:
    """What a customer has used in its present billing period."""
    tenant = call.current().owner()
    return answer(_usage_now(wiring.current().usage_report.current(tenant, CustomerRef(customer))))


def _usage_now(usage: CurrentUsage) -> UsageNow:
    watermark = usage.watermark
    behind = Decimal((usage.now - watermark) // MILLISECOND) / 1000 if watermark else None
    return UsageNow(
        customer_ref=usage.customer,
        period=Period(start=usage.period.start, end=usage.period.end),
        metrics=[_metric_now(metric) for metric in usage.metrics],
        alerts=[],
        freshness=Freshness(watermark=watermark, behind_seconds=behind),
    )


def _metric_now(metric: MetricUsage) -> MetricNow:
    return MetricNow(
        name=metric.metric,
        current=metric.value,
        unit=metric.unit,
        aggregation=metric.aggregation,
        mapped=metric.is_mapped,
        count=metric.usage.counted.count,
        watermark=metric.usage.counted.watermark,
        late_held=LateHeld(count=metric.usage.late.count, value=metric.late_value),
    )


# --- history --------------------------------------------------------------------------------------


class UsageAt(Body):
    """A metric's number in one step of time."""

    ts: When
    """The step's start, UTC."""
    value: Quantity


class UsageHistory(Body):
    """A metric's numbers, oldest first; steps without usage are left out."""

    usage: list[UsageAt]
    aggregation: str
    unit: str


@serve(
    router,
    "GET /v1/usage/history",
    UsageHistory,
    scopes=(Scope.PROJECT_READ, Scope.USAGE_READ),
    tag="usage",
)
def usage_history(
    customer: CustomerQuery,
    metric: Annotated[MetricName, Query()],
    period_start: Annotated[Instant, Query(alias="periodStart")],
    period_end: Annotated[Instant, Query(alias="periodEnd")],
    step: Annotated[Step, Query()] = Step.MONTH,
    tenant_id: TenantQuery = None,
) -> Response[Any]:
    """A metric's numbers for each UTC day or month that the range touches, the end excluded."""
    tenant = call.current().owner()
    span = Span(period_start, period_end)
    history = wiring.current().usage_report.history(
        tenant, CustomerRef(customer), Metric(metric), span, step
    )
    usage = [UsageAt(ts=at, value=value) for at, value in history.values]
    return answer(UsageHistory(usage=usage, aggregation=history.aggregation, unit=history.unit))
