"""`/health...` and `/metrics`: for operators and load balancers; nothing here is of a tenant."""

import hmac
from datetime import timedelta
from decimal import Decimal
from typing import Any

from aws_lambda_powertools.event_handler import Response

import metering
from functions.api.answers import answer
from functions.api.fields import Body, Quantity, When
from functions.api.routing import new_router, refusals, serve_anyone, success
from metering import wiring
from metering.errors import NotFoundError
from metering.readiness import Ready

router = new_router()

_MILLISECOND = timedelta(milliseconds=1)


class Alive(Body):
    """The process answers."""

    status: str
    timestamp: When


class Live(Body):
    """The process answers, and that is all."""

    status: str


class ReadyMetrics(Body):
    """Figures beside the checks."""

    writer_lag: Quantity | None
    """Seconds since the writer had dealt with all changes; null before its first run."""
    closer_lag: Quantity | None
    """Seconds since it was looked for billing periods that have ended; null before the first time.

    It is done every five minutes, and at once when Stripe tells of an invoice."""


class ReadyAnswer(Body):
    """What was asked, and what it said."""

    status: str
    version: str
    checks: dict[str, bool]
    details: dict[str, str]
    metrics: ReadyMetrics


@serve_anyone(router, "GET /health", {200: success(Alive)}, tag="health")
def health() -> Response[Any]:
    """The process answers; nothing else was asked."""
    return answer(Alive(status="ok", timestamp=wiring.current().clock.now()))


@serve_anyone(router, "GET /health/live", {200: success(Live)}, tag="health")
def live() -> Response[Any]:
    """The process answers."""
    return answer(Live(status="alive"))


@serve_anyone(
    router,
    "GET /health/ready",
    {
        200: success(ReadyAnswer),
        503: success(ReadyAnswer) | {"description": "A check has failed."},
    },
    tag="health",
)
def ready() -> Response[Any]:
    """Tables, Stripe and the writer were asked; 503 names what did not answer."""
    found = wiring.current().readiness.now()
    return answer(_ready(found), 200 if found.is_ready else 503)


def _ready(found: Ready) -> ReadyAnswer:
    metrics = ReadyMetrics(
        writer_lag=_seconds(found.writer_lag), closer_lag=_seconds(found.closer_lag)
    )
    return ReadyAnswer(
        status="healthy" if found.is_ready else "degraded",
        version=metering.__version__,
        checks={check.name: check.is_passed for check in found.checks},
        details={check.name: check.detail for check in found.checks},
        metrics=metrics,
    )


def _seconds(lag: timedelta | None) -> Decimal | None:
    return None if lag is None else Decimal(lag // _MILLISECOND) / 1000


@serve_anyone(
    router,
    "GET /metrics",
    {
        200: {"description": "Success", "content": {"text/plain": {"schema": {"type": "string"}}}},
        **refusals({404}),
    },
    tag="health",
)
def metrics() -> Response[Any]:
    """Numbers of this process as Prometheus reads them."""
    wired = wiring.current()
    exposition = wired.metrics.exposition() if _may_scrape() else None
    if exposition is None:
        raise NotFoundError(
            "Metrics are switched off here (METRICS=off) or go to CloudWatch (METRICS=emf), or the"
            " scraper's bearer token is not METRICS_TOKEN"
        )
    content_type, text = exposition
    return Response(200, content_type, text)


def _may_scrape() -> bool:
    """Meters' names are tenants' own: where keys are required, so is the operator's token."""
    config = wiring.current().config
    if not config.auth:
        return True
    given = (router.current_event.headers.get("authorization") or "").removeprefix("Bearer ")
    expected = config.metrics_token
    return expected is not None and hmac.compare_digest(given.encode(), expected.encode())
