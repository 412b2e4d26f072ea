"""Values kept for a short while, so that settings and keys are not read for every event."""

from collections.abc import Callable, Hashable
from datetime import datetime, timedelta
from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from metering.ports import Clock

ENTRIES_MAX = 10_000
_NO_TIME = timedelta(0)


class ShortCache[K: Hashable, V]:
    """What `load` answered, for at most `lifetime`; "nothing there" is an answer like any other.

    Bounded, so that guessed names cannot fill the memory; safe for threads. Two threads that miss
    at once both load, which costs a read and changes nothing.
    """

    def __init__(
        self, clock: "Clock", lifetime: timedelta, *, entries_max: int = ENTRIES_MAX
    ) -> None:
        self._clock = clock
        self._lifetime = lifetime
        self._entries_max = entries_max
        self._entries: dict[K, tuple[datetime, V]] = {}
        self._lock = Lock()

    def get(self, key: K, load: Callable[[], V]) -> V:
        """The kept value, or what `load` answers now."""
        now = self._clock.now()
        entry = self._entries.get(key)
        if entry is not None and self._is_fresh(entry[0], now):
            return entry[1]
        value = load()
        self._keep({key: value}, now)
        return value

    def get_many(self, keys: set[K], load: Callable[[set[K]], dict[K, V]]) -> dict[K, V]:
        """The values of all keys; `load` is asked once, for those that are not kept."""
        now = self._clock.now()
        kept = {key: self._entries.get(key) for key in keys}
        found = {
            key: entry[1] for key, entry in kept.items() if entry and self._is_fresh(entry[0], now)
        }
        missing = keys - found.keys()
        if missing:
            loaded = load(missing)
            self._keep(loaded, now)
            found |= loaded
        return found

    def forget(self, key: K) -> None:
        """Ask anew next time: this process has just changed what stands there."""
        with self._lock:
            self._entries.pop(key, None)

    def _is_fresh(self, loaded_at: datetime, now: datetime) -> bool:
        # A clock set back must not keep a value alive.
        return _NO_TIME <= now - loaded_at < self._lifetime

    def _keep(self, values: dict[K, V], now: datetime) -> None:
        if self._lifetime <= _NO_TIME:
            return
        with self._lock:
            for key, value in values.items():
                self._entries.pop(key, None)
                self._entries[key] = (now, value)
            while len(self._entries) > self._entries_max:
                del self._entries[next(iter(self._entries))]
