"""A table's stream in memory: shards that split and roll, and records as Lambda hands them over.

A shard owns a range of the items' hashes, so one item's changes stand in one shard in their order,
and after a split or a roll in that shard's children. Sequence numbers rise within a shard only;
their length grows within one too, so the order of their texts is not theirs. Source: AWS,
"DynamoDB Streams" and "Using Lambda with Amazon DynamoDB".
"""

from base64 import b64encode
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import blake2b
from itertools import pairwise
from operator import attrgetter
from random import Random
from typing import Any, NamedTuple

from local.stream_reader import Record
from tests.simulation.aws.dynamodb import Change

RETENTION = timedelta(hours=24)
REGION = "us-east-1"
_HASHES = 2**32
_STEP_BITS = 13
_START_BELOW = 2**17
_BYTES_PER_ATTRIBUTE = 20
"""About: nothing is billed here, nor cut, by a record's size."""
_DIGITS = (21, 39)
_TTL = {"type": "Service", "principalId": "dynamodb.amazonaws.com"}


class Entry(NamedTuple):
    """A record where it stands in its shard."""

    record: Record
    """Shared by all who are handed it, so nobody may change it."""
    created_at: datetime
    item: int
    """The hash of the item's key."""


@dataclass(slots=True, eq=False)
class Shard:
    """A log of the changes of all items whose hash is in `[low, high)`."""

    id: str
    parent: "Shard | None"
    low: int
    high: int
    position: int
    """The last sequence number given."""
    entries: list[Entry] = field(default_factory=list)
    """Expired ones too: who reads looks at their age."""
    closed_at: datetime | None = None
    """No record comes after it."""


class Stream:
    """One table's stream; `append` is what the table's changes are handed to."""

    def __init__(self, arn: str, shards: int, random: Random) -> None:
        self.arn = arn
        self.shards: list[Shard] = []
        """All that ever were, parents before children."""
        self._random = random
        edges = [number * _HASHES // shards for number in range(shards + 1)]
        self._open = [self._make(None, *edges[at : at + 2]) for at in range(shards)]
        self._lows = edges[:-1]

    @property
    def open_shards(self) -> tuple[Shard, ...]:
        """Those that take records, in the order of their ranges."""
        return tuple(self._open)

    def append(self, change: Change, now: datetime) -> None:
        """Put a change into the shard that owns its item."""
        item = _hash(change.keys)
        shard = self._open[bisect_right(self._lows, item) - 1]
        shard.position += 1 + self._random.getrandbits(_STEP_BITS)
        record = {
            "eventID": f"{self._random.getrandbits(128):032x}",
            "eventName": change.event_name,
            "eventVersion": "1.1",
            "eventSource": "aws:dynamodb",
            "awsRegion": REGION,
            "dynamodb": _image(change, shard.position, now),
            "eventSourceARN": self.arn,
        }
        if change.by_ttl:
            record["userIdentity"] = _TTL
        shard.entries.append(Entry(record, now, item))

    def split(self, shard: Shard, now: datetime) -> None:
        """Close a shard; two children take a half of its range each."""
        middle = (shard.low + shard.high) // 2
        self._replace(shard, (shard.low, middle, shard.high), now)

    def roll(self, now: datetime) -> None:
        """Close every open shard; one child takes each one's range, as every few hours on AWS."""
        for shard in self.open_shards:
            self._replace(shard, (shard.low, shard.high), now)

    def _replace(self, shard: Shard, edges: tuple[int, ...], now: datetime) -> None:
        shard.closed_at = now
        children = [self._make(shard, low, high) for low, high in pairwise(edges)]
        place = self._open.index(shard)
        self._open[place : place + 1] = children
        self._lows = list(map(attrgetter("low"), self._open))

    def _make(self, parent: Shard | None, low: int, high: int) -> Shard:
        # The first number stands just below a power of ten, so that its length soon grows.
        first = 10 ** self._random.randint(*_DIGITS) - self._random.randint(1, _START_BELOW)
        number = self._random.randrange(10**12, 2 * 10**12)
        shard_id = f"shardId-{number:020d}-{self._random.getrandbits(32):08x}"
        shard = Shard(shard_id, parent, low, high, first)
        self.shards.append(shard)
        return shard


def _hash(keys: Mapping[str, Any]) -> int:
    # A checksum would put items with similar keys side by side.
    text = str(sorted(keys.items())).encode()
    return int.from_bytes(blake2b(text, digest_size=4).digest())


def _image(change: Change, position: int, now: datetime) -> dict[str, Any]:
    """What a record tells of its change, under NEW_IMAGE; times are whole seconds."""
    told: dict[str, Any] = {
        "ApproximateCreationDateTime": float(int(now.timestamp())),
        "Keys": _as_json(change.keys),
        "SequenceNumber": str(position),
        "SizeBytes": _BYTES_PER_ATTRIBUTE * len(change.new_image or change.keys),
        "StreamViewType": "NEW_IMAGE",
    }
    if change.new_image is not None and change.event_name != "REMOVE":
        told["NewImage"] = _as_json(change.new_image)
    return told


def _as_json(item: Mapping[str, Any]) -> dict[str, Any]:
    """An item as it stands in JSON: what is flat as it is, binaries in base64."""
    return {
        name: value if "S" in value or "N" in value else _typed(value)
        for name, value in item.items()
    }


def _typed(value: Mapping[str, Any]) -> dict[str, Any]:
    ((kind, held),) = value.items()
    match kind:
        case "B":
            held = b64encode(held).decode()
        case "BS":
            held = [b64encode(one).decode() for one in held]
        case "M":
            held = _as_json(held)
        case "L":
            held = [_typed(one) for one in held]
    return {kind: held}
