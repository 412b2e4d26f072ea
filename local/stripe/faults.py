"""Trouble on order: what goes wrong with which of the next requests."""

from dataclasses import dataclass, replace
from enum import StrEnum
from fnmatch import fnmatchcase

from local.stripe import refusals
from local.stripe.refusals import RefusedError

LOCK_TIMEOUT = "lock-timeout"
RATE_LIMIT_REASONS = (
    "global-rate",
    "global-concurrency",
    "endpoint-rate",
    "endpoint-concurrency",
    "resource-specific",
)


class FaultKind(StrEnum):
    """What can go wrong, and whether the request has its effect."""

    DROP_BEFORE = "drop_before"
    """The connection closes; no effect."""
    DROP_AFTER = "drop_after"
    """The connection closes after the effect."""
    DELAY = "delay"
    """The effect comes at once, the answer late."""
    RATE_LIMITED = "rate_limited"
    """429 with a reason, or a lock timeout; no effect, not stored."""
    ERROR_BEFORE = "error_before"
    """500 without an effect, stored under the idempotency key."""
    ERROR_AFTER = "error_after"
    """500 after the effect, stored under the idempotency key."""
    UNAVAILABLE = "unavailable"
    """503; no effect, not stored."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One entry of the plan; `method` and `path` (with `*`) say for which requests."""

    kind: FaultKind
    times: int | None = 1
    """How many requests it hits; None until it is cleared."""
    method: str = "*"
    path: str = "*"
    delay_s: float = 0.0
    reason: str = "global-rate"

    def hits(self, method: str, path: str) -> bool:
        """Whether it is meant for a request."""
        return fnmatchcase(method, self.method) and fnmatchcase(path, self.path)

    def refusal(self) -> RefusedError | None:
        """The error that takes the place of the effect, if it is one."""
        match self.kind:
            case FaultKind.RATE_LIMITED if self.reason == LOCK_TIMEOUT:
                return refusals.lock_timeout()
            case FaultKind.RATE_LIMITED:
                return refusals.rate_limited(self.reason)
            case FaultKind.UNAVAILABLE:
                return refusals.unavailable()
            case _:
                return None


class WebhookFaultKind(StrEnum):
    """What can go wrong on the way to a webhook endpoint."""

    DUPLICATE = "duplicate"
    """It is delivered twice."""
    LOSE = "lose"
    """It is never delivered, and Stripe does not know."""
    LATE = "late"
    """It is delivered some time later; others overtake it."""
    WRONG_SIGNATURE = "wrong_signature"
    """It is signed with another secret."""


@dataclass(frozen=True, slots=True)
class WebhookFault:
    """A fault of deliveries; `type` and `destination` (with `*`) say of which."""

    kind: WebhookFaultKind
    times: int | None = 1
    """How many attempts it hits; None until it is cleared."""
    type: str = "*"
    destination: str = "*"
    delay_s: float = 60.0
    """How much later a late one comes, by the stand-in's clock."""

    def hits(self, event_type: str, destination: str) -> bool:
        """Whether it is meant for an attempt."""
        return fnmatchcase(event_type, self.type) and fnmatchcase(destination, self.destination)


class FaultPlan[F: (Fault, WebhookFault)]:
    """The faults still to come; each request or attempt meets the first that is meant for it."""

    def __init__(self) -> None:
        self._faults: list[F] = []

    def add(self, fault: F) -> None:
        """Plan one more, after those already planned."""
        self._faults.append(fault)

    def clear(self) -> None:
        """Let everything go well again."""
        self._faults.clear()

    def planned(self) -> tuple[F, ...]:
        """What is still to come."""
        return tuple(self._faults)

    def take(self, what: str, where: str) -> F | None:
        """The fault that hits a request (method, path) or attempt (type, destination), used up."""
        for index, fault in enumerate(self._faults):
            if fault.hits(what, where):
                self._use(index, fault)
                return fault
        return None

    def _use(self, index: int, fault: F) -> None:
        if fault.times is None:
            return
        if fault.times > 1:
            self._faults[index] = replace(fault, times=fault.times - 1)
        else:
            del self._faults[index]
