"""One table as it is stored: its items, its indexes (which lag), and as much past as is asked for.

Nothing here refuses a request; `dynamodb.py` has checked it before.
"""

import heapq
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from infra.tables import Table
from tests.simulation.aws.items import Item, Row
from tests.simulation.aws.shelf import Key, Shelf
from tests.simulation.aws.weather import Weather


class LaggingIndex:
    """A global secondary index; a write is seen in it when the weather lets it."""

    def __init__(self, partition_key: str, sort_key: str) -> None:
        self.shelf = Shelf(partition_key, sort_key)
        self._underway: list[tuple[datetime, int, Key, Row | None]] = []
        self._latest: dict[Key, int] = {}
        self._number = 0

    def write(self, key: Key, row: Row | None, visible_at: datetime, now: datetime) -> None:
        """Take a write, to be seen from `visible_at` on."""
        if visible_at <= now and not self._underway:
            self.shelf.set(key, row)
            return
        self._number += 1
        heapq.heappush(self._underway, (visible_at, self._number, key, row))

    def seen(self, now: datetime) -> Shelf:
        """The index as it answers now; writes to one item are never seen in the wrong order."""
        while self._underway and self._underway[0][0] <= now:
            _, number, key, row = heapq.heappop(self._underway)
            if number > self._latest.get(key, 0):
                self._latest[key] = number
                self.shelf.set(key, row)
        if not self._underway:
            self._latest.clear()
        return self.shelf


@dataclass(slots=True)
class Former:
    """What stood at a key until it was written at an instant; None: nothing."""

    until: datetime
    key: Key
    row: Row | None


class StoredTable:
    """Rows by key; the empty row of a key that nothing stands at is None."""

    def __init__(self, table: Table, name: str, weather: Weather, *, indexes: bool) -> None:
        request = table.creation_request(indexes=indexes)
        kept = {one["IndexName"] for one in request.get("GlobalSecondaryIndexes", ())}
        self.table = table
        self.name = name
        self.own = Shelf(table.partition_key, table.sort_key)
        self.indexes = {
            index.name: LaggingIndex(index.partition_key, index.sort_key)
            for index in table.indexes
            if index.name in kept
        }
        self._weather = weather
        self._past: deque[Former] = deque()
        self._expiring: list[tuple[datetime, int, Key, Row]] = []
        self._writes = 0

    @property
    def key_names(self) -> tuple[str, ...]:
        """The attributes of the primary key."""
        sort = self.table.sort_key
        return (self.table.partition_key, sort) if sort else (self.table.partition_key,)

    def key_of(self, item: Item) -> Item:
        """The attributes of an item that are its key."""
        return {name: item[name] for name in self.key_names}

    # --- writing ---

    def set(self, key: Key, row: Row | None, now: datetime) -> None:
        """Put a row at a key, or take it away."""
        if self._weather.read_age_max:
            self._remember(key, now)
        self.own.set(key, row)
        for index in self.indexes.values():
            index.write(key, row, now + self._weather.index_delay(), now)
        if self.table.expires_by and row is not None and self.table.expires_by in row.item:
            self._watch(key, row)

    def restore(self, rows: Mapping[Key, Row], now: datetime) -> None:
        """Hold these rows and no others; there is no past then."""
        for key in [*self.own.rows, *rows]:
            self.set(key, rows.get(key), now)
        self._past.clear()

    def _remember(self, key: Key, now: datetime) -> None:
        self._past.append(Former(now, key, self.own.rows.get(key)))
        while self._past[0].until < now - self._weather.read_age_max:
            self._past.popleft()

    def _watch(self, key: Key, row: Row) -> None:
        expires = row.item[self.table.expires_by or ""]
        if "N" not in expires:
            return
        self._writes += 1
        at = datetime.fromtimestamp(int(expires["N"]), UTC) + self._weather.ttl_delay()
        heapq.heappush(self._expiring, (at, self._writes, key, row))

    def expired(self, now: datetime) -> Iterator[Key]:
        """The items to be deleted by now, each once; one written anew has another end."""
        while self._expiring and self._expiring[0][0] <= now:
            _, _, key, row = heapq.heappop(self._expiring)
            if self.own.rows.get(key) is row:
                yield key

    # --- reading ---

    def row_at(self, key: Key, instant: datetime) -> Row | None:
        """What stood at a key at an instant that is no longer ago than `read_age_max`."""
        for former in self._past:
            if former.until > instant and former.key == key:
                return former.row
        return self.own.rows.get(key)

    def at(self, instant: datetime) -> Shelf:
        """The whole table as it was at an instant that is no longer ago than `read_age_max`."""
        past = Shelf(self.own.partition_key, self.own.sort_key)
        changed = dict.fromkeys(former.key for former in self._past if former.until > instant)
        if not changed:
            return self.own
        for key in self.own.rows | changed:
            past.set(key, self.row_at(key, instant))
        return past
