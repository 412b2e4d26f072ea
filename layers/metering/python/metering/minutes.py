"""Which whole minutes of a period a stream's pushes are stamped with: each at most once.

One push per minute makes a summary of 60 seconds a presence test for that push, the only oracle
Stripe offers, since single meter events cannot be read back. What is remembered is bounded: every
minute after the last used one is free, and before it a few of the widest gaps. Forgetting a gap
costs a chance to stamp close to the usage, never a minute used twice.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

from metering.period import Span

GAPS_MAX = 8
_FAR = 2**40


class Gap(NamedTuple):
    """Unused minutes since the epoch, both included."""

    first: int
    last: int


class Taken(NamedTuple):
    """A minute for a push, and what is left for the next ones."""

    taken: datetime
    rest: "Minutes"


@dataclass(frozen=True, slots=True)
class Minutes:
    """The minutes that are known to be unused."""

    gaps: tuple[Gap, ...] = (Gap(0, _FAR),)

    def take(self, window: Span, near: datetime, *, only_later: bool = False) -> Taken | None:
        """The unused minute in the window that is nearest to an instant; None when none is left.

        The window's bounds are whole minutes. With `only_later` none before it is left for the
        next ones.
        """
        first, last = _number(window.start), _number(window.end) - 1
        parts = [Gap(max(gap.first, first), min(gap.last, last)) for gap in self.gaps]
        wish = _number(near)
        candidates = [
            min(max(wish, part.first), part.last) for part in parts if part.first <= part.last
        ]
        if not candidates:
            return None
        minute = min(candidates, key=lambda one: (abs(one - wish), one))
        rest = Minutes((Gap(minute + 1, _FAR),)) if only_later else self._without(minute)
        return Taken(datetime.fromtimestamp(minute * 60, UTC), rest)

    def without(self, instant: datetime) -> "Minutes":
        """What is left where another stream has used the minute that holds an instant."""
        return self._without(_number(instant))

    def after(self, instant: datetime) -> "Minutes":
        """The minutes after the one that holds an instant, as if nothing later was ever used."""
        return Minutes((Gap(_number(instant) + 1, _FAR),))

    def _without(self, minute: int) -> "Minutes":
        gaps: list[Gap] = []
        for gap in self.gaps:
            if gap.first <= minute <= gap.last:
                halves = (Gap(gap.first, minute - 1), Gap(minute + 1, gap.last))
                gaps += [half for half in halves if half.first <= half.last]
            else:
                gaps.append(gap)
        widest = sorted(gaps, key=lambda gap: gap.first - gap.last)[:GAPS_MAX]
        return Minutes(tuple(sorted(widest)))


def _number(instant: datetime) -> int:
    return int(instant.timestamp()) // 60
