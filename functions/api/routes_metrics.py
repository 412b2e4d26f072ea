"""`/v1/metrics`: how each metric is counted, and what becomes of its late events."""

from datetime import timedelta
from decimal import Decimal
from typing import Annotated, Any

from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.event_handler.openapi.params import Body as FromBody
from aws_lambda_powertools.event_handler.openapi.params import Path
from pydantic import Field

from functions.api import call
from functions.api.answers import answer
from functions.api.fields import Body, MetricName, Quantity, TenantQuery
from functions.api.routes_mappings import READ, WRITE
from functions.api.routing import new_router, serve
from metering import wiring
from metering.counter import Aggregation
from metering.errors import BadRequestError
from metering.mapping import LatePolicy, MetricSettings
from metering.names import Metric, TenantId
from metering.period import Width

router = new_router()

LATENESS_HOURS_MAX = 24 * 366
_SECOND = timedelta(seconds=1)
_HOUR_S = 3600
MetricPath = Annotated[MetricName, Path()]


class MetricChange(Body):
    """What to change of a metric's settings; what is left out stays."""

    tenant_id: str | None = None
    metric: MetricName | None = None
    """Only where the path does not name it."""
    aggregation: Aggregation | None = None
    """Of an unmapped metric; an active mapping's own goes first."""
    late_policy: LatePolicy | None = None
    lateness_hours: Annotated[Decimal | None, Field(ge=0, le=LATENESS_HOURS_MAX)] = None
    """From an event's time to its receipt; later ones meet the late policy."""
    unit: Annotated[str | None, Field(min_length=1, max_length=50)] = None
    bucket: Width | None = None
    """How finely its counters are kept from now on: `hour` lets a meter with an event_time_window
    of an hour be told each hour's total; it costs up to three write units in place of one."""


class MetricState(Body):
    """A metric's settings as they stand."""

    metric: str
    aggregation: str
    late_policy: str
    lateness_hours: Quantity
    unit: str
    bucket: str


@serve(router, "GET /v1/metrics", list[MetricState], scopes=READ, tag="metrics")
def list_metrics(tenant_id: TenantQuery = None) -> Response[Any]:
    """The metrics that were set up; others are counted by the defaults."""
    tenant = call.current().owner()
    return answer([_state(one) for one in wiring.current().settings_store.metrics(tenant)])


@serve(router, "GET /v1/metrics/<metric>", MetricState, scopes=READ, tag="metrics")
def get_metric(metric: MetricPath, tenant_id: TenantQuery = None) -> Response[Any]:
    """A metric's settings, the defaults when nobody set it up."""
    tenant = call.current().owner()
    return answer(_state(wiring.current().settings.metric(tenant, Metric(metric))))


@serve(router, "PUT /v1/metrics/<metric>", MetricState, scopes=WRITE, tag="metrics")
def put_metric(
    metric: MetricPath,
    sent: Annotated[MetricChange, FromBody()],
    tenant_id: TenantQuery = None,
) -> Response[Any]:
    """Change a metric's settings; events that were received keep what was decided for them."""
    tenant = call.current().owner()
    if sent.metric not in {None, metric}:
        raise BadRequestError("metric: differs from the path's", error="Validation Error")
    return answer(_state(_change(tenant, Metric(metric), sent)))


@serve(router, "PUT /v1/metrics", MetricState, scopes=WRITE, tag="metrics")
def put_metric_named_in_body(
    sent: Annotated[MetricChange, FromBody()], tenant_id: TenantQuery = None
) -> Response[Any]:
    """The same for a metric whose name cannot stand in a path (`/`, `?`, `#`)."""
    tenant = call.current().owner()
    if sent.metric is None:
        raise BadRequestError("metric: Required", error="Validation Error")
    return answer(_state(_change(tenant, Metric(sent.metric), sent)))


def _change(tenant: TenantId, metric: Metric, sent: MetricChange) -> MetricSettings:
    wired = wiring.current()
    before = wired.settings.metric(tenant, metric)
    after = MetricSettings(
        metric,
        sent.aggregation or before.aggregation,
        sent.late_policy or before.late_policy,
        before.lateness if sent.lateness_hours is None else _lateness(sent.lateness_hours),
        sent.unit or before.unit,
        sent.bucket or before.bucket,
    )
    wired.settings_store.put_metric(tenant, after)
    return after


def _lateness(hours: Decimal) -> timedelta:
    return round(hours * _HOUR_S) * _SECOND


def _state(settings: MetricSettings) -> MetricState:
    hours = Decimal(settings.lateness // _SECOND) / _HOUR_S
    return MetricState(
        metric=settings.metric,
        aggregation=settings.aggregation,
        late_policy=settings.late_policy,
        lateness_hours=round(hours, 6),
        unit=settings.unit,
        bucket=settings.bucket,
    )
