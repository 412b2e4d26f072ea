"""The functions' ways to DynamoDB and to Stripe, and all that goes wrong on them.

Every call gives way to whatever else is due, before it has its effect and after. It may be refused,
lost, answered too late to be heard, or have its effect long after its sender has given up; and its
sender may die on either side of it.
"""

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, Protocol

import stripe
from botocore.exceptions import ClientError, ConnectionClosedError, ReadTimeoutError

from local.stripe.core import StripeCore
from local.stripe.faults import LOCK_TIMEOUT, RATE_LIMIT_REASONS, Fault, FaultKind
from local.stripe.in_process import InProcessClient
from tests.simulation.draw import Faults
from tests.simulation.kernel import Kernel

ATTEMPTS = 3
"""Of botocore's standard mode, as `metering.adapters.dynamodb.client` sets it."""
FAILS_AGAIN = 0.25
"""How likely an attempt meets a fault after one that failed: what is wrong with a table lasts."""
READ_TIMEOUT = timedelta(seconds=5)
STRIPE_TIMEOUT = timedelta(seconds=10)
READS = frozenset({"GetItem", "BatchGetItem", "Query", "Scan", "TransactGetItems"})
_SILENT = (
    FaultKind.RATE_LIMITED,
    FaultKind.ERROR_BEFORE,
    FaultKind.ERROR_AFTER,
    FaultKind.UNAVAILABLE,
)
_THROTTLES = (
    "ThrottlingException",
    "ProvisionedThroughputExceededException",
    "InternalServerError",
    "RequestLimitExceeded",
)


class Tables(Protocol):
    """What answers for DynamoDB."""

    def execute(self, operation: str, params: Mapping[str, Any]) -> dict[str, Any]:
        """Do one call at once."""
        ...


class _UnansweredError(Exception):
    """A call's answer did not come in time; botocore sends it again by itself."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


class Network:
    """What both ways have in common: time, deaths and faults."""

    def __init__(self, kernel: Kernel, faults: Faults) -> None:
        self.kernel = kernel
        self.faults = faults

    def heal(self, faults: Faults) -> None:
        """From now on things go wrong so often."""
        self.faults = faults

    def met(self, fault: str, call: str) -> None:
        """Note that a fault was met at a call of a function."""
        running = self.kernel.running
        function = running.name.partition("#")[0] if running else "world"
        self.kernel.note(f"{fault}: {call}")
        self.kernel.saw(f"{fault} | {function} | {call}")

    def travel(self, call: str) -> None:
        """The way there: time passes, and the sender may die on it or be far too slow."""
        self.kernel.check_alive()
        if self.kernel.chance(self.faults.crash):
            self.met("crash before", call)
            self.kernel.die()
        if self.kernel.chance(self.faults.slow):
            self.met("slow", call)
            self.kernel.pause(timedelta(seconds=self.kernel.random.uniform(20, 400)))
        self.kernel.note(call)
        self.kernel.pause(self._latency())

    def arrive(self, call: str) -> None:
        """The effect is there; the sender may die before it knows.

        Time passes before its next call has an effect: others go on then.
        """
        if self.kernel.chance(self.faults.crash):
            self.met("crash after", call)
            self.kernel.die()

    def _latency(self) -> timedelta:
        return timedelta(milliseconds=1 + self.kernel.random.random() * self.faults.latency_ms)


class DynamoNetwork(Network):
    """A `call` for `tests.simulation.aws.client.Client`."""

    def __init__(self, kernel: Kernel, faults: Faults, tables: Tables) -> None:
        super().__init__(kernel, faults)
        self._tables = tables
        self._tokens = 0
        self.overheard: Callable[[str, Mapping[str, Any]], None] = lambda *_: None
        """Told of each call that a process makes: who it is, the kernel knows."""

    def call(self, operation: str, params: dict[str, Any]) -> dict[str, Any]:
        """One call of the client, with the repeats that botocore makes of itself."""
        if self.kernel.running is None:
            return self._tables.execute(operation, params)
        self.overheard(operation, params)
        if operation == "TransactWriteItems" and "ClientRequestToken" not in params:
            self._tokens += 1
            params = {**params, "ClientRequestToken": f"token-{self._tokens}"}
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return self._attempt(operation, params, is_again=attempt > 1)
            except _UnansweredError as unanswered:
                if attempt == ATTEMPTS:
                    raise unanswered.error from None
                self.kernel.pause(timedelta(seconds=self.kernel.random.random() * attempt))
        raise AssertionError("every attempt answers or raises")

    def _attempt(self, operation: str, params: dict[str, Any], *, is_again: bool) -> dict[str, Any]:
        self.travel(operation)
        faults, kernel = self.faults, self.kernel
        if kernel.chance(_lasting(faults.throttle, is_again=is_again)):
            self._throttle(operation, params)
        if kernel.chance(_lasting(faults.unanswered, is_again=is_again)):
            self._leave_unanswered(operation, params)
        answer = self._tables.execute(operation, params)
        self.arrive(operation)
        return answer

    def _throttle(self, operation: str, params: Mapping[str, Any]) -> None:
        if operation == "TransactWriteItems" and self.kernel.chance(0.5):
            self.met("collided", operation)
            raise _conflicted(len(params["TransactItems"]), self.kernel)
        self.met("throttled", operation)
        raise _UnansweredError(_client_error(self.kernel.random.choice(_THROTTLES), operation))

    def _leave_unanswered(self, operation: str, params: dict[str, Any]) -> None:
        kind = self.kernel.random.choice(("lost", "answer lost", "delayed"))
        self.met(kind, operation)
        if kind == "answer lost":
            self._tables.execute(operation, params)
        elif kind == "delayed" and operation not in READS:
            delay = timedelta(seconds=self.kernel.random.expovariate(1 / 8))
            self.kernel.later(delay, lambda: self._land(operation, params))
        if kind == "lost" and self.kernel.chance(0.5):
            raise _UnansweredError(ConnectionClosedError(endpoint_url="https://dynamodb"))
        self.kernel.pause(READ_TIMEOUT)
        raise _UnansweredError(ReadTimeoutError(endpoint_url="https://dynamodb"))

    def _land(self, operation: str, params: dict[str, Any]) -> None:
        """What was under way for long has its effect; nobody hears what came of it."""
        self.kernel.note(f"lands late: {operation}")
        try:
            self._tables.execute(operation, params)
        except ClientError as refusal:
            self.kernel.saw(f"late landing refused | {operation}")
            self.kernel.note(f"is refused: {refusal}")


def _lasting(rate: float, *, is_again: bool) -> float:
    """A fault's rate, higher where it was just met; one that is off stays off."""
    return max(rate, FAILS_AGAIN) if rate and is_again else rate


