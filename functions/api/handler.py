"""Everything of the HTTP API but ingest: reads, settings, reconciliation, health, description."""

import json
from collections.abc import Mapping
from decimal import Decimal
from threading import Lock
from time import perf_counter
from typing import Any

from aws_lambda_powertools.event_handler import APIGatewayHttpResolver, Response
from aws_lambda_powertools.event_handler.exceptions import NotFoundError as NoRouteError
from aws_lambda_powertools.event_handler.middlewares import NextMiddleware

from functions.api import (
    call,
    routes_adjustments,
    routes_admin,
    routes_cancellation,
    routes_corrections,
    routes_customers,
    routes_events,
    routes_health,
    routes_mappings,
    routes_metrics,
    routes_periods,
    routes_pushes,
    routes_quarantine,
    routes_reconciliation,
    routes_settings,
    routes_usage,
)
from functions.api.answers import JSON_TYPE, refuse
from functions.api.call import Call
from functions.api.description import document_of, page_of
from functions.invocation import invocation
from metering import wiring
from metering.auth import ANYONE, AuthError, MissingScopeError, OtherTenantError
from metering.errors import BadRequestError, RateLimitedError


def _read_json(text: str) -> Any:
    """A body's JSON, fractions with all their digits."""
    try:
        return json.loads(text, parse_float=Decimal)
    except RecursionError:
        raise json.JSONDecodeError("nested too deeply", "", 0) from None


app = APIGatewayHttpResolver(enable_validation=True, json_body_deserializer=_read_json)
for routes in (
    routes_adjustments,
    routes_events,
    routes_usage,
    routes_mappings,
    routes_metrics,
    routes_customers,
    routes_cancellation,
    routes_periods,
    routes_pushes,
    routes_quarantine,
    routes_corrections,
    routes_reconciliation,
    routes_settings,
    routes_admin,
    routes_health,
):
    app.include_router(routes.router)

# The router keeps the request it is answering in itself, as befits Lambda, where there is one at a
# time. Where threads share a process, tenants' requests must not meet in there.
_one_at_a_time = Lock()


@invocation
def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Answer one API Gateway request (payload 2.0)."""
    started = perf_counter()
    request = Call(ANYONE, None)
    try:
        request = call.begin(event)
        with _one_at_a_time, call.answering(request):
            answered = app.resolve(_as_json(event), context)
    except Exception as error:  # noqa: BLE001 (the one wrapper: whatever it is becomes an answer)
        answered = _written(_refuse(error, event, request))
    _count(event, request, answered["statusCode"], perf_counter() - started)
    return answered


def _as_json(event: dict[str, Any]) -> dict[str, Any]:
    """The event, its body taken for JSON; the router would try to read forms, which no route takes.

    Raises:
        BadRequestError: 415, the body says that it is something else.
    """
    kind = event["headers"].get("content-type", "").partition(";")[0].strip().lower()
    if event.get("body") and kind not in {"", JSON_TYPE}:
        raise BadRequestError(
            f"The body was sent as {kind}; send JSON as {JSON_TYPE}",
            status=415,
            error="Unsupported Media Type",
        )
    return event | {"headers": event["headers"] | {"content-type": JSON_TYPE}}


def _note_route(resolver: APIGatewayHttpResolver, next_middleware: NextMiddleware) -> Response[Any]:
    call.current().route = resolver.request.route
    return next_middleware(resolver)


app.use(middlewares=[_note_route])


@app.exception_handler(Exception)  # type: ignore[untyped-decorator]
def _refuse_routed(error: Exception) -> Response[Any]:
    request = call.current()
    request.route = "unmatched" if isinstance(error, NoRouteError) else app.request.route
    return _refuse(error, app.current_event.raw_event, request)


def _refuse(error: Exception, event: Mapping[str, Any], request: Call) -> Response[Any]:
    method = event["requestContext"]["http"]["method"]
    if isinstance(error, AuthError):
        name = _counted_as(error)
        wiring.current().metrics.count(name, route=request.route, method=method)
    if isinstance(error, RateLimitedError):
        wiring.current().metrics.count("rate_limited_total", of="api")
    return refuse(error, method=method, path=event["rawPath"])


def _counted_as(error: AuthError) -> str:
    match error:
        case OtherTenantError():
            return "cross_tenant_block_total"
        case MissingScopeError():
            return "scope_deny_total"
    return "auth_fail_total"


def _written(response: Response[Any]) -> dict[str, Any]:
    """A refusal that came before the router, in the form that Lambda returns."""
    return {
        "statusCode": response.status_code,
        "headers": response.headers,
        "body": response.body,
        "isBase64Encoded": False,
    }


def _count(event: Mapping[str, Any], request: Call, status: int, took_s: float) -> None:
    metrics = wiring.current().metrics
    route, method = request.route, event["requestContext"]["http"]["method"]
    metrics.count("http_requests_total", method=method, route=route, status_code=str(status))
    metrics.observe("http_request_duration_seconds", took_s, method=method, route=route)


@app.get("/docs/json", include_in_schema=False)
def document() -> Response[Any]:
    """The OpenAPI document."""
    return Response(200, "application/json", document_of(app))


@app.get("/docs", include_in_schema=False)
def page() -> Response[Any]:
    """A page to look at it."""
    return Response(200, "text/html; charset=utf-8", page_of(app), compress=True)
