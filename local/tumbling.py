"""Tumbling windows: what Lambda tells a stream's function beside the records.

Source: AWS, "Implementing stateful DynamoDB stream processing in Lambda". A window is where the
records' creation times fall; its state is what the last response carried.
"""

import json
from datetime import UTC, datetime
from typing import Any

from local.stream_reader import Record

STATE_MAX_BYTES = 1_000_000
"""More state ends a window early."""


def window_start(record: Record, size_s: int) -> int:
    """Where the window begins in which a record was made; epoch seconds."""
    return int(record["dynamodb"]["ApproximateCreationDateTime"]) // size_s * size_s


class TumblingWindow:
    """The one open window of a shard."""

    def __init__(self, size_s: int) -> None:
        self._size_s = size_s
        self._start: int | None = None
        self._state: Any = {}

    @property
    def is_open(self) -> bool:
        """Whether a record fell into it and it was not closed since."""
        return self._start is not None

    def open(self, start: int) -> None:
        """Begin anew unless it is open."""
        if self._start is None:
            self._start, self._state = start, {}

    def is_over(self, epoch_s: float) -> bool:
        """Whether it is open and ends at or before an instant."""
        return self._start is not None and self._start + self._size_s <= epoch_s

    def close(self) -> None:
        """Forget its state."""
        self._start, self._state = None, {}

    def keep(self, state: Any) -> None:
        """What the next invocation gets."""
        self._state = state

    @property
    def is_state_too_large(self) -> bool:
        """Whether Lambda would end the window early."""
        return bool(self._state) and len(json.dumps(self._state)) > STATE_MAX_BYTES

    def fields(self, *, final: bool, early: bool = False) -> dict[str, Any]:
        """What the event carries of it."""
        start = self._start or 0
        return {
            "window": {"start": _iso(start), "end": _iso(start + self._size_s)},
            "state": self._state,
            "isFinalInvokeForWindow": final,
            "isWindowTerminatedEarly": early,
        }


def _iso(epoch_s: int) -> str:
    return datetime.fromtimestamp(epoch_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
