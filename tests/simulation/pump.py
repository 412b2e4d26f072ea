"""Polls a mapping when something may be due there, and not in between: most of a world's time."""

from collections.abc import Callable
from datetime import datetime, timedelta

from tests.simulation.kernel import Kernel

POLL_EVERY = timedelta(milliseconds=250)


class Pump:
    """One mapping's poller; whoever changes the mapping wakes it."""

    def __init__(
        self,
        kernel: Kernel,
        due_at: Callable[[datetime], datetime | None],
        poll: Callable[[], None],
    ) -> None:
        self._kernel = kernel
        self._due_at = due_at
        self._poll = poll
        self._next: datetime | None = None

    def wake(self) -> None:
        """Find out when to poll next."""
        at = self._due_at(self._kernel.now)
        if at is None:
            return
        at = max(at, self._kernel.now) + POLL_EVERY * self._kernel.random.random()
        if self._next is None or at < self._next:
            self._next = at
            self._kernel.later(at - self._kernel.now, lambda: self._go(at))

    def _go(self, at: datetime) -> None:
        if self._next != at:
            return  # An earlier poll took its place.
        self._next = None
        self._poll()
        self.wake()
