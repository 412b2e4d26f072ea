"""Faults on demand: what a bad day does to a stream's function, at a moment one can choose."""

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient


class HandlerKilledError(BaseException):
    """The execution environment is gone; no `except Exception` of the handler sees it."""


@dataclass(frozen=True, slots=True)
class Kill:
    """Where an invocation ends: at its n-th DynamoDB call (from 1)."""

    call: int
    answered: bool = False
    """False: before the call is sent. True: it took effect, its answer never arrived."""


class KillSwitch:
    """Counts a client's calls and raises `HandlerKilledError` at the chosen one and ever after."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls = 0

    @contextmanager
    def armed(self, kill: Kill, client: "DynamoDBClient") -> Iterator[None]:
        """Watch the client's calls while the block runs."""
        self._calls = 0
        moment = "after-call.dynamodb" if kill.answered else "before-call.dynamodb"

        def count(**_: Any) -> None:
            with self._lock:
                self._calls += 1
                reached = self._calls >= kill.call
            if reached:
                raise HandlerKilledError(f"killed at DynamoDB call {kill.call}")

        client.meta.events.register(moment, count)
        try:
            yield
        finally:
            client.meta.events.unregister(moment, count)


class Chaos:
    """The faults that wait for a stream's next deliveries; set from any thread, each used once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kills: list[Kill] = []
        self._twice = 0
        self._rewind = 0
        self._rewound: set[str] = set()
        self._recuts = 0
        self._random = random.Random(0)  # noqa: S311 (chooses batch sizes)
        self._running = threading.Event()
        self._running.set()

    def kill(self, call: int, *, answered: bool = False, times: int = 1) -> None:
        """End the next `times` invocations at their `call`-th DynamoDB call."""
        if call < 1 or times < 1:
            raise ValueError("call and times count from 1")
        with self._lock:
            self._kills += [Kill(call, answered)] * times

    def deliver_twice(self, batches: int = 1) -> None:
        """Hand each of the next batches to two environments at once."""
        with self._lock:
            self._twice = batches

    def rewind(self, records: int) -> None:
        """Deliver the last records of every shard again, before what is new."""
        with self._lock:
            self._rewind = records
            self._rewound.clear()

    def recut(self, batches: int, *, seed: int = 0) -> None:
        """Cut the next batches at random sizes, the same for the same seed."""
        with self._lock:
            self._recuts = batches
            self._random.seed(seed)

    def pause(self) -> None:
        """Deliver nothing until `resume`."""
        self._running.clear()

    def resume(self) -> None:
        """Go on delivering."""
        self._running.set()

    @property
    def is_paused(self) -> bool:
        """Whether nothing is delivered."""
        return not self._running.is_set()

    # --- what the mapping asks ---

    def wait_while_paused(self, timeout_s: float) -> bool:
        """Whether delivering may go on, after waiting for it a while."""
        return self._running.wait(timeout_s)

    def take_kill(self) -> Kill | None:
        """The end that awaits this invocation, if any."""
        with self._lock:
            return self._kills.pop(0) if self._kills else None

    def take_twice(self) -> bool:
        """Whether this batch goes to two environments."""
        with self._lock:
            self._twice -= 1
            return self._twice >= 0

    def take_rewind(self, shard: str) -> int:
        """How many records a shard goes back now."""
        with self._lock:
            if shard in self._rewound:
                return 0
            self._rewound.add(shard)
            return self._rewind

    def is_rewind_due(self, shard: str) -> bool:
        """Whether a shard has yet to go back."""
        with self._lock:
            return self._rewind > 0 and shard not in self._rewound

    def batch_size(self, regular: int) -> int:
        """How many records the next batch may have."""
        with self._lock:
            if self._recuts <= 0:
                return regular
            self._recuts -= 1
            return self._random.randint(1, regular)
