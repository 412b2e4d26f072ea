"""Many worlds: `make soak N=100000`. Progress while they pass, a report at the end.

Each failure is made smaller and told, and its line for `seeds.txt` printed. A soak fails when an
invariant broke, and a long one also when a situation was never met.
"""

import os
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path

from rich.console import Console

from tests.simulation.corpus import commit, is_changed, line_of
from tests.simulation.report import as_markdown, tell_report
from tests.simulation.shrink import Shrinking
from tests.simulation.situations import never
from tests.simulation.story import a_console, tell
from tests.simulation.tally import Tally
from tests.simulation.trial import Trial, TryOut, try_out
from tests.simulation.workers import DIED, Workers

CHUNK_MAX = 50
TOLD_MAX = 5
SITUATIONS_FROM = 100_000
"""A soak of so many worlds must have met every situation."""
PLAIN_EVERY_S = 10.0

UNTRACED: TryOut = partial(try_out, traced=False)
"""To fingerprint every world costs more than it tells."""


@dataclass(frozen=True, slots=True)
class Order:
    """What to soak."""

    worlds: int
    first: int = 0
    jobs: int = field(default_factory=lambda: os.cpu_count() or 1)
    report: Path | None = None
    require_situations: bool = False

    @property
    def last(self) -> int:
        """The last seed."""
        return self.first + self.worlds - 1


@dataclass(slots=True)
class Soaked:
    """What a soak came to."""

    order: Order
    tally: Tally
    seconds: float
    """By the clock on the wall."""
    is_whole: bool
    """Whether nobody stopped it."""
    smallest: list[tuple[Trial, Trial]] = field(default_factory=list)
    """Failures as they were found and made smaller."""

    @property
    def missing(self) -> list[str]:
        """Situations that should have been met and were not."""
        is_long = self.order.worlds >= SITUATIONS_FROM and self.is_whole
        wanted = self.order.require_situations or is_long
        return never(self.tally.worlds_with) if wanted else []

    @property
    def exit_code(self) -> int:
        """1 when something broke or was never met."""
        return int(bool(self.tally.failed or self.missing or not self.tally.worlds))


def run(order: Order, try_it: TryOut = UNTRACED) -> int:
    """Soak, tell and report; the exit code."""
    console = a_console()
    soaked = soak(order, console, try_it)
    tell_report(soaked, console)
    try:
        _tell_failures(soaked, console, try_it)
    except KeyboardInterrupt:
        console.print("stopped: the other failures are only counted")
    _verdict(soaked, console)
    if order.report is not None:
        order.report.parent.mkdir(parents=True, exist_ok=True)
        order.report.write_text(as_markdown(soaked), encoding="utf-8")
        console.print(f"report written to {order.report}")
    return soaked.exit_code


def soak(order: Order, console: Console, try_it: TryOut = UNTRACED) -> Soaked:
    """Let all worlds pass, or as many as come before Ctrl-C."""
    began, tally, is_whole = time.monotonic(), Tally(), True
    workers = Workers(order.jobs, deque(_chunks(order)), try_it)
    progress = _Progress(order, console)
    try:
        with closing(workers.tallies()) as tallies:
            for some in tallies:
                tally.add_all(some)
                progress.show(tally, tally.worlds + workers.under_way)
    except KeyboardInterrupt:
        is_whole = False
    progress.end()
    return Soaked(order, tally, time.monotonic() - began, is_whole)


def _chunks(order: Order) -> Iterator[range]:
    """Small enough that all workers end at about the same time, and little is lost by Ctrl-C."""
    size = max(1, min(CHUNK_MAX, order.worlds // (order.jobs * 4)))
    end = order.first + order.worlds
    for first in range(order.first, end, size):
        yield range(first, min(first + size, end))


class _Progress:
    """One line: drawn over on a terminal, and anew every few seconds elsewhere."""

    def __init__(self, order: Order, console: Console) -> None:
        self._order = order
        self._console = console
        self._began = self._shown_at = time.monotonic()
        self._failures = 0

    def show(self, tally: Tally, done: int) -> None:
        self._name(tally)
        now = time.monotonic()
        if now - self._shown_at < (0.2 if self._console.is_terminal else PLAIN_EVERY_S):
            return
        self._shown_at = now
        line = self._line(done, len(tally.failed), now - self._began)
        if self._console.is_terminal:
            sys.stdout.write(f"\r\x1b[K{line}")
            sys.stdout.flush()
        else:
            self._console.print(line, soft_wrap=True)

    def _name(self, tally: Tally) -> None:
        """Tell of each failure at once, so that nobody waits for the end to look into it."""
        fresh = tally.failures[self._failures :]
        self._failures += len(fresh)
        self.end()
        for one in fresh:
            seed, broken = one.drawn.seed, ", ".join(one.invariants)
            self._console.print(f"[bold red]seed {seed} broke {broken}[/]", soft_wrap=True)

    def _line(self, done: int, failed: int, seconds: float) -> str:
        left = (self._order.worlds - done) * seconds / done if done else 0.0
        remaining = f"{timedelta(seconds=round(left))} left" if done else "beginning"
        worlds = f"{done:,} of {self._order.worlds:,} worlds ({done / self._order.worlds:.0%})"
        return f"{worlds}, {done / seconds:.1f} a second, {failed} broken, {remaining}"

    def end(self) -> None:
        if self._console.is_terminal:
            sys.stdout.write("\r\x1b[K")


def _tell_failures(soaked: Soaked, console: Console, try_it: TryOut) -> None:
    for failure in soaked.tally.failures[:TOLD_MAX]:
        console.rule(f"seed {failure.drawn.seed}")
        smallest = failure
        if failure.invariants[0] != DIED:
            with console.status("making the world smaller"):
                smallest = Shrinking(failure, try_it).run()
        soaked.smallest.append((failure, smallest))
        tell(smallest, console)
    others = len(soaked.tally.failed) - len(soaked.smallest)
    if others > 0:
        console.print(f"and {others} other failures, not told")


def _verdict(soaked: Soaked, console: Console) -> None:
    tally = soaked.tally
    if tally.failed:
        console.print("\n[bold red]broken[/]; for tests/simulation/seeds.txt:")
        for failure, _ in soaked.smallest:
            found = f"{', '.join(failure.invariants)} at {commit()[:12]}"
            console.print(f"  {line_of(failure.drawn, found)}", soft_wrap=True, markup=False)
    if soaked.missing:
        console.print(f"\n[bold red]never met:[/] {'; '.join(soaked.missing)}", soft_wrap=True)
    if not soaked.exit_code:
        changes = " and changes since" if is_changed() else ""
        console.print(f"[bold green]nothing broke[/] at commit {commit()[:12]}{changes}")