def _client_error(code: str, operation: str) -> ClientError:
    status = 500 if code == "InternalServerError" else 400
    error: Any = {
        "Error": {"Code": code, "Message": f"simulated {code}"},
        "ResponseMetadata": {"HTTPStatusCode": status},
    }
    return ClientError(error, operation)


def _conflicted(items: int, kernel: Kernel) -> ClientError:
    struck = kernel.random.randrange(items)
    reasons: list[Any] = [
        {"Code": "TransactionConflict" if index == struck else "None"} for index in range(items)
    ]
    error: Any = {
        "Error": {"Code": "TransactionCanceledException", "Message": "simulated conflict"},
        "CancellationReasons": reasons,
        "ResponseMetadata": {"HTTPStatusCode": 400},
    }
    return ClientError(error, "TransactWriteItems")


class StripeNetwork(Network, stripe.HTTPClient):
    """The SDK's way to the stand-in's core, for functions."""

    name = "simulated"

    def __init__(self, kernel: Kernel, faults: Faults, core: StripeCore) -> None:
        Network.__init__(self, kernel, faults)
        stripe.HTTPClient.__init__(self)
        self._core = core
        self._way = InProcessClient(core, self._wait)
        self.is_out = False
        """Whether Stripe is hardly there: half of what is sent has its effect, nothing answers."""

    def request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None,
        post_data: Any = None,
        *,
        _usage: list[str] | None = None,
    ) -> tuple[str, int, Mapping[str, str]]:
        """See `stripe.HTTPClient.request`."""
        if self.kernel.running is None:
            return self._way.request(method, url, headers, post_data)
        call = f"{method} {_path(url)}"
        self.travel(call)
        send = self._sender(method, url, headers, post_data)
        fault = self._fault(call)
        if fault is None:
            answer = send()
            self.arrive(call)
            return answer
        if fault == "delayed":
            self.kernel.later(self._long_after(), lambda: self._land(call, send))
            self._time_out()
        self._core.faults.add(fault)
        try:
            return send()
        finally:
            self._core.faults.clear()
            self.kernel.check_alive()

    def _sender(
        self, method: str, url: str, headers: Mapping[str, str] | None, post_data: Any
    ) -> Callable[[], tuple[str, int, Mapping[str, str]]]:
        return lambda: self._way.request(method, url, headers, post_data)

    def _fault(self, call: str) -> Any:
        random = self.kernel.random
        if self.is_out:
            kind = random.choice((FaultKind.DROP_BEFORE, FaultKind.DROP_AFTER))
            self.met(f"outage {kind}", call)
            return Fault(kind)
        if self.kernel.chance(self.faults.stripe_refuses):
            kind = random.choice(_SILENT)
            self.met(str(kind), call)
            return Fault(kind, reason=random.choice((*RATE_LIMIT_REASONS, LOCK_TIMEOUT)))
        if self.kernel.chance(self.faults.stripe_unanswered):
            lost = random.choice((FaultKind.DROP_BEFORE, FaultKind.DROP_AFTER, "delayed"))
            self.met(str(lost), call)
            return lost if lost == "delayed" else Fault(FaultKind(lost))
        return None

    def _long_after(self) -> timedelta:
        return timedelta(seconds=self.kernel.random.expovariate(1 / 20))

    def _time_out(self) -> None:
        self.kernel.pause(STRIPE_TIMEOUT)
        raise stripe.APIConnectionError("read timed out", should_retry=True)  # type: ignore[no-untyped-call]

    def _land(self, call: str, send: Callable[[], Any]) -> None:
        self.kernel.note(f"lands late: {call}")
        send()

    def _wait(self, seconds: float) -> None:
        self.kernel.pause(timedelta(seconds=seconds))

    def close(self) -> None:
        """Nothing to close."""


def _path(url: str) -> str:
    """The path without ids, so that calls of one kind have one name."""
    path = url.split("?", 1)[0].split("/", 3)[-1]
    return "/".join(
        "*" if any(one.isdigit() for one in part[2:]) else part for part in path.split("/")
    )
