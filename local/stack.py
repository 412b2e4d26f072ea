"""The whole local stack: DynamoDB Local, moto, the Stripe stand-in and the runner, as one thing.

`with running_stack(free_ports=True) as stack:` for tests and the demo; `make dev` for people.
"""

import fcntl
import json
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from local import dynamodb_local, webhooks
from local.children import Children
from local.dynamodb_local import LocalServiceError
from local.ports import (
    LOOPBACK,
    free_ports,
    holder_of,
    is_free,
    reach_loopback_directly,
    wait_until_listening,
)
from local.stripe.control import StandIn

if TYPE_CHECKING:
    import psutil

API_PORT = 3000
STRIPE_PORT = 12111
READY_WITHIN_S = 60.0
"""It takes 4 s on an idle machine; this is when we stop hoping on a busy one."""
_loopback = urllib.request.build_opener(urllib.request.ProxyHandler({}))
DEMO_TENANT = "demo"
DEMO_CUSTOMER = "cus_ada"
"""A ref that starts with `cus_` is its own Stripe customer."""


@dataclass(frozen=True, slots=True)
class StackSettings:
    """How to run the stack."""

    api_port: int = API_PORT
    stripe_port: int = STRIPE_PORT
    free_ports: bool = False
    """Take whatever ports are free instead of those two."""
    data: Path | None = None
    """Keep everything but the queues' contents in this folder; None keeps nothing."""
    virtual_shards: int = 1
    auth: bool = False
    summary_delay_s: float | None = None
    """How long the Stripe stand-in takes to sum up; None is its own default."""
    shows_runner: bool = False
    """Let the runner's log through to this terminal."""


class Stack:
    """A running stack: where things are, and the runner's control routes."""

    def __init__(self, children: Children, ports: "_Ports") -> None:
        self._children = children
        self.api_url = f"http://{LOOPBACK}:{ports.api}"
        self.stripe_url = f"http://{LOOPBACK}:{ports.stripe}"
        self.dynamodb_endpoint = dynamodb_local.endpoint(ports.dynamodb)
        self.sqs_endpoint = f"http://{LOOPBACK}:{ports.sqs}"

    @property
    def queue_url(self) -> str:
        """Where usage events may be sent over SQS."""
        return str(self.status()["queue_urls"]["ingest_queue"])

    def status(self) -> dict[str, Any]:
        """The state of streams, queues and schedules."""
        status: dict[str, Any] = self._control("GET", "status")
        return status

    def run(self, function: str, **payload: Any) -> Any:
        """Run a scheduled function now; its answer."""
        return self._control("POST", f"run/{function}", payload)

    def now(self) -> datetime:
        """The functions' present instant; the Stripe stand-in has the same."""
        return datetime.fromisoformat(self._control("GET", "time")["now"])

    def advance(self, by: timedelta) -> datetime:
        """Move time on, for the functions and the Stripe stand-in; the new instant.

        Scheduled functions run before or after it, none meanwhile.
        """
        moved = self._control("POST", "time", {"advance_s": by.total_seconds()})
        return datetime.fromisoformat(moved["now"])

    def advance_to(self, instant: datetime) -> datetime:
        """Move time on until an instant, or a moment more; the new instant."""
        moved = self._control("POST", "time", {"until": instant.isoformat()})
        return datetime.fromisoformat(moved["now"])

    def drain(self, *, timeout_s: float = 60.0) -> None:
        """Wait until queue and stream are empty and all is counted.

        Raises:
            LocalServiceError: they are not, after `timeout_s`.
        """
        answer = self._control("POST", "drain", {"timeout_s": timeout_s}, timeout_s + 10)
        if not answer["drained"]:
            raise LocalServiceError(f"not drained after {timeout_s} s: {json.dumps(answer)}")

    def chaos(self, function: str, fault: str, **figures: Any) -> None:
        """Make a fault; see `local.control` and `local.chaos`."""
        self._control("POST", f"chaos/{function}/{fault}", figures)

    def _control(
        self,
        method: str,
        route: str,
        payload: Mapping[str, Any] | None = None,
        timeout_s: float = 900.0,
    ) -> Any:
        url = f"{self.api_url}/_local/{route}"
        body = None if payload is None else json.dumps(payload).encode()
        request = urllib.request.Request(url, body, method=method)  # noqa: S310 (our own loopback URL)
        try:
            with _loopback.open(request, timeout=timeout_s) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as refused:
            with refused:
                said = refused.read().decode(errors="replace")
            raise LocalServiceError(f"{method} {url} answered {refused.code}: {said}") from None

    def wait(self) -> None:
        """Return never, unless a process of the stack ends by itself.

        Raises:
            LocalServiceError: one did; with the last it said.
        """
        while not self._children.dead():
            time.sleep(0.5)
        raise LocalServiceError(_obituary(self._children))

    def processes(self) -> dict[str, "psutil.Process"]:
        """The processes by name (`dynamodb`, `moto`, `stripe`, `runner`), to measure them."""
        return self._children.processes()

    def unreadiness(self) -> str | None:
        """Why the stack is not ready; None when `GET /health/ready` answers 200.

        While there is no `api` function to ask, an open port has to do.
        """
        try:
            with _loopback.open(f"{self.api_url}/health/ready", timeout=5):
                return None
        except urllib.error.HTTPError as refused:
            with refused:
                said = refused.read().decode(errors="replace")
            missing = "api" in self.status()["missing_functions"]
            return None if missing else f"/health/ready answers {refused.code}: {said}"
        except OSError as unreachable:
            return f"{self.api_url} does not answer: {unreachable}"


