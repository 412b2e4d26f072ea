"""Time that can be moved forward: the functions' and the Stripe stand-in's, by the same step.

A month's end is a call away then. Real time goes on from wherever both were moved to.
"""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, ExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

from local.stripe.clock import SettableClock
from local.stripe.control import StandIn

AT_ONCE_MAX = timedelta(days=400)
"""More than the longest billing period; the stand-in lives through every day of it."""


class TimeTravel:
    """The runner's clock and the stand-in's, moved together.

    `quiet` gives what keeps a scheduled function from running meanwhile: no run begins in one time
    and ends in another.
    """

    def __init__(
        self,
        clock: SettableClock,
        stripe_url: str,
        quiet: Callable[[], Iterable[AbstractContextManager[object]]],
    ) -> None:
        self._clock = clock
        self._stripe_url = stripe_url
        self._quiet = quiet

    def status(self) -> dict[str, Any]:
        """The present instant, and how far it is ahead of the machine's."""
        return {"now": self._clock.now(), "ahead_s": self._clock.ahead.total_seconds()}

    def move(self, advance_s: float | None = None, until: str | None = None) -> dict[str, Any]:
        """Move both clocks on by so many seconds, or until an instant; where they stand then.

        Raises:
            ValueError: that leads backward, too far, or nowhere.
        """
        with ExitStack() as held:
            for one in self._quiet():
                held.enter_context(one)
            self._advance(self._step(advance_s, until))
        return self.status()

    def _step(self, advance_s: float | None, until: str | None) -> timedelta:
        if (advance_s is None) == (until is None):
            raise ValueError("give either advance_s, in seconds, or until, an instant")
        if until is not None:
            step = _instant(until) - self._clock.now()
        else:
            step = timedelta(seconds=_seconds(advance_s))
        if step < timedelta():
            raise ValueError(f"time moves only forward, and it is {self._clock.now():%FT%TZ}")
        if step > AT_ONCE_MAX:
            raise ValueError(f"move at most {AT_ONCE_MAX.days} days at once")
        return step

    def _advance(self, step: timedelta) -> None:
        """The stand-in comes last: the webhooks that it sends for it must not be of the future."""
        ahead = self._clock.ahead
        self._clock.advance(step)
        try:
            with StandIn(self._stripe_url) as stand_in:
                stand_in.advance(step)
        except Exception:
            self._clock.restore(ahead, None)
            raise


def _seconds(given: object) -> float:
    if isinstance(given, bool) or not isinstance(given, int | float):
        raise ValueError("advance_s is a number of seconds")  # noqa: TRY004 (a caller's mistake)
    if not abs(given) <= AT_ONCE_MAX.total_seconds():
        raise ValueError(f"move at most {AT_ONCE_MAX.days} days at once")
    return float(given)


def _instant(text: str) -> datetime:
    instant = datetime.fromisoformat(text)
    if instant.tzinfo is None:
        raise ValueError("until needs an offset, such as 2026-12-01T00:00:05Z")
    return instant.astimezone(UTC)
