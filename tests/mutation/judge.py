"""What the mutants of one module come to: noticed, excused, or a gap in the tests."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from tests.mutation.settings import Excuse

KILLED_MIN = 0.9
_SENTENCE = re.compile(r'"[^"]*[^" ] [^" ][^"]*"')


class Mutant(NamedTuple):
    """One small change of a function, and whether a test noticed it."""

    function: str
    """`parse_quantity`, `Tally.__add__`."""
    diff: str
    """The lines that went, with `-`, and those that came, with `+`; blanks at their sides cut."""
    is_killed: bool
    seconds: float
    """How long its tests took."""


def function_of(key: str) -> str:
    """`metering.counter.xǁTallyǁ__add____mutmut_3` is of `Tally.__add__`."""
    mangled = key.rpartition("__mutmut_")[0].rpartition(".")[2]
    return mangled.removeprefix("x_").removeprefix("xǁ").replace("ǁ", ".")


class Mutants(NamedTuple):
    """All mutants of a module."""

    module: str
    mutants: Sequence[Mutant]


@dataclass(frozen=True)
class Judged:
    """A module's mutants, as its tests and its excuses leave them."""

    module: str
    mutants: int
    killed: int
    wordings: int
    """Not noticed, and no more than the words of a sentence for people."""
    excused: int
    gaps: tuple[Mutant, ...]
    """Neither noticed nor excused."""
    stale: tuple[Excuse, ...]
    """Excuses that no survivor needs any more."""
    seconds: float

    @property
    def share(self) -> float:
        """How much of all mutants was noticed; excused ones are not."""
        return self.killed / self.mutants if self.mutants else 1.0

    @property
    def is_well(self) -> bool:
        """Whether nine in ten are noticed, and the rest has its reasons."""
        return self.share >= KILLED_MIN and not self.gaps


def judge(found: Mutants, excuses: Iterable[Excuse]) -> Judged:
    """Weigh a module; of two equal diffs in a function each needs an excuse of its own."""
    survivors = [one for one in found.mutants if not one.is_killed]
    open_excuses = Counter((one.function, one.diff) for one in excuses)
    known = {(one.function, one.diff): one for one in excuses}
    gaps, wordings, excused = [], 0, 0
    for one in survivors:
        if open_excuses[one.function, one.diff] > 0:
            open_excuses[one.function, one.diff] -= 1
            excused += 1
        elif is_wording(one.diff):
            wordings += 1
        else:
            gaps.append(one)
    return Judged(
        module=found.module,
        mutants=len(found.mutants),
        killed=len(found.mutants) - len(survivors),
        wordings=wordings,
        excused=excused,
        gaps=tuple(gaps),
        stale=tuple(known[key] for key in sorted(open_excuses.elements())),
        seconds=sum(one.seconds for one in found.mutants),
    )


def is_wording(diff: str) -> bool:
    """Whether a diff changes nothing but the letters of one sentence.

    A sentence has a blank between words: codes, names and states have none, so a change of those is
    never excused by this.
    """
    lines = diff.splitlines()
    if [line[:1] for line in lines] != ["-", "+"]:
        return False
    before, after = (line[1:].strip() for line in lines)
    sentences = _SENTENCE.findall(before)
    return any(
        before.replace(sentence, changed, 1) == after
        for sentence in sentences
        for changed in _changes_of(sentence)
    )


def _changes_of(sentence: str) -> tuple[str, str, str]:
    text = sentence[1:-1]
    return f'"XX{text}XX"', sentence.lower(), sentence.upper()
