"""The stand-in's own time: the given clock's, moved or stopped by control calls."""

from collections.abc import Callable
from datetime import datetime, timedelta


class SettableClock:
    """A clock over another one.

    It runs along with the other clock at some distance, until it is set: then it stands.
    """

    def __init__(self, base: Callable[[], datetime]) -> None:
        self._base = base
        self._offset = timedelta()
        self._stands_at: datetime | None = None

    def now(self) -> datetime:
        """The present instant, aware, UTC."""
        return self._stands_at or self._base() + self._offset

    def base_now(self) -> datetime:
        """The instant that the clock below tells, whatever this one was set to."""
        return self._base()

    @property
    def stands(self) -> bool:
        """Whether it only moves when told to."""
        return self._stands_at is not None

    @property
    def offset(self) -> timedelta:
        """How far it runs ahead of the clock below."""
        return self._offset

    @property
    def ahead(self) -> timedelta:
        """How far its time is ahead of the clock below, running or standing."""
        return self._offset if self._stands_at is None else self._stands_at - self._base()

    def stand_at(self, instant: datetime) -> None:
        """Stop at an instant."""
        self._stands_at = instant

    def advance(self, by: timedelta) -> None:
        """Move, standing or running."""
        if self._stands_at is None:
            self._offset += by
        else:
            self._stands_at += by

    def run(self) -> None:
        """Run on from where it is."""
        self._offset = self.now() - self._base()
        self._stands_at = None

    def follow(self) -> None:
        """Tell the same time as the clock below again."""
        self._offset = timedelta()
        self._stands_at = None

    def restore(self, offset: timedelta, stands_at: datetime | None) -> None:
        """Take up a position noted earlier."""
        self._offset = offset
        self._stands_at = stands_at
