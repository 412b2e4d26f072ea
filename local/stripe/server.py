"""The stand-in on a port: a thin ASGI application over the core, and two ways to run it.

All requests are answered one after another on one event loop, so the core needs no locks.
"""

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from secrets import token_hex
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from local.ports import LOOPBACK
from local.stripe.carrier import Carrier
from local.stripe.control import StandIn
from local.stripe.controls import PREFIX, Controls
from local.stripe.core import StripeCore
from local.stripe.journal import Journal, open_journal
from local.stripe.refusals import RefusedError
from local.stripe.state import SUMMARY_DELAY_S, Settings
from local.stripe.wire import Request, Response, encode
from metering.adapters.clock import SystemClock

PORT = 12111
STOP_WITHIN_S = 5
START_WITHIN_S = 10.0
BODY_MAX = 1_048_576
BACKLOG = 1_024
_DROP = "local.drop"

type Scope = Mapping[str, Any]
type Message = dict[str, Any]
type Receive = Callable[[], Awaitable[Message]]
type Send = Callable[[Message], Awaitable[None]]


class PortTakenError(Exception):
    """The port is not free; the message says what to do."""


class _DroppableProtocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol, handing the application a way to drop its connection."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {_DROP: {"now": self.transport.abort}}


class App:
    """The ASGI application."""

    def __init__(self, core: StripeCore, journal: Journal | None = None) -> None:
        self.core = core
        self.journal = journal
        self._controls = Controls(core)
        self._carrier: Carrier | None = None
        self._carrying: asyncio.Task[None] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        request = await _request(scope, receive)
        response = self._handle(request) if request else _TOO_LARGE
        if response.delay_s:
            await asyncio.sleep(response.delay_s)
            self.core.delivered(response)
        if response.dropped:
            await _drop(scope, receive)
        else:
            await _send(send, response)

    def _handle(self, request: Request) -> Response:
        handler = self._controls if request.path.startswith(PREFIX) else self.core
        response = handler.handle(request)
        self._persist()
        self._carry()
        return response

    def _carry(self) -> None:
        """Let the webhooks of a request be sent; uvicorn's end cancels what sends them."""
        if self._carrier is None:
            self._carrier = Carrier(self.core, self._persist)
            self._carrying = asyncio.create_task(self._carrier.run())
        if self._carrying is not None and self._carrying.done():
            self._carrying.result()  # it only ends by an error, which everybody shall see
        self._carrier.wake()

    def _persist(self) -> None:
        """What was changed is on disk before anybody is answered."""
        changes = self.core.world.changes
        if self.journal is not None and changes:
            self.journal.write(changes)
            changes.clear()


_TOO_LARGE = Response(
    status=413,
    headers={"Content-Type": "application/json", "Connection": "close"},
    body=encode(RefusedError(f"The body is larger than {BODY_MAX} bytes.").envelope()),
)


async def _request(scope: Scope, receive: Receive) -> Request | None:
    """The whole request, None when its body is too large."""
    body = b""
    more = True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > BODY_MAX:
            return None
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    query = scope["query_string"].decode("latin-1")
    path = f"{scope['path']}?{query}" if query else scope["path"]
    return Request(scope["method"], path, headers, body)


async def _send(send: Send, response: Response) -> None:
    headers = [(name.encode(), value.encode()) for name, value in response.headers.items()]
    headers.append((b"Content-Length", b"%d" % len(response.body)))
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": response.body})


async def _drop(scope: Scope, receive: Receive) -> None:
    scope["extensions"][_DROP]["now"]()
    # Until uvicorn has seen it: it would answer 500 for an application that says nothing.
    while (await receive())["type"] != "http.disconnect":
        pass


# --- running ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Options:
    port: int
    data: Path | None
    settings: Settings
    clock: Callable[[], datetime]


@contextmanager
def _app(options: _Options) -> Iterator[App]:
    # No two runs give the same identities, as no two Stripe accounts do.
    core = StripeCore(options.clock, settings=options.settings, seed=token_hex(8))
    journal = open_journal(options.data, core.world) if options.data else None
    try:
        yield App(core, journal)
    finally:
        if journal:
            journal.close()


def _server(app: App) -> uvicorn.Server:
    return uvicorn.Server(
        uvicorn.Config(
            app,
            http=_DroppableProtocol,
            loop="uvloop",
            ws="none",
            lifespan="off",
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=STOP_WITHIN_S,
        )
    )


@contextmanager
def _listening(port: int) -> Iterator[socket.socket]:
    """A socket that takes connections from now on; whoever reads our URL can use it at once."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((LOOPBACK, port))
        except OSError as error:
            raise PortTakenError(
                f"port {port} cannot be used ({error.strerror}); choose another with --port, or 0"
            ) from error
        listener.listen(BACKLOG)
        yield listener


def _url(listener: socket.socket) -> str:
    return f"http://{LOOPBACK}:{listener.getsockname()[1]}"


def serve(
    port: int = PORT,
    *,
    data: Path | None = None,
    summary_delay_s: float = SUMMARY_DELAY_S,
    announce: Callable[[str], None] = print,
) -> None:
    """Run until SIGINT or SIGTERM; port 0 takes a free one, `data` keeps the state in a folder.

    Raises:
        PortTakenError: somebody else listens on the port.
    """
    options = _Options(port, data, Settings(summary_delay_s=summary_delay_s), SystemClock().now)
    with _listening(port) as listener, _app(options) as app:
        kept = f"state in {data}" if data else "state in memory"
        announce(f"Stripe stand-in at {_url(listener)} ({kept})")
        # uvicorn raises what stopped it again, after it has stopped in good order.
        with suppress(KeyboardInterrupt):
            _server(app).run(sockets=[listener])


@contextmanager
def running(
    *,
    port: int = 0,
    data: Path | None = None,
    settings: Settings | None = None,
    clock: Callable[[], datetime] | None = None,
) -> Iterator[StandIn]:
    """Run in a thread of this process, on a free port, and hand out the control client."""
    options = _Options(port, data, settings or Settings(), clock or SystemClock().now)
    with _listening(port) as listener, _app(options) as app:
        server = _server(app)
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        try:
            _wait_until_up(server, thread)
            with StandIn(_url(listener)) as stand_in:
                yield stand_in
        finally:
            server.should_exit = True
            thread.join(START_WITHIN_S)


def _wait_until_up(server: uvicorn.Server, thread: threading.Thread) -> None:
    pause = threading.Event()
    for _ in range(int(START_WITHIN_S / 0.01)):
        if server.started or not thread.is_alive():
            break
        pause.wait(0.01)
    if not server.started:
        raise RuntimeError("the Stripe stand-in did not start")
