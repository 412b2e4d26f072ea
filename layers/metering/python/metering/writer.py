"""Tells Stripe what changed counters add up to.

A run looks at every stream in need and at every counter that changed since the last finished pass
(at all of them once an hour), and takes each a step further. It stops before its time is up and the
next one goes on from there. Two runs at once do no harm: a stream's every step is a conditional
write, and Stripe knows each push by its identifier; the lease only saves work.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from datetime import datetime, timedelta
from functools import partial
from itertools import batched
from math import ceil
from typing import Any

from metering.advance import Advance, Life, World
from metering.backlog import backlog_of
from metering.errors import InvariantBrokenError
from metering.ports import Cursor, Pass, SetupError, WriterDesk
from metering.pusher import Happenings, Pauses
from metering.threads import Threads
from metering.work import (
    SWEPT_AFTER_CLOSE,
    Changed,
    Group,
    all_work,
    changed_work,
    groups,
    needy_work,
)

log = logging.getLogger("metering.writer")

type Remaining = Callable[[], timedelta]
"""How much time the run has left."""

OVERLAP = timedelta(minutes=2)
"""How far before the last pass changes are looked at again: clocks differ, writes take time."""
SWEEP_EVERY = timedelta(hours=1)
LATELY = timedelta(minutes=10)
LEASE_MARGIN = timedelta(seconds=5)
RESERVE = timedelta(seconds=15)
"""Nothing is begun with less time left: one request can last 13 seconds."""
GROUPS_AT_ONCE = 128
"""After so many customers the cursor moves on."""
GROUPS_A_THREAD = 8
"""So many customers' pushes share their writes; they are sent one after the other."""
THREADS = 16
"""What they wait for is Stripe, some 150 ms a request; the CPU is the same with 2 to 16 of them."""


class Writer:
    """Runs of the push protocol over many streams."""

    def __init__(
        self, world: World, desk: WriterDesk, threads: Threads = ThreadPoolExecutor
    ) -> None:
        self._world = world
        self._desk = desk
        self._threads = threads

    def run(self, owner: str, remaining: Remaining) -> dict[str, Any]:
        """One run, within the time that remains; answers what it did.

        Raises:
            InvariantBrokenError: some counters met a bug of ours; all others were dealt with.
        """
        try:
            pushes = self._world.pushes
            life = Life(self._world.billing.mode, pushes.incarnation(), pushes.role)
        except SetupError as error:
            log.warning("nothing is told to Stripe: %s", error)
            return {"skipped": str(error)}
        now = self._world.clock.now()
        fence = self._desk.take_lease(owner, now, now + remaining() + LEASE_MARGIN)
        if fence is None:
            return {"skipped": "another writer holds the lease"}
        try:
            with self._threads(THREADS, "writer") as pool:
                run = _Run(self._world, life, self._desk, fence, remaining, pool)
                return run.summary()
        finally:
            self._desk.end_lease(fence)