@contextmanager
def running_stack(settings: StackSettings | None = None, **overrides: Any) -> Iterator[Stack]:
    """A stack that is ready while the block runs; nothing of it is left afterwards.

    `overrides` are fields of `StackSettings`.

    Raises:
        LocalServiceError: a port is taken, something is not installed or did not come up.
    """
    wanted = settings or StackSettings(**overrides)
    reach_loopback_directly()
    with ExitStack() as held:
        logs = Path(held.enter_context(tempfile.TemporaryDirectory(prefix="stripemeter-")))
        if wanted.data is not None:
            held.enter_context(_owned(wanted.data))
        ports = _ports(wanted)
        children = held.enter_context(Children(logs))
        stack = Stack(children, ports)
        _start_services(stack, children, wanted)
        _start_runner(stack, children, wanted)
        yield stack


class _Ports(NamedTuple):
    dynamodb: int
    sqs: int
    api: int
    stripe: int


def _ports(settings: StackSettings) -> _Ports:
    dynamodb, sqs, api, stripe = free_ports(4)
    if settings.free_ports:
        return _Ports(dynamodb, sqs, api, stripe)
    for port, flag in ((settings.api_port, "--port"), (settings.stripe_port, "--stripe-port")):
        if not is_free(port):
            raise LocalServiceError(
                f"port {port} is taken by {holder_of(port)}; stop that, take another with {flag}, "
                "or start with --free-ports"
            )
    return _Ports(dynamodb, sqs, settings.api_port, settings.stripe_port)


@contextmanager
def _owned(data: Path) -> Iterator[None]:
    """Keep a data folder to ourselves.

    Raises:
        LocalServiceError: another stack uses it.
    """
    data.mkdir(parents=True, exist_ok=True)
    with (data / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LocalServiceError(f"another stack uses {data}; stop it or take another") from None
        yield


def _start_services(stack: Stack, children: Children, settings: StackSettings) -> None:
    """All but the runner, at once, since they do not need each other."""
    data = settings.data
    dynamodb_data = stripe_data = None
    if data is not None:
        dynamodb_data, stripe_data = data / "dynamodb", data / "stripe"
        dynamodb_data.mkdir(exist_ok=True)
        stripe_data.mkdir(exist_ok=True)
    delay = settings.summary_delay_s
    ports = {
        "dynamodb": _port(stack.dynamodb_endpoint),
        "moto": _port(stack.sqs_endpoint),
        "stripe": _port(stack.stripe_url),
    }
    children.start("dynamodb", dynamodb_local.command(ports["dynamodb"], data=dynamodb_data))
    children.start("moto", [*_python("local.moto_server"), "--port", str(ports["moto"])])
    children.start(
        "stripe",
        [*_python("local.stripe"), "--port", str(ports["stripe"])]
        + (["--data", str(stripe_data.resolve())] if stripe_data else [])
        + ([] if delay is None else ["--summary-delay-s", str(delay)]),
    )
    for name, port in ports.items():
        if not _comes_up(port, children):
            raise _did_not_start(name, f"nothing listens on port {port} in time", children)


def _start_runner(stack: Stack, children: Children, settings: StackSettings) -> None:
    options = ["--port", str(_port(stack.api_url)), "--dynamodb", stack.dynamodb_endpoint]
    options += ["--sqs", stack.sqs_endpoint, "--stripe", stack.stripe_url]
    options += ["--virtual-shards", str(settings.virtual_shards)]
    secrets = webhooks.register(stack.stripe_url, stack.api_url)
    options += ["--webhook-secrets", ",".join(secrets)]
    with StandIn(stack.stripe_url) as stand_in:  # Its folder may know a time to come.
        options += ["--ahead-s", str(stand_in.ahead().total_seconds())]
    options += ["--auth"] if settings.auth else []
    options += ["--data", str(settings.data.resolve())] if settings.data else []
    children.start("runner", [*_python("local.runner"), *options], shows=settings.shows_runner)
    deadline = time.monotonic() + READY_WITHIN_S
    while reason := stack.unreadiness():
        if children.dead() or time.monotonic() > deadline:
            raise _did_not_start("runner", reason, children)
        time.sleep(0.1)


def _python(module: str) -> list[str]:
    return [sys.executable, "-m", module]


def _port(url: str) -> int:
    return int(url.rpartition(":")[2])


def _comes_up(port: int, children: Children) -> bool:
    deadline = time.monotonic() + dynamodb_local.START_WITHIN_S
    while not wait_until_listening(port, within_s=0.2):
        if children.dead() or time.monotonic() > deadline:
            return False
    return True


def _obituary(children: Children) -> str:
    return "\n".join(f"{child.name} ended:\n{child.last_words()}" for child in children.dead())


def _did_not_start(name: str, reason: str, children: Children) -> LocalServiceError:
    return LocalServiceError(f"{name} did not start: {_obituary(children) or reason}")
