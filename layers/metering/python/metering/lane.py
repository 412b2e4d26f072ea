"""Lanes: how a counter is written exactly once from streams that repeat themselves.

A lane is one stream shard's part of a counter's bucket. It holds a whole aggregate and the position
in the shard that the aggregate includes, and it is only ever written from the state that was read:
`position = previous` is the condition. So a repeated batch is skipped, a re-cut batch adds only its
unseen tail, of two writers at once one is refused, and a request that arrives late is refused too.
The one assumption is that a shard's first delivery is in order.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Inexact
from typing import NamedTuple

from metering.counter import NO_USAGE, Buckets, CounterKey, usage_of
from metering.event import LedgerEntry

POSITION_DIGITS = 40
"""DynamoDB's sequence numbers have 21 to 40 digits; padded, text compares as numbers do."""


class LaneKey(NamedTuple):
    """One stream shard's part of one counter's UTC day, in one epoch."""

    counter: CounterKey
    day: datetime
    epoch: int
    shard: str
    """Stream and shard, `<stream>#<shard id>`."""


@dataclass(frozen=True, slots=True)
class Lane:
    """What a lane holds: usage of the shard's records of its day, up to and with `position`.

    All buckets of the day share the position. Where a billing period is cut within the day is a
    setting; it decides into which bucket a record goes and never whether it is counted again.
    """

    position: str = ""
    """Padded sequence number; empty before the first write."""
    buckets: Buckets = field(default_factory=dict)
    folded: bool = False
    """Its usage is part of the day's base by now; it takes no more records."""


class Record(NamedTuple):
    """A ledger entry as the stream brought it."""

    position: str
    entry: LedgerEntry


class Placed(NamedTuple):
    """A record and the start of the bucket that it goes into."""

    record: Record
    bucket: datetime


class Unreadable(NamedTuple):
    """Something in the stream that is no ledger entry."""

    position: str
    reason: str
    image: str


@dataclass(frozen=True, slots=True)
class Advance:
    """One step of a lane: from the state that was read to the one to be written."""

    before: Lane
    after: Lane
    unfoldable: tuple[Record, ...] = ()
    """Records whose quantity cannot be added exactly; passed over, to be quarantined."""


def position_of(sequence_number: str) -> str:
    """A stream's sequence number as a text that compares as the number does."""
    return sequence_number.zfill(POSITION_DIGITS)


def advance(lane: Lane, records: Sequence[Placed]) -> Advance | None:
    """The step that folds in what the lane has not seen of `records`, in shard order.

    None when it has seen them all.
    """
    unseen = [placed for placed in records if placed.record.position > lane.position]
    if not unseen:
        return None
    if lane.folded:  # A shard is read for 24 hours and folded after 48: this record is beyond both.
        return Advance(lane, lane, tuple(placed.record for placed in unseen))
    buckets = dict(lane.buckets)
    unfoldable = []
    for record, start in unseen:
        try:
            buckets[start] = buckets.get(start, NO_USAGE) + usage_of(record.entry)
        except Inexact:
            unfoldable.append(record)
    after = Lane(unseen[-1].record.position, buckets)
    return Advance(lane, after, tuple(unfoldable))
