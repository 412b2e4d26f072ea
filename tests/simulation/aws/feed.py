"""One shard's records on their way to a function: the checkpoint, the batches, the window.

Knows no faults and no answers; `mapping` says what became of a batch.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from typing import Any

from infra.functions import TableStream
from local.tumbling import TumblingWindow, window_start
from tests.simulation.aws.stream import Entry, Shard

EVENT_NAMES = frozenset({"INSERT"})
"""The filter; other records cost no invocation."""
_EVER = datetime.min.replace(tzinfo=UTC)


class Feed:
    """A shard's records, or with several at once the part of some items, on their way in order.

    `edges` are places where batches must end, the nearest last: what failures cut.
    """

    def __init__(self, shard: Shard, part: tuple[int, int], window_s: int) -> None:
        self.shard = shard
        self.entries: list[Entry] = []
        self.done = 0
        """The checkpoint: all before it is delivered, given up or expired."""
        self.edges: list[int] = []
        self.attempts = 0
        self.not_before = _EVER
        self.at_work: object | None = None
        """The invocation whose answer moves the checkpoint."""
        self.is_rewound = False
        self.window = TumblingWindow(window_s)
        self.ends_early = False
        self._part = part
        self._read = 0
        self._furthest = 0
        self._window_s = window_s
        self._window_ends_at = _EVER

    # --- records ---

    def read(self) -> None:
        """Take what the shard has more."""
        fresh = self.shard.entries[self._read :]
        if fresh:
            number, parts = self._part
            self._read += len(fresh)
            self.entries += [
                entry
                for entry in fresh
                if entry.record["eventName"] in EVENT_NAMES and entry.item % parts == number
            ]

    def expire(self, horizon: datetime) -> list[Entry]:
        """Step over what is too old; those among it that were never done."""
        expired = takewhile(lambda entry: entry.created_at <= horizon, self._left())
        until = self.done + sum(1 for _ in expired)
        lost = self.entries[max(self.done, self._furthest) : until]
        if until > self.done:
            self.advance(until)
        return lost

    def _left(self) -> Iterator[Entry]:
        return (self.entries[place] for place in range(self.done, len(self.entries)))

    def advance(self, done: int) -> None:
        """Move the checkpoint."""
        if done > self.done:
            self.attempts = 0
        self.done = done
        self._furthest = max(done, self._furthest)
        while self.edges and self.edges[-1] <= done:
            self.edges.pop()

    def rewind(self, by: int) -> int:
        """Move the checkpoint back, under a new poller that knows nothing of the old."""
        again = min(by, self.done)
        if again or self.at_work is not None:
            self.done -= again
            self.edges, self.attempts, self.at_work = [], 0, None
            self.is_rewound = self.holds_records
            self.close_window()
        return again

    def keep_edge(self, place: int) -> None:
        """End a batch there, and after it where batches ended anyway."""
        if not self.edges or self.edges[-1] > place:
            self.edges.append(place)

    def next_batch(self, size: int) -> list[Entry]:
        """What is delivered next: up to the next edge, of one window."""
        stop = self.edges[-1] if self.edges else self.done + size
        batch = self.entries[self.done : stop]
        if self._window_s:
            start = self._open_window(batch[0])
            if window_start(batch[-1].record, self._window_s) != start:
                batch = list(takewhile(lambda one: self._window_of(one) == start, batch))
        return batch

    # --- windows ---

    def _window_of(self, entry: Entry) -> int:
        return window_start(entry.record, self._window_s)

    def _open_window(self, entry: Entry) -> int:
        start = self._window_of(entry)
        if not self.window.is_open:
            self.window.open(start)
            self._window_ends_at = datetime.fromtimestamp(start + self._window_s, UTC)
        return start

    def keep_state(self, state: Any) -> None:
        """What the window's next call gets; too much of it ends the window early."""
        self.window.keep(state)
        self.ends_early = self.window.is_state_too_large

    def close_window(self) -> None:
        """Forget its state."""
        self.window.close()
        self.attempts = 0
        self.ends_early = False

    def is_window_over(self, now: datetime) -> bool:
        """Whether its last call is what comes next."""
        if not self.window.is_open:
            return False
        if self.done < len(self.entries):
            start = self._window_of(self.entries[self.done])
            return self.ends_early or self.window.is_over(start)
        return self.ends_early or self._is_ended or now >= self._window_ends_at

    # --- when ---

    def ready_at(self, settings: TableStream) -> datetime | None:
        """When its next invocation may start; None while one runs or nothing waits."""
        if self.at_work is not None:
            return None
        waiting = len(self.entries) - self.done
        if waiting:
            full = self.edges or waiting >= settings.batch_size or self._is_ended
            if full or self.is_rewound or self.ends_early:
                return self.not_before
            window = timedelta(seconds=settings.batching_window_s)
            return max(self.not_before, self.entries[self.done].created_at + window)
        if self.window.is_open:
            at_once = self._is_ended or self.ends_early
            return self.not_before if at_once else max(self.not_before, self._window_ends_at)
        return None

    def is_ready(self, settings: TableStream, now: datetime) -> bool:
        """Whether an invocation may start."""
        at = self.ready_at(settings)
        return at is not None and at <= now

    @property
    def holds_records(self) -> bool:
        """Whether a record is not done."""
        return self.done < len(self.entries)

    @property
    def _is_ended(self) -> bool:
        """Whether the shard is closed and read to its end."""
        return self.shard.closed_at is not None and self._read == len(self.shard.entries)

    @property
    def is_finished(self) -> bool:
        """Whether nothing of it will ever come, not even a window's last call."""
        idle = self.at_work is None and not self.holds_records and not self.window.is_open
        return idle and self._is_ended
