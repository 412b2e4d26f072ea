"""One thread, one virtual clock, one seeded order of things: what makes a world replayable.

Whatever takes time runs as a process (a greenlet, so that product code stays ordinary code). A
process gives way only where it pauses; then the earliest of all waiting things goes on, and among
those of one instant a seeded draw decides. Every step enters the trace, whose hash is the world's
fingerprint.
"""

import heapq
import random
from collections import Counter
from collections.abc import Callable
from contextvars import copy_context
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import Any

from greenlet import getcurrent, greenlet

LAST_STEPS = 60
STEPS_MAX = 60_000
"""A world that has not ended by then turns in circles."""


class ProcessDiedError(BaseException):
    """The process is gone: no `except Exception` sees it, and nothing it does counts any more."""


class EndlessWorldError(AssertionError):
    """The world does not come to an end."""


class Life:
    """What a process and its threads share: they die together."""

    __slots__ = ("is_over",)

    def __init__(self) -> None:
        self.is_over = False


class Process:
    """One run of something, from its start to its end or death; a thread is one within another."""

    def __init__(
        self,
        name: str,
        run: Callable[[], Any],
        done: Callable[[Any], None],
        within: "Process | None" = None,
    ) -> None:
        self.name = name
        self.life: Life = within.life if within else Life()
        self._run = run
        self._done = done
        self.greenlet: greenlet | None = None

    @property
    def is_dead(self) -> bool:
        """Whether nothing it does counts any more."""
        return self.life.is_over

    def live(self, _: object) -> None:
        """From start to end; the end is told `done`, a death is told as the error."""
        try:
            ended = self._run()
        except ProcessDiedError as death:
            self.life.is_over = True
            ended = death
        self._done(ended)


class Kernel:
    """The clock, what waits for it, and the draw."""

    def __init__(self, seed: str, start: datetime) -> None:
        self.now = start
        self.random = random.Random(seed)
        self.counts: Counter[str] = Counter()
        """How often what happened: the situations that a world has seen."""
        self._waiting: list[tuple[datetime, float, int, Callable[[], None]]] = []
        self._number = 0
        self._trace: list[tuple[datetime, str, str]] = []
        self._living: dict[Process, None] = {}
        self._running: Process | None = None
        self._hub = getcurrent()
        self._start = start

    # --- time ---

    def later(self, delay: timedelta, what: Callable[[], None]) -> None:
        """Do something at a later instant, outside of any process."""
        self._number += 1
        entry = (self.now + delay, self.random.random(), self._number, what)
        heapq.heappush(self._waiting, entry)

    def run_until(self, end: datetime) -> None:
        """Let everything happen up to an instant; it is that instant then.

        Raises:
            EndlessWorldError: too much happens.
        """
        waiting = self._waiting
        while waiting and waiting[0][0] <= end:
            at, _, _, what = heapq.heappop(waiting)
            self.now = max(at, self.now)
            what()
            if self.steps > STEPS_MAX:
                raise EndlessWorldError(f"no end after {self.steps} steps")
        self.now = max(end, self.now)

    # --- processes ---

    @property
    def running(self) -> Process | None:
        """The process that runs now; None for the world's own doings."""
        return self._running

    def spawn(
        self,
        name: str,
        run: Callable[[], Any],
        done: Callable[[Any], None] = lambda _: None,
        *,
        after: timedelta = timedelta(),
        within: Process | None = None,
    ) -> Process:
        """Start a process after a while; `done` hears what it answered, or the error it died of.

        `within` a process it is a thread of that: it dies with it, and takes it along.
        """
        process = Process(name, run, done, within)
        process.greenlet = greenlet(process.live, parent=self._hub)
        if within is not None:
            process.greenlet.gr_context = copy_context()
        self._living[process] = None
        self.later(after, lambda: self._resume(process))
        return process

    def pause(self, delay: timedelta) -> None:
        """Give way for so long; the world's own doings do not wait.

        Raises:
            ProcessDiedError: the process died meanwhile.
        """
        process = self._running
        if process is None:
            return
        self.later(delay, lambda: self._resume(process))
        self._hub.switch()
        self.check_alive()

    def wait(self) -> Any:
        """Give way until somebody wakes this process; what it is woken with.

        Raises:
            ProcessDiedError: the process died meanwhile.
        """
        assert self._running is not None, "only processes wait"
        woken_with = self._hub.switch()
        self.check_alive()
        return woken_with

    def wake(self, process: Process, value: Any) -> None:
        """Let a waiting process go on with a value."""
        self.later(timedelta(), lambda: self._resume(process, value))

    def kill(self, process: Process) -> None:
        """A process does nothing any more, wherever it stands."""
        process.life.is_over = True
        if process in self._living:
            self._resume(process)

    def end(self) -> None:
        """Nothing goes on any more."""
        self._waiting.clear()
        for process in list(self._living):
            self.kill(process)

    def check_alive(self) -> None:
        """Raise what a dead process dies of."""
        if self._running is not None and self._running.is_dead:
            raise ProcessDiedError(self._running.name)

    def die(self) -> None:
        """The running process dies here."""
        assert self._running is not None, "only processes die"
        self._running.life.is_over = True
        raise ProcessDiedError(self._running.name)

    def _resume(self, process: Process, value: Any = None) -> None:
        if process not in self._living:
            return  # It died while it was to be woken.
        assert process.greenlet is not None
        before, self._running = self._running, process
        try:
            process.greenlet.switch(value)
        finally:
            self._running = before
            if process.greenlet.dead:
                del self._living[process]

    # --- the trace ---

    def note(self, what: str) -> None:
        """A step of the world: it enters the trace."""
        self._trace.append((self.now, self._running.name if self._running else "world", what))

    def saw(self, situation: str) -> None:
        """A situation was met that worlds must meet sometimes."""
        self.counts[situation] += 1

    @property
    def fingerprint(self) -> str:
        """The hash of all steps."""
        trace = blake2b(digest_size=8)
        for step in self._trace:
            trace.update(self._line(*step).encode())
        return trace.hexdigest()

    @property
    def steps(self) -> int:
        """How many there were."""
        return len(self._trace)

    @property
    def last(self) -> list[str]:
        """The last steps, a line each."""
        return [self._line(*step) for step in self._trace[-LAST_STEPS:]]

    def _line(self, at: datetime, who: str, what: str) -> str:
        return f"{(at - self._start).total_seconds():.3f} {who} {what}"

    def chance(self, rate: float) -> bool:
        """Whether something that is so likely happens now; an impossible one draws nothing."""
        return rate > 0 and self.random.random() < rate
