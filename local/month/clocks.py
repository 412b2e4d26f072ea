"""Virtual time: one true clock that the simulation moves, and clocks that go wrong by some time."""

from datetime import datetime, timedelta


class VirtualClock:
    """The true time of a world; it moves only when told, and never back."""

    def __init__(self, now: datetime) -> None:
        self._now = now

    def now(self) -> datetime:
        """The present instant, aware, UTC."""
        return self._now

    def set(self, now: datetime) -> None:
        """It is that instant now."""
        assert now >= self._now, "time does not run back"
        self._now = now


class SkewedClock:
    """A machine's clock that is off by some time."""

    def __init__(self, true: VirtualClock) -> None:
        self._true = true
        self.off_by = timedelta()

    def now(self) -> datetime:
        """What this machine takes for the present instant."""
        return self._true.now() + self.off_by
