"""How long usage has waited for Stripe, for operators: how old, how doubtful, and how urgent it is.

Told from what a run of the writer knows at its end: the streams in need, and how far it has looked
through the changed counters. Usage that no stream tells yet is as old as the oldest change that was
not looked at.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from metering.push import PushState, PushStream

LATE_AFTER = timedelta(minutes=15)
"""What waits no longer than this is on its way: a run each minute, and a few repeats."""
NOTHING_ENDS = timedelta(days=31)
"""Stands where no usage is late: a month, as long as a period may well last."""


class Backlog(NamedTuple):
    """What waits for Stripe; ages are zero where nothing waits."""

    oldest_unsent: timedelta
    """How long the oldest usage that Stripe has not accepted has waited."""
    oldest_unresolved: timedelta
    """How long ago the oldest push without a known outcome was first sent."""
    ends_in: timedelta
    """Until the first end of a period of which usage is late; `NOTHING_ENDS` where none is."""
    stopped: int
    """Streams that tell nothing until a person has decided."""

    def told(self) -> dict[str, float]:
        """For the log and the caller, spans in seconds."""
        second = timedelta(seconds=1)
        spans = {f"{name}_s": getattr(self, name) / second for name in _SPANS}
        return spans | {"stopped": self.stopped}


_SPANS = ("oldest_unsent", "oldest_unresolved", "ends_in")


def backlog_of(in_need: Sequence[PushStream], looked_from: datetime, now: datetime) -> Backlog:
    """The backlog as it stands; all changes of counters before `looked_from` were dealt with."""
    waiting = [(stream, now - since) for stream in in_need for since in _waits_since(stream)]
    unresolved = [now - at for stream in in_need for at in _unresolved_since(stream)]
    ends = [
        stream.key.period.end - now
        for stream, age in waiting
        if age >= LATE_AFTER and now < stream.key.period.end
    ]
    return Backlog(
        oldest_unsent=max([timedelta(), now - looked_from, *(age for _, age in waiting)]),
        oldest_unresolved=max([timedelta(), *unresolved]),
        ends_in=min([NOTHING_ENDS, *ends]),
        stopped=sum(one.stopped is not None and one.stopped.until is None for one in in_need),
    )


def _waits_since(stream: PushStream) -> Iterator[datetime]:
    if stream.open is not None:
        yield stream.open.planned_at
    if stream.stopped is not None:
        yield stream.stopped.since
    if stream.item is not None:
        yield stream.item.planned_at


def _unresolved_since(stream: PushStream) -> Iterator[datetime]:
    """Of a push that has left, or may have: its first attempt."""
    push = stream.open
    if push is not None and push.state is not PushState.PLANNED and push.first_attempt_at:
        yield push.first_attempt_at
