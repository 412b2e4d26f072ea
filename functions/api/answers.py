"""Answers: JSON that keeps every digit, and the one map from errors to HTTP."""

import json
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from http import HTTPStatus
from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.event_handler.exceptions import NotFoundError as NoRouteError
from aws_lambda_powertools.event_handler.openapi.exceptions import RequestValidationError
from pydantic import BaseModel

from metering import quantity, times
from metering.adapters.dynamodb.refusals import is_not_now
from metering.auth import AuthError
from metering.errors import BadRequestError, RateLimitedError, RetryableError
from metering.ports import IndexOffError, SetupError

JSON_TYPE = "application/json"
RETRY_AFTER_S = "5"
_MILLISECOND_US = 1000
_INDEX_OFF = (
    "This deployment keeps no index of events by time (EVENT_INDEX=off), so it cannot list them;"
    " trace one event by its idempotency key instead"
)

logger = Logger(service="api")


def exact_json(value: object) -> str:
    """JSON in which a Decimal is a number with all its digits; `json` would need a float.

    Raises:
        TypeError: a value that has no JSON form here, floats above all.
    """
    match value:
        case None | bool() | str() | int():
            return json.dumps(value, ensure_ascii=False)
        case Decimal():
            return quantity.canonical(value)
        case datetime():
            return f'"{_instant(value)}"'
        case Mapping():
            members = (f"{json.dumps(name)}:{exact_json(one)}" for name, one in value.items())
            return "{" + ",".join(members) + "}"
        case list() | tuple():
            return "[" + ",".join(map(exact_json, value)) + "]"
    raise TypeError(f"{type(value).__name__} is not to be written as JSON")


def _instant(instant: datetime) -> str:
    """Milliseconds as the peer writes them, microseconds where there are any."""
    is_finer = instant.microsecond % _MILLISECOND_US
    return times.to_text(instant) if is_finer else times.to_iso_ms(instant)


def answer(
    body: BaseModel | Mapping[str, Any] | list[BaseModel],
    status: int = HTTPStatus.OK,
    headers: Mapping[str, str] | None = None,
) -> Response[Any]:
    """An answer with a JSON body; models are written under their camelCase names."""
    return Response(status, JSON_TYPE, exact_json(_plain(body)), dict(headers or {}))


def _plain(body: object) -> object:
    if isinstance(body, BaseModel):
        return body.model_dump(by_alias=True)
    return [_plain(one) for one in body] if isinstance(body, list) else body


# --- errors ---------------------------------------------------------------------------------------


def refuse(error: Exception, *, method: str, path: str) -> Response[Any]:
    """What an error becomes: the caller's fault in words, the world's with a time to come again.

    Our own fault is logged whole and answered without details.
    """
    if isinstance(error, NoRouteError):
        return _no_route(method, path)
    refused = _callers_fault(error) or _worlds_fault(error)
    if refused is None:
        logger.error("request failed", exc_info=error, method=method, path=path)
        return _said(500, type(error).__name__, "An internal server error occurred.")
    return refused


def _callers_fault(error: Exception) -> Response[Any] | None:
    match error:
        case AuthError():
            return answer(error.body, error.status)
        case RateLimitedError():
            return answer(error.body, 429, error.headers)
        case BadRequestError():
            return answer({"error": error.error, "message": error.message}, error.status)
        case RequestValidationError():
            return _invalid(error)
        case IndexOffError():
            return _said(501, "Event index is off", _INDEX_OFF)
    return None


def _worlds_fault(error: Exception) -> Response[Any] | None:
    match error:
        case SetupError():
            return _said(502, "Bad Gateway", f"Stripe is not set up: {error}")
        case RetryableError():
            return _later(f"{error}; send the request again")
    if is_not_now(error):
        return _later("The tables cannot answer now; send the request again")
    return None


def _said(
    status: int, error: str, message: str, headers: Mapping[str, str] | None = None
) -> Response[Any]:
    return answer({"error": error, "message": message}, status, headers)


def _later(message: str) -> Response[Any]:
    return _said(503, "Service Unavailable", message, {"retry-after": RETRY_AFTER_S})


def _no_route(method: str, path: str) -> Response[Any]:
    message = f"Route {method}:{path} not found"
    return answer({"message": message, "error": "Not Found", "statusCode": 404}, 404)


def _invalid(error: RequestValidationError) -> Response[Any]:
    faults = list(error.errors())
    if any(fault["type"] == "json_invalid" for fault in faults):
        reason = (faults[0].get("ctx") or {}).get("error", "not JSON")
        return _said(400, "SyntaxError", f"The body is not JSON: {reason}")
    details = [
        {
            "path": [str(part) for part in fault["loc"]],
            "code": str(fault["type"]),
            "message": str(fault["msg"]),
        }
        for fault in faults
    ]
    message = "; ".join(f"{'.'.join(one['path'])}: {one['message']}" for one in details)
    return answer({"error": "Validation Error", "message": message, "details": details}, 400)
