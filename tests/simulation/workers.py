"""Worlds in several processes, none of which can take the others down with it.

Each worker lives through chunks of seeds and says what they came to. The seed it is at stands in
memory that it shares: when it dies, or hangs where no timer reaches it, that seed has failed, and
the rest of its chunk is dealt out again.
"""

import signal
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

from tests.simulation.draw import draw
from tests.simulation.tally import Tally
from tests.simulation.trial import CPU_LIMIT_S, Trial, TryOut, try_out
from tests.simulation.violation import Violation

LOOK_EVERY_S = 1.0
STUCK_AFTER_S = 10 * CPU_LIMIT_S
"""Without a step to the next seed, by the clock on the wall."""
WORLDS_OF_A_WORKER = 5_000
"""Then another takes over, so that no leak of any library grows for ever."""
DIED = "its process lives on"
"""Stands in place of an invariant's name when a world took its process down."""

_spawn = get_context("spawn")


@dataclass(slots=True)
class _Worker:
    process: SpawnProcess
    connection: Connection
    at: Any
    """The seed it is at, in shared memory."""
    chunk: range = range(0)
    last_at: int = -1
    since: float = 0.0
    worlds: int = 0


@dataclass(slots=True)
class Workers:
    """Some processes and the seeds that wait for them."""

    jobs: int
    chunks: deque[range]
    try_out: TryOut = try_out
    stuck_after_s: float = STUCK_AFTER_S
    _workers: list[_Worker] = field(default_factory=list)

    def tallies(self) -> Generator[Tally]:
        """What chunks came to as they end, and an empty one where nothing has for a while."""
        try:
            while self.chunks or any(one.chunk for one in self._workers):
                self._deal()
                yield from self._heard()
        finally:
            self._end()

    @property
    def under_way(self) -> int:
        """How many worlds the workers have lived through that were not yielded yet."""
        at_work = [one for one in self._workers if one.chunk and one.at.value in one.chunk]
        return sum(one.at.value - one.chunk.start for one in at_work)

    def _deal(self) -> None:
        while self.chunks and len(self._workers) < self.jobs:
            self._workers.append(self._start())
        for worker in self._workers:
            if self.chunks and not worker.chunk:
                worker.chunk = self.chunks.popleft()
                worker.since = time.monotonic()
                worker.connection.send(worker.chunk)

    def _start(self) -> _Worker:
        here, there = _spawn.Pipe()
        at = _spawn.RawValue("q", -1)
        process = _spawn.Process(target=_work, args=(there, at, self.try_out), daemon=True)
        process.start()
        there.close()
        return _Worker(process, here, at)

    def _heard(self) -> Iterator[Tally]:
        ready = wait([one.connection for one in self._workers], LOOK_EVERY_S)
        for worker in list(self._workers):
            if worker.connection in ready:
                yield self._answer(worker)
            elif self._is_stuck(worker):
                worker.process.kill()
                yield self._lost(worker, f"stuck for more than {self.stuck_after_s:g} s")
        if not ready:
            yield Tally()

    def _answer(self, worker: _Worker) -> Tally:
        try:
            tally: Tally = worker.connection.recv()
        except (EOFError, OSError):
            worker.process.join()
            return self._lost(worker, f"the process ended with {worker.process.exitcode}")
        worker.worlds += len(worker.chunk)
        worker.chunk = range(0)
        if worker.worlds >= WORLDS_OF_A_WORKER:
            self._let_go(worker)
        return tally

    def _is_stuck(self, worker: _Worker) -> bool:
        if worker.at.value != worker.last_at or not worker.chunk:
            worker.last_at, worker.since = worker.at.value, time.monotonic()
        has_begun = worker.at.value in worker.chunk
        limit_s = self.stuck_after_s if has_begun else STUCK_AFTER_S
        return time.monotonic() - worker.since > limit_s

    def _lost(self, worker: _Worker, why: str) -> Tally:
        """The worker is gone: its seed has failed, and the others wait again."""
        chunk, at = worker.chunk, worker.at.value
        self._let_go(worker)
        if at not in chunk:
            raise RuntimeError(f"a worker cannot begin: {why}")
        rest = (range(chunk.start, at), range(at + 1, chunk.stop))
        self.chunks.extend(one for one in rest if one)
        tally = Tally()
        tally.add(Trial(draw(at), (Violation(DIED, why),)))
        return tally

    def _let_go(self, worker: _Worker) -> None:
        worker.chunk = range(0)
        worker.connection.close()
        self._workers.remove(worker)

    def _end(self) -> None:
        for worker in self._workers:
            worker.process.kill()
            worker.connection.close()
        for worker in self._workers:
            worker.process.join()


def _work(connection: Connection, at: Any, try_it: Callable[[Any], Trial]) -> None:
    """What a worker does: a chunk after another until nobody asks any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business.
    with suppress(EOFError, OSError):
        while True:
            chunk: range = connection.recv()
            tally = Tally()
            for seed in chunk:
                at.value = seed
                tally.add(try_it(draw(seed)))
            connection.send(tally)
