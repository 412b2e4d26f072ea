"""Making a failing world smaller as long as the same invariant breaks: greedy, and never at a loss.

First what the world consists of gets less: faults off, fewer events, one of everything, less time.
Then single events are left out. Each change is kept if the same invariant still breaks, and the
whole is gone through again until nothing helps or the trials are used up.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields, replace
from datetime import timedelta
from typing import Any

from tests.simulation.draw import FAULT_NAMES, NO_FAULTS, Drawn, Kind
from tests.simulation.trial import Trial, TryOut

TRIALS_MAX = 200
SECONDS_MAX = 120.0
"""Of CPU: worlds that hang use up their limit each time."""
SPAN_MIN = timedelta(minutes=10)
_AT_LEAST = {"tenants": 1, "customers": 1, "metrics": 1, "shards": 1, "partitions": 1}
"""Whole numbers that shrink to 0 unless they stand here."""

type Told = Callable[[int, Trial], None]
"""Hears how many trials were made so far, and of the smallest world by now."""


@dataclass(slots=True)
class Shrinking:
    """A failing world on its way to the smallest one."""

    smallest: Trial
    try_out: TryOut
    told: Told = lambda _, __: None
    trials_max: int = TRIALS_MAX
    seconds_max: float = SECONDS_MAX
    trials: int = 0
    _began: float = field(default_factory=time.process_time)
    _wanted: str = ""

    def run(self) -> Trial:
        """The smallest world in which what broke first still breaks."""
        self._wanted = self.smallest.invariants[0]
        before = None
        while before != self.smallest.drawn and not self.is_over:
            before = self.smallest.drawn
            for move in (_calm, _plain, _halve_events, _shorten):
                self._while_it_helps(move)
            self._leave_out()
        return self.smallest

    @property
    def is_over(self) -> bool:
        """Whether no trial is left."""
        used_s = time.process_time() - self._began
        return self.trials >= self.trials_max or used_s > self.seconds_max

    def _while_it_helps(self, move: Callable[[Drawn], Iterator[Drawn]]) -> None:
        """Try what a move offers, and everything anew from there once something helped."""
        refused: list[Drawn] = []
        helped = True
        while helped and not self.is_over:
            helped = False
            for candidate in move(self.smallest.drawn):
                if candidate in refused:
                    continue
                helped = self._keep_if_broken(candidate)
                if helped or self.is_over:
                    break
                refused.append(candidate)

    def _keep_if_broken(self, candidate: Drawn) -> bool:
        self.trials += 1
        trial = self.try_out(candidate)
        is_broken = self._wanted in trial.invariants
        if is_broken:
            self.smallest = trial
        self.told(self.trials, self.smallest)
        return is_broken

    def _leave_out(self) -> None:
        """Leave out events by halves, quarters and so on down to single ones."""
        drawn = self.smallest.drawn
        size = max(1, _sent(drawn) // 2)
        while not self.is_over:
            places = [at for at in range(drawn.events) if at not in self.smallest.drawn.left_out]
            for first in range(0, len(places), size):
                self._leave_out_these(places[first : first + size])
            if size == 1:
                return
            size //= 2

    def _leave_out_these(self, places: list[int]) -> None:
        drawn = self.smallest.drawn
        if len(places) < _sent(drawn) and not self.is_over:
            left_out = tuple(sorted({*drawn.left_out, *places}))
            self._keep_if_broken(replace(drawn, left_out=left_out))


def _sent(drawn: Drawn) -> int:
    return drawn.events - len(drawn.left_out)


# --- what moves offer -----------------------------------------------------------------------------


def _calm(drawn: Drawn) -> Iterator[Drawn]:
    """All faults off; then one after another."""
    on = [name for name in FAULT_NAMES if getattr(drawn.faults, name) != getattr(NO_FAULTS, name)]
    if len(on) > 1:
        yield _without(drawn, on)
    for name in on:
        yield _without(drawn, [name])


def _without(drawn: Drawn, names: list[str]) -> Drawn:
    off: dict[str, Any] = {name: getattr(NO_FAULTS, name) for name in names}
    return replace(drawn, faults=replace(drawn.faults, **off))


def _plain(drawn: Drawn) -> Iterator[Drawn]:
    """A shorter way to go, one of everything, nothing that need not be."""
    for kind in Kind:
        if kind is drawn.kind:
            break
        yield replace(drawn, kind=kind)
    for one in fields(drawn):
        value = getattr(drawn, one.name)
        if one.name in {"seed", "events"} or not isinstance(value, int | float):
            continue
        least = type(value)(_AT_LEAST.get(one.name, 0))
        if value > least:
            change: dict[str, Any] = {one.name: least}
            yield replace(drawn, **change)


def _halve_events(drawn: Drawn) -> Iterator[Drawn]:
    if drawn.events > 1:
        half = drawn.events // 2
        yield replace(drawn, events=half, left_out=tuple(at for at in drawn.left_out if at < half))


def _shorten(drawn: Drawn) -> Iterator[Drawn]:
    if drawn.span / 2 >= SPAN_MIN:
        yield replace(drawn, span=drawn.span / 2)
