"""Folding lanes at rest into their day's base, so that a counter stays a handful of items.

A stream shard is read for 24 hours. A lane untouched for 48 takes no more records, so its usage may
move into the base. The base's write and the lanes' marks are one transaction; the lanes themselves
are removed by a later run, so that a reader who met the old base still finds them.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import batched
from types import MappingProxyType
from typing import NamedTuple, Protocol

from metering.counter import Buckets, sum_of_buckets
from metering.lane import Lane, LaneKey
from metering.names import TenantId
from metering.ports import Clock, EpochReader

AT_REST_AFTER = timedelta(hours=48)
REMOVED_AFTER = timedelta(hours=1)
LANES_PER_FOLD = 50
"""Of one base in one transaction, which takes 100 items."""


class Base(NamedTuple):
    """What was folded from lanes at rest; each fold raises the version."""

    version: int = 0
    buckets: Buckets = MappingProxyType({})


class StoredLane(NamedTuple):
    """A lane as a scan of the table meets it."""

    key: LaneKey
    lane: Lane
    touched_at: datetime


class LaneStore(Protocol):
    """The counters table, as folding needs it."""

    def stored_lanes(self) -> Iterator[StoredLane]:
        """Every lane of every counter, folded ones included."""
        ...

    def base(self, key: LaneKey) -> Base:
        """The base of a lane's day, read consistently."""
        ...

    def fold(self, lanes: Sequence[StoredLane], before: Base, after: Base, now: datetime) -> bool:
        """Write the base and mark its lanes as folded, all or nothing.

        False when the base or a lane is not as it was read.
        """
        ...

    def remove(self, lanes: Iterable[LaneKey]) -> None:
        """Remove lanes that are folded, or whose epoch nobody reads any more."""
        ...


@dataclass(frozen=True, slots=True)
class FoldReport:
    """What one run did."""

    folded: int
    removed: int
    skipped: int
    """Lanes that somebody changed meanwhile; the next run meets them again."""


class LaneFolder:
    """Folds and removes lanes."""

    def __init__(self, store: LaneStore, epochs: EpochReader, clock: Clock) -> None:
        self._store = store
        self._epochs = epochs
        self._clock = clock

    def run(self) -> FoldReport:
        """Fold every lane at rest; may be killed and run again at any point."""
        now = self._clock.now()
        at_rest: Mapping[LaneKey, list[StoredLane]] = defaultdict(list)
        removable = []
        for stored in self._store.stored_lanes():
            if self._is_removable(stored, now):
                removable.append(stored.key)
            elif not stored.lane.folded and stored.touched_at <= now - AT_REST_AFTER:
                at_rest[stored.key._replace(shard="")].append(stored)
        self._store.remove(removable)
        chunks = [chunk for lanes in at_rest.values() for chunk in _chunks(lanes)]
        folded = sum(len(chunk) for chunk in chunks if self._fold(chunk, now))
        return FoldReport(folded, len(removable), sum(map(len, chunks)) - folded)

    def _is_removable(self, stored: StoredLane, now: datetime) -> bool:
        # The epoch before the current one may still be read by whoever has it in the cache: half
        # removed, it would tell Stripe to take usage back. It goes with the next rebuild.
        if stored.key.epoch < self._current_epoch(stored.key.counter.tenant) - 1:
            return True
        return stored.lane.folded and stored.touched_at <= now - REMOVED_AFTER

    def _current_epoch(self, tenant: TenantId) -> int:
        return self._epochs.of(tenant).current

    def _fold(self, lanes: Sequence[StoredLane], now: datetime) -> bool:
        before = self._store.base(lanes[0].key)
        buckets = sum_of_buckets([before.buckets, *(stored.lane.buckets for stored in lanes)])
        return self._store.fold(lanes, before, Base(before.version + 1, buckets), now)


def _chunks(lanes: Sequence[StoredLane]) -> Iterator[tuple[StoredLane, ...]]:
    return batched(lanes, LANES_PER_FOLD, strict=False)
