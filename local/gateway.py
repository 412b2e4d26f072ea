"""API Gateway's HTTP API on loopback, as an ASGI application.

One request is one invocation on a thread of the pool, as it would be one execution environment on
Lambda. This stands in every measurement's way, so it is plain ASGI without a framework.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Protocol

from infra.functions import Function, Http
from local.handlers import Loaded
from local.http_event import Answer, Request, UnusableResultError, answer, message, payload
from metering.adapters.clock import SystemClock

if TYPE_CHECKING:
    from metering.ports import Clock

BODY_MAX_BYTES = 10 * 1024 * 1024
RESULT_MAX_BYTES = 6 * 1024 * 1024
"""Lambda's own limit on what a handler answers."""
INTEGRATION_TIMEOUT_S = 29.0
ENVIRONMENTS = 16
CONTROL_PREFIX = "/_local/"

type Scope = MutableMapping[str, Any]
type Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
type Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

log = logging.getLogger(__name__)


class Control(Protocol):
    """What answers below `/_local/`; called on a thread, may block."""

    def __call__(self, method: str, path: str, body: bytes) -> Answer:
        """The answer to one control request."""
        ...


class BodyTooLargeError(Exception):
    """More than API Gateway takes."""


class Gateway:
    """The HTTP API: routes requests to functions and their results back."""

    def __init__(
        self,
        routes: Mapping[str, Loaded],
        *,
        control: Control | None = None,
        timeout_s: float = INTEGRATION_TIMEOUT_S,
        clock: "Clock | None" = None,
    ) -> None:
        self._routes = routes
        self._control = control
        self._timeout_s = timeout_s
        self._clock = clock or SystemClock()
        self._environments = ThreadPoolExecutor(ENVIRONMENTS, thread_name_prefix="environment")
        self._control_threads = ThreadPoolExecutor(8, thread_name_prefix="control")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI's entry."""
        if scope["type"] != "http":
            raise RuntimeError(f"the local gateway serves HTTP only, not {scope['type']}")
        try:
            answered = await self._answer(scope, await _read_body(receive))
        except BodyTooLargeError:
            answered = message(413, "Request Entity Too Large")
        await _send(answered, send)

    async def _answer(self, scope: Scope, body: bytes) -> Answer:
        path = scope["path"]
        if self._control is not None and path.startswith(CONTROL_PREFIX):
            return await asyncio.get_running_loop().run_in_executor(
                self._control_threads, self._control, scope["method"], path, body
            )
        route = f"{scope['method']} {path}"
        loaded = self._routes.get(route)
        if loaded is None:
            route, loaded = "$default", self._routes.get("$default")
        if loaded is None:
            return message(404, "Not Found")
        return await self._invoke(loaded, _request(scope, body), route)

    async def _invoke(self, loaded: Loaded, request: Request, route: str) -> Answer:
        event = payload(request, route=route, now=self._clock.now())
        loop = asyncio.get_running_loop()
        invocation = loop.run_in_executor(self._environments, _run, loaded, event)
        try:
            async with asyncio.timeout(self._timeout_s):
                return await invocation
        except TimeoutError:
            name = loaded.function.name
            log.error("function %s took over %s s", name, self._timeout_s)  # noqa: TRY400 (no trace)
            return message(503, "Service Unavailable")


def routes_of(functions: Iterable[Loaded]) -> dict[str, Loaded]:
    """Every route of the HTTP API and the function behind it.

    Raises:
        ValueError: a route with a variable part; the local gateway has no use for one yet.
    """
    routes = {}
    for loaded in functions:
        for route in http_routes(loaded.function):
            if "{" in route or route.startswith("ANY "):
                raise ValueError(f"the local gateway cannot serve route {route!r}; name it exactly")
            routes[route] = loaded
    return routes


def http_routes(function: Function) -> tuple[str, ...]:
    """The routes of a function, none for one that HTTP does not trigger."""
    return function.trigger.routes if isinstance(function.trigger, Http) else ()


def _run(loaded: Loaded, event: dict[str, Any]) -> Answer:
    """One invocation; whatever goes wrong in it is a 500, as at API Gateway."""
    try:
        answered = answer(loaded.invoke(event))
    except UnusableResultError as unusable:
        log.error("function %s: %s", loaded.function.name, unusable)  # noqa: TRY400 (no trace worth showing)
        return message(500, "Internal Server Error")
    except Exception:
        log.exception("function %s failed", loaded.function.name)
        return message(500, "Internal Server Error")
    if len(answered.body) > RESULT_MAX_BYTES:
        log.error("function %s answered more than Lambda's 6 MB", loaded.function.name)
        return message(500, "Internal Server Error")
    return answered


def _request(scope: Scope, body: bytes) -> Request:
    client = scope.get("client")
    return Request(
        method=scope["method"],
        path=scope["path"],
        query=scope["query_string"].decode("latin-1"),
        headers=scope["headers"],
        body=body,
        source_ip=client[0] if client else "127.0.0.1",
        protocol=f"HTTP/{scope['http_version']}",
    )


async def _read_body(receive: Receive) -> bytes:
    parts = []
    size = 0
    while True:
        part = await receive()
        piece = part.get("body", b"")
        size += len(piece)
        if size > BODY_MAX_BYTES:
            raise BodyTooLargeError
        parts.append(piece)
        if not part.get("more_body"):
            return parts[0] if len(parts) == 1 else b"".join(parts)


async def _send(answered: Answer, send: Send) -> None:
    length = (b"content-length", str(len(answered.body)).encode())
    headers = [*answered.headers, length]
    await send({"type": "http.response.start", "status": answered.status, "headers": headers})
    await send({"type": "http.response.body", "body": answered.body})
