"""Holds the calls of this process to what Stripe takes a second."""

from collections.abc import Callable
from threading import Lock

from metering.config import Config
from metering.push import Mode
from metering.rate import TokenBucket

SLEEP_MAX_S = 1.0
"""Who would have to wait longer is sent away: its push comes back with the next run."""
SANDBOX_LIMIT = 25
"""Stripe's own sandboxes take so many calls of all kinds a second."""


class CallRates:
    """One token bucket per account and mode, shared by the process's threads."""

    def __init__(
        self,
        limit_of: Callable[[str, Mode], int],
        *,
        seconds: Callable[[], float],
        sleep: Callable[[float], None],
    ) -> None:
        self._limit_of = limit_of
        self._seconds = seconds
        self._sleep = sleep
        self._buckets: dict[tuple[str, Mode], TokenBucket] = {}
        self._lock = Lock()

    def admit(self, account: str, mode: Mode) -> bool:
        """Wait for this call's turn; False when that would take too long."""
        wait_s = self._reserve(account, mode)
        if wait_s is None:
            return False
        if wait_s > 0:
            self._sleep(wait_s)
        return True

    def _reserve(self, account: str, mode: Mode) -> float | None:
        with self._lock:
            now = self._seconds()
            bucket = self._buckets.get((account, mode))
            if bucket is None:
                bucket = TokenBucket.full(self._limit_of(account, mode), now)
            after, wait_s = bucket.take(now)
            if wait_s > SLEEP_MAX_S:
                return None
            self._buckets[account, mode] = after
            return wait_s


def limits_of(config: Config) -> Callable[[str, Mode], int]:
    """How many meter events an account takes a second."""

    def limit_of(account: str, mode: Mode) -> int:
        limit = config.stripe_calls_a_second
        if account:
            limit = min(limit, config.stripe_connected_calls_a_second)
        is_sandbox = mode is Mode.TEST and config.stripe_api_base is None
        return min(limit, SANDBOX_LIMIT) if is_sandbox else limit

    return limit_of
