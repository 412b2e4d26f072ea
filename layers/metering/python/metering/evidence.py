"""Which minutes of a running total at Stripe explain why it is not what our pushes add up to.

Each push of ours has a minute of its own, so a minute that holds something else names its push. All
numbers are scaled units, as Stripe holds them.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import Enum
from typing import NamedTuple

from metering.names import Identifier
from metering.period import Span
from metering.push import ONE_MINUTE, Push, PushState, PushStream, StreamKind

NEIGHBOURS = timedelta(minutes=10)
"""How far from its own minute a push of ours is looked for: twice a clock's tolerated skew."""


class Told(NamedTuple):
    """A push that Stripe took, and the stream that it belongs to."""

    stream_id: str
    push: Push
    value: int
    """What it adds to its minute: its delta, or of a value that is set all of it."""
    earlier: tuple[int, ...] = ()
    """Of a value that is set: what was set in the same minute before, and may still stand there."""


type ByMinute = Mapping[datetime, Sequence[Told]]


def told_by_minute(histories: Iterable[tuple[PushStream, Sequence[Push]]]) -> ByMinute:
    """The pushes that must be in Stripe's total, by the minute that each is stamped with."""
    minutes: dict[datetime, list[Told]] = {}
    for stream, pushes in histories:
        for told in _values_of(stream, pushes):
            minutes.setdefault(told.push.occurred_at, []).append(told)
    return minutes


def _values_of(stream: PushStream, pushes: Sequence[Push]) -> Iterator[Told]:
    taken = [one for one in pushes if one.state in {PushState.ACCEPTED, PushState.COUNTED}]
    if stream.kind is StreamKind.DELTA:
        yield from (Told(stream.key.id, push, push.delta) for push in taken)
    elif taken:
        # Of values that are set only the newest stands.
        newest = taken[-1]
        earlier = tuple(int(one.value) for one in pushes[: pushes.index(newest)])
        yield Told(stream.key.id, newest, stream.accepted, earlier)


def expected_in(minutes: ByMinute, span: Span) -> int:
    """What our pushes put into a stretch of time."""
    return sum(told.value for at, all_told in minutes.items() if at in span for told in all_told)


class Sign(Enum):
    """What a minute that holds something else than we put there says."""

    MISSING = "missing"
    """Exactly one push of ours is missing there."""
    TWICE = "twice"
    """Exactly one push of ours is there once too often."""
    SHIFTED = "shifted"
    """A push of ours is missing there and stands in a minute nearby."""
    OTHER = "other"
    """No push of ours explains it."""


class MinuteSeen(NamedTuple):
    """A minute that holds something else than our pushes put there."""

    at: datetime
    expected: int
    seen: int
    sign: Sign
    told: Told | None = None
    """The push that it is about; None when it is about none of ours."""
    seen_at: datetime | None = None
    """Where else the push was seen, when it is shifted."""
    effect: int = 0
    """How much it makes the period's total too small; negative: too great. A push that is shifted
    within its period makes no difference."""

    @property
    def span(self) -> Span:
        """The minute itself."""
        return Span(self.at, self.at + ONE_MINUTE)

    @property
    def is_absent(self) -> bool:
        """Whether nothing of the push stands there: the minute is empty, or as it was before it."""
        if self.sign is not Sign.MISSING or self.told is None:
            return False
        return self.seen == 0 or self.seen in self.told.earlier


class SpanSeen(NamedTuple):
    """What an hour, or a part of one at the period's bounds, should hold and holds."""

    span: Span
    expected: int
    seen: int


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a search through a total's hours and minutes has found."""

    hours: Sequence[SpanSeen] = ()
    """Every hour in which we told something or Stripe holds something."""
    minutes: Sequence[MinuteSeen] = ()
    first_looks: Mapping[Identifier, datetime] = field(default_factory=dict)
    """When the minutes of missing pushes were first found empty."""
    is_complete: bool = True
    """Whether the budget sufficed to look into every hour that differs."""

    def part_of(
        self, own: AbstractSet[str], others: AbstractSet[str], *, is_first: bool
    ) -> "Evidence":
        """What concerns one of the counters that feed a total, by the ids of its streams.

        Whatever is about none of them (`others` are the rest of them) goes to the first.
        """
        minutes = [
            one
            for one in self.minutes
            if (one.told and one.told.stream_id in own)
            or (is_first and not (one.told and one.told.stream_id in others))
        ]
        return replace(self, hours=self.hours if is_first else (), minutes=minutes)


def together(parts: Sequence[Evidence]) -> Evidence:
    """What was found of several totals that one counter feeds."""
    looks: dict[Identifier, datetime] = {}
    for part in parts:
        looks |= part.first_looks
    return Evidence(
        hours=[hour for part in parts for hour in part.hours],
        minutes=[minute for part in parts for minute in part.minutes],
        first_looks=looks,
        is_complete=all(part.is_complete for part in parts),
    )


def sign_of(at: datetime, all_told: Sequence[Told], seen: int) -> MinuteSeen | None:
    """What one minute's total says; None when it is what our pushes put there."""
    expected = sum(told.value for told in all_told)
    gap = expected - seen
    if gap == 0:
        return None
    for told in all_told:
        still_before = len(all_told) == 1 and seen in told.earlier
        if told.value == gap or still_before:
            return MinuteSeen(at, expected, seen, Sign.MISSING, told, effect=gap)
    for told in all_told:
        if told.value == -gap:
            return MinuteSeen(at, expected, seen, Sign.TWICE, told, effect=gap)
    return MinuteSeen(at, expected, seen, Sign.OTHER, effect=gap)


def paired(minutes: Sequence[MinuteSeen], period: Span) -> list[MinuteSeen]:
    """The minutes, where a missing push that stands in a minute nearby is one thing, not two.

    The minute that holds it is left out; it may lie in the period before or after.
    """
    strays = [one for one in minutes if one.sign is Sign.OTHER]
    found: list[MinuteSeen] = []
    for one in minutes:
        stray = _stray_of(one, strays) if one.sign is Sign.MISSING else None
        if stray is not None:
            strays.remove(stray)
            found.append(_shifted(one, stray, period))
        elif one.sign is not Sign.OTHER:
            found.append(one)
    within = [one for one in [*found, *strays] if one.at in period]
    return sorted(within, key=lambda one: one.at)


def _stray_of(missing: MinuteSeen, strays: Sequence[MinuteSeen]) -> MinuteSeen | None:
    assert missing.told is not None
    near = [
        stray
        for stray in strays
        if stray.effect == -missing.told.value and abs(stray.at - missing.at) <= NEIGHBOURS
    ]
    return min(near, key=lambda stray: abs(stray.at - missing.at), default=None)


def _shifted(missing: MinuteSeen, stray: MinuteSeen, period: Span) -> MinuteSeen:
    """Told of the minute that lies in the period; where both do, of the push's own."""
    effect = sum(one.effect for one in (missing, stray) if one.at in period)
    base = missing if missing.at in period else stray
    return base._replace(sign=Sign.SHIFTED, told=missing.told, seen_at=stray.at, effect=effect)
