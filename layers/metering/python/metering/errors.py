"""The three kinds of trouble and how each is treated.

The caller's fault is a value (`Refusal`) or a `BadRequestError`, answered and never retried. The
world's fault is `RetryableError`, left to whoever redelivers; what nobody knows of Stripe is a
value of its own (`metering.delivery.OutcomeUnknown`). Our own fault is `InvariantBrokenError`: the
invocation fails loudly and nothing is acknowledged.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why one piece of input was not taken; `message` says what, where and how to fix it."""

    code: str
    message: str


class BadRequestError(Exception):
    """The request as a whole cannot be served; HTTP 4xx."""

    def __init__(self, message: str, *, status: int = 400, error: str = "Bad Request") -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.error = error


class NotFoundError(BadRequestError):
    """Nothing stands at that name for this tenant; HTTP 404."""

    def __init__(self, message: str) -> None:
        super().__init__(message, status=404, error="Not found")


class ConflictError(BadRequestError):
    """What stands there contradicts the request; HTTP 409."""

    def __init__(self, message: str) -> None:
        super().__init__(message, status=409, error="Conflict")


class RateLimitedError(Exception):
    """Too much for now from this tenant or address, and nothing of it was done; HTTP 429."""

    def __init__(self, message: str, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = max(1, retry_after_s)

    @property
    def body(self) -> dict[str, str]:
        """What the HTTP API answers."""
        return {"error": "Rate limit exceeded", "message": str(self)}

    @property
    def headers(self) -> dict[str, str]:
        """What it answers with."""
        return {"retry-after": str(self.retry_after_s)}


class RetryableError(Exception):
    """A service refused for now (throttled, busy, down); nothing happened, try again later."""


class InvariantBrokenError(Exception):
    """Our own bug or a broken set-up; never a matter of data."""