class _Run:
    """One run that holds the lease."""

    def __init__(
        self,
        world: World,
        life: Life,
        desk: WriterDesk,
        fence: int,
        remaining: Remaining,
        pool: Executor,
    ) -> None:
        self._world = world
        self._life = life
        self._desk = desk
        self._fence = fence
        self._remaining = remaining
        self._pool = pool
        self._pauses = Pauses(world.pushes, world.clock)
        self._happenings = Happenings()
        self._looked_from = world.clock.now()

    def summary(self) -> dict[str, Any]:
        """Do the run's work and tell of it."""
        is_complete = self._go()
        happenings = self._happenings
        if happenings.failed:
            raise InvariantBrokenError(f"{happenings.failed} counters met a bug; see the log")
        in_need = self._world.pushes.in_need()
        backlog = backlog_of(in_need, self._looked_from, self._world.clock.now())
        still_open = sum(1 for stream in in_need if stream.open)
        told = happenings.told() | {"open": still_open, "complete": is_complete}
        told["backlog"] = backlog.told()
        log.info("writer run: %s", told)
        return told

    def _go(self) -> bool:
        """Whether the run came to the end of a pass of its own."""
        cursor = self._desk.cursor()
        if cursor is not None and cursor.unfinished is not None and not self._pass(cursor):
            return False
        # What a resumed pass skipped may have changed since; so a whole one follows at once.
        return self._pass(self._desk.cursor())

    def _pass(self, former: Cursor | None) -> bool:
        """Whether there was time for the streams in need and for a whole pass over counters."""
        now = self._world.clock.now()
        # Before the first pass that came to its end, runs may have died for long: what changed in
        # periods that no sweep sees any more is looked for as far back as a sweep would look.
        cursor = former or Cursor(now - SWEPT_AFTER_CLOSE, now - SWEEP_EVERY)
        current = cursor.unfinished or _next_pass(cursor, now)
        # Before the first pass that came to its end nothing is known to wait.
        self._looked_from = former.looked_from if former else now
        needy = needy_work(self._world.pushes.in_need(), self._world.settings)
        if not self._deal_with(groups(needy, self._world.settings), _stay):
            return False
        work, until = self._work(cursor, current, now)
        rest = groups(work - needy, self._world.settings)
        move_on = partial(self._move_on, cursor, current)
        if not self._deal_with([one for one in rest if one.order > current.after], move_on):
            return False
        after = self._after(cursor, current, until)
        self._desk.move_cursor(after, self._fence)
        self._looked_from = after.looked_from
        return True

    def _work(self, cursor: Cursor, current: Pass, now: datetime) -> Changed:
        """What there is to look at, and up to when changes were looked through for it.

        After a pause too much may have changed for one pass. What changed lately does not wait for
        that, and what is open is swept at once.
        """
        counters, settings = self._world.counters, self._world.settings
        work, until = changed_work(counters, settings, cursor.looked_from - OVERLAP)
        if until < now - LATELY:
            work |= changed_work(counters, settings, now - LATELY).work
        if current.is_sweep:
            # It sees the newest periods only; changes show what came too late for its period.
            work |= all_work(counters, settings, now)
        return Changed(work, until)

    def _deal_with(self, wanted: Iterable[Group], move_on: Callable[[str], None]) -> bool:
        """Whether there was time for all groups; `move_on` hears how far they are done."""
        for batch in batched(wanted, GROUPS_AT_ONCE, strict=False):
            if not self._has_time():
                return False
            share = min(GROUPS_A_THREAD, ceil(len(batch) / THREADS))
            parts = list(batched(batch, share, strict=False))
            for done in self._pool.map(self._advance, parts):
                self._happenings.add(done)
            if not self._has_time():
                return False
            move_on(batch[-1].order)
        return True

    def _advance(self, part: Sequence[Group]) -> Happenings:
        return Advance(self._world, self._life, self._pauses, self._has_time).run(part)

    def _has_time(self) -> bool:
        return self._remaining() > RESERVE

    def _move_on(self, cursor: Cursor, current: Pass, after: str) -> None:
        # Whoever resumes the pass skips what was left here, and must not take it for dealt with.
        left = current._replace(after=after, must_return=self._must_return(current))
        self._desk.move_cursor(cursor._replace(unfinished=left), self._fence)

    def _after(self, cursor: Cursor, current: Pass, until: datetime) -> Cursor:
        """Where the next pass begins; changes that still need another look stay in its sight."""
        swept = current.began_at if current.is_sweep else cursor.swept_from
        dealt_with = min(until, current.began_at)
        looked = cursor.looked_from if self._must_return(current) else dealt_with
        return Cursor(looked, swept)

    def _must_return(self, current: Pass) -> bool:
        """Whether the pass left something, in this run or in one that died before its end."""
        return current.must_return or self._happenings.must_return


def _next_pass(cursor: Cursor, now: datetime) -> Pass:
    return Pass(now, is_sweep=now - cursor.swept_from >= SWEEP_EVERY)


def _stay(_after: str) -> None:
    """Streams in need are listed until they are settled; no cursor is needed."""
