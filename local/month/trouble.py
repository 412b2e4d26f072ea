"""What goes wrong: Stripe's answers, and processes that die between any two of their calls.

Whether a request meets a fault is a function of the seed and of the request alone, not of the order
in which threads come to it, so that a seed replays the same faults.
"""

import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from threading import Lock
from typing import TYPE_CHECKING, Any

import stripe

from local.stripe.core import StripeCore
from local.stripe.faults import LOCK_TIMEOUT, RATE_LIMIT_REASONS, Fault, FaultKind
from local.stripe.in_process import InProcessClient

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient

CALLS_MAX = 60
"""A run that is to die does so at one of its first so many calls, if it makes so many."""
_KINDS = (
    FaultKind.DROP_BEFORE,
    FaultKind.DROP_AFTER,
    FaultKind.RATE_LIMITED,
    FaultKind.ERROR_BEFORE,
    FaultKind.ERROR_AFTER,
    FaultKind.UNAVAILABLE,
)


class ProcessDiedError(BaseException):
    """The process is gone; no `except Exception` of a handler sees it."""


@dataclass(frozen=True, slots=True)
class Death:
    """At which of its calls, from 1, a process dies; `answered`: after the call's effect."""

    call: int
    answered: bool


class Fate:
    """Counts the calls of the process that runs now, to DynamoDB and to Stripe, until it dies.

    A dead process does nothing any more: all its later calls die, too.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._death: Death | None = None
        self._calls = 0

    def watch(self, client: "DynamoDBClient") -> None:
        """Count a client's calls from now on."""
        client.meta.events.register("before-call.dynamodb", self.before_call)
        client.meta.events.register("after-call.dynamodb", self.after_call)

    def doom(self, death: Death | None) -> None:
        """A new process runs, and it will die so; None: it will not."""
        with self._lock:
            self._death, self._calls = death, 0

    def before_call(self, **_: Any) -> None:
        """A call is about to leave."""
        with self._lock:
            self._calls += 1
            death = self._death
            reached = self._calls - (death.call if death else 0)
        if death is not None and (reached > 0 or (reached == 0 and not death.answered)):
            raise ProcessDiedError

    def after_call(self, **_: Any) -> None:
        """A call has had its effect."""
        with self._lock:
            died = self._death is not None and self._calls >= self._death.call
        if died:
            raise ProcessDiedError


class TroubledStripe(stripe.HTTPClient):
    """The way of the functions' requests to Stripe; people and tests have a better one."""

    name = "troubled"

    def __init__(self, core: StripeCore, fate: Fate, seed: int) -> None:
        super().__init__()
        self._core = core
        self._fate = fate
        self._seed = seed
        self._way = InProcessClient(core)
        self._lock = Lock()
        self._seen: Counter[str] = Counter()
        self.rate = 0.0
        """Which part of the requests meets a fault."""
        self.is_out = False
        """Whether Stripe is not there at all."""
        self.met: Counter[str] = Counter()
        """How many requests met which fault."""

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
        self._fate.before_call()
        with self._lock:  # The core takes one request at a time.
            fault = self._fault(method, url, post_data)
            if fault is not None:
                self.met["stripe outage" if self.is_out else f"stripe {fault.kind}"] += 1
                self._core.faults.add(fault)
            try:
                answer = self._way.request(method, url, headers, post_data)
            finally:
                self._core.faults.clear()
        self._fate.after_call()
        return answer

    def _fault(self, method: str, url: str, post_data: Any) -> Fault | None:
        if self.is_out:
            return Fault(FaultKind.DROP_BEFORE)
        if not self.rate:
            return None
        about = f"{method} {url} {post_data}"
        self._seen[about] += 1
        text = f"{self._seed} {about} {self._seen[about]}"
        draw = random.Random(blake2b(text.encode()).digest())  # noqa: S311 (a replay, no secret)
        if draw.random() >= self.rate:
            return None
        kind = draw.choice(_KINDS)
        return Fault(kind, reason=draw.choice((*RATE_LIMIT_REASONS, LOCK_TIMEOUT)))

    def close(self) -> None:
        """Nothing to close."""
