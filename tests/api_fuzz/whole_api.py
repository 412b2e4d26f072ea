"""The whole HTTP API as one WSGI application: the real handlers behind API Gateway's payload.

schemathesis speaks WSGI. What it sends becomes the event that API Gateway would make of it, goes to
the function that the route belongs to, and that function's result goes back. What a handler raises
comes through, and fails the test with its own traceback.
"""

from collections.abc import Callable, Iterable
from datetime import datetime
from http import HTTPStatus
from typing import Any
from zlib import crc32

from infra.functions import FUNCTIONS
from local.gateway import routes_of
from local.handlers import load
from local.http_event import Request, answer, payload
from metering import wiring
from tests.stripe_events import signed

DEFAULT_ROUTE = "$default"
WEBHOOK_PATH = "/v1/stripe/webhook"
ROUTES = routes_of(loaded for one in FUNCTIONS if (loaded := load(one)) is not None)

type Environment = dict[str, Any]
type StartResponse = Callable[[str, list[tuple[str, str]]], Any]


def application(environment: Environment, start_response: StartResponse) -> Iterable[bytes]:
    """Answer one request, with the process's present wiring."""
    now = wiring.current().clock.now()
    request = _request(environment, now)
    own = f"{request.method} {request.path}"
    route = own if own in ROUTES else DEFAULT_ROUTE
    event = payload(request, route=route, now=now, request_id="request-1")
    answered = answer(ROUTES[route].invoke(event))
    headers = [(name.decode("latin-1"), text.decode("latin-1")) for name, text in answered.headers]
    start_response(f"{answered.status} {_phrase(answered.status)}", headers)
    return [answered.body]


def _phrase(status: int) -> str:
    return HTTPStatus(status).phrase


def _request(environment: Environment, now: datetime) -> Request:
    path = environment["PATH_INFO"].encode("latin-1").decode("utf-8", "replace")
    body = environment["wsgi.input"].read(int(environment.get("CONTENT_LENGTH") or 0))
    headers = dict(_headers(environment))
    if path == WEBHOOK_PATH and crc32(body) % 8:
        # Stripe signs what it sends; with made-up signatures, every body would be refused unread.
        headers["stripe-signature"] = signed(body.decode("utf-8", "replace"), at=now)
    return Request(
        method=environment["REQUEST_METHOD"],
        path=path,
        query=environment.get("QUERY_STRING", ""),
        headers=[(name.encode(), text.encode("latin-1")) for name, text in headers.items()],
        body=body,
        source_ip="127.0.0.1",
    )


def _headers(environment: Environment) -> Iterable[tuple[str, str]]:
    for name, text in environment.items():
        if name in {"CONTENT_TYPE", "CONTENT_LENGTH"} and text:
            yield name.lower().replace("_", "-"), text
        elif name.startswith("HTTP_"):
            yield name.removeprefix("HTTP_").lower().replace("_", "-"), text
