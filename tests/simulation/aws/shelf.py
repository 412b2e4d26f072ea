"""Items in order: a table's own, or those of one of its indexes."""

import zlib
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator
from dataclasses import dataclass
from operator import itemgetter

from tests.simulation.aws.items import Item, Row

type Key = tuple[str, str]
"""Of an item: its partition key and its sort key (empty in tables that have none)."""

type Entry = tuple[str, Key]
"""An item's place in its partition: the sort key there, then the item's own key."""

_sort_key = itemgetter(0)


@dataclass(frozen=True, slots=True)
class Range:
    """The sort keys from `low` to `high`; None: without a bound."""

    low: str | None = None
    high: str | None = None
    low_included: bool = True
    high_included: bool = True

    def of(self, entries: list[Entry]) -> list[Entry]:
        """Those within."""
        start, end = 0, len(entries)
        if self.low is not None:
            bisect = bisect_left if self.low_included else bisect_right
            start = bisect(entries, self.low, key=_sort_key)
        if self.high is not None:
            bisect = bisect_right if self.high_included else bisect_left
            end = bisect(entries, self.high, key=_sort_key)
        return entries[start:end]


class Shelf:
    """Rows by key, and their order within each partition of two of their attributes."""

    def __init__(self, partition_key: str, sort_key: str | None) -> None:
        self.partition_key = partition_key
        self.sort_key = sort_key
        self.rows: dict[Key, Row] = {}
        self._partitions: dict[str, list[Entry]] = {}

    def place(self, item: Item) -> Key | None:
        """Partition and sort key of an item here; None when it lacks one of them."""
        partition = item.get(self.partition_key)
        if partition is None:
            return None
        if self.sort_key is None:
            return partition["S"], ""
        sort = item.get(self.sort_key)
        return None if sort is None else (partition["S"], sort["S"])

    def set(self, key: Key, row: Row | None) -> None:
        """Put a row in the place of the one with the same key; None takes it away."""
        before = self.rows.get(key)
        old = self.place(before.item) if before is not None else None
        new = self.place(row.item) if row is not None else None
        if old is not None and old != new:
            self._forget(old, key)
        if row is None or new is None:
            self.rows.pop(key, None)
            return
        self.rows[key] = row
        if old != new:
            insort(self._partitions.setdefault(new[0], []), (new[1], key))

    def _forget(self, place: Key, key: Key) -> None:
        partition, sort = place
        entries = self._partitions[partition]
        del entries[bisect_left(entries, (sort, key))]
        if not entries:
            del self._partitions[partition]

    def of_partition(self, partition: str, within: Range) -> list[Entry]:
        """A partition's entries in the order of their sort keys."""
        return within.of(self._partitions.get(partition, []))

    def scanned(self, after: tuple[str, Entry] | None) -> Iterator[Entry]:
        """All entries in the order of a scan, or those after the one given by partition.

        Partitions come in the order of a hash, as they do from DynamoDB: nobody can rely on it.
        """
        start = (_hash(after[0]), after[0]) if after else (-1, "")
        for number, partition in sorted((_hash(name), name) for name in self._partitions):
            if (number, partition) < start:
                continue
            entries = self._partitions[partition]
            is_start = after is not None and partition == after[0]
            yield from entries[bisect_right(entries, after[1]) if after and is_start else 0 :]


def _hash(partition: str) -> int:
    return zlib.crc32(partition.encode())
