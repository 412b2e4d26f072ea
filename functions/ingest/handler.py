"""`POST /v1/events/ingest`: usage events over HTTPS into the ledger.

Without a router, because this path pays for every millisecond of a request.
"""

from collections.abc import Mapping
from typing import Any

from functions.http import body_of, query_of, respond
from functions.invocation import invocation
from metering import ingest_request, wiring
from metering.auth import AuthError, Scope
from metering.errors import BadRequestError, RateLimitedError, RetryableError


@invocation
def handler(event: Mapping[str, Any], context: object) -> dict[str, Any]:
    """Answer one API Gateway request (payload 2.0)."""
    request_id = event["headers"].get("x-request-id") or event["requestContext"]["requestId"]
    try:
        return _take(event, request_id)
    except AuthError as refusal:
        return respond(refusal.status, refusal.body)
    except ingest_request.EventCountError as refusal:
        return respond(refusal.status, ingest_request.refusal_of_all(refusal, request_id))
    except BadRequestError as refusal:
        return respond(refusal.status, {"error": refusal.error, "message": refusal.message})
    except RateLimitedError as refusal:
        wiring.current().metrics.count("rate_limited_total", of="ingest")
        return respond(429, refusal.body, refusal.headers)
    except RetryableError as trouble:
        body = {"error": "Service Unavailable", "message": f"{trouble}; send the request again"}
        return respond(503, body, {"retry-after": ingest_request.RETRY_AFTER_S})


def _take(event: Mapping[str, Any], request_id: str) -> dict[str, Any]:
    wired = wiring.current()
    source = event["requestContext"]["http"]["sourceIp"]
    caller = wired.authenticator.authenticate(event["headers"], source)
    body = ingest_request.read_json(body_of(event))
    events = ingest_request.read_events(body)
    named = [query_of(event).get("tenantId"), body.get("tenantId")]
    owner = ingest_request.owner_of(events, caller, named)
    caller.require(Scope.PROJECT_WRITE, Scope.EVENTS_WRITE)
    key = ingest_request.header_key(event["headers"])
    if owner is not None:
        wired.event_rate.take(owner, len(events))
    results = wired.ingest.take(events, tenant=owner, header_key=key)
    status, answer = ingest_request.answer(results, request_id)
    retry = {"retry-after": ingest_request.RETRY_AFTER_S} if status == 503 else None  # noqa: PLR2004
    return respond(status, answer, retry)
