"""The records of one shard that wait for delivery: filled by a reader, emptied batch by batch."""

import threading
from collections import deque
from collections.abc import Sequence

from local.stream_reader import Record

_LOOK_UP_S = 0.2
"""How often a blocked reader looks whether all stops."""


class Inbox:
    """A bounded queue that knows what is taken and not yet done with."""

    def __init__(self, capacity: int, stop: threading.Event) -> None:
        self._records: deque[Record] = deque()
        self._capacity = capacity
        self._stop = stop
        self._changed = threading.Condition()
        self._taken = 0
        self._is_closed = False

    def put(self, records: Sequence[Record]) -> None:
        """Add records, waiting while the inbox is full."""
        with self._changed:
            while len(self._records) >= self._capacity and not self._stop.is_set():
                self._changed.wait(_LOOK_UP_S)
            self._records.extend(records)
            self._changed.notify_all()

    def gather(self, size: int, *, window_s: float, idle_s: float) -> list[Record]:
        """At most `size` records: when so many are there, or `window_s` after the first.

        None after `idle_s` without any. The batch counts as pending until `done`.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._records or self._is_closed, idle_s):
                return []
            self._changed.wait_for(
                lambda: len(self._records) >= size or self._is_closed or self._stop.is_set(),
                window_s,
            )
            batch = [self._records.popleft() for _ in range(min(size, len(self._records)))]
            self._taken = len(batch)
            self._changed.notify_all()
            return batch

    def done(self) -> None:
        """The gathered batch is dealt with."""
        with self._changed:
            self._taken = 0

    def give_back(self, records: Sequence[Record]) -> None:
        """Put records in front of all others, in their order."""
        with self._changed:
            self._records.extendleft(reversed(records))

    def close(self) -> None:
        """No more will be put."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    @property
    def is_finished(self) -> bool:
        """Whether everything that will ever come is dealt with."""
        with self._changed:
            return self._is_closed and not self._records and not self._taken

    @property
    def pending(self) -> int:
        """Records that wait or are being delivered."""
        with self._changed:
            return len(self._records) + self._taken
