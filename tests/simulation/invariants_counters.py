"""Whether counters hold what the ledger holds, at each write and in the end: I4."""

from collections import defaultdict
from datetime import datetime

from infra.tables import COUNTERS
from tests.simulation.aws.dynamodb import Change
from tests.simulation.invariants_items import (
    Entry,
    Epochs,
    Part,
    Sums,
    epochs_of,
    name,
    part_of,
    sums_of,
    together,
)
from tests.simulation.violation import Found
from tests.simulation.world import World

type _Counter = tuple[str, str, str]
LANE, BASE, RECOUNT = "L", "B", "A"


class CountersWatch:
    """Knows which record stands where in the stream, and so what each lane must hold."""

    def __init__(self, world: World, found: Found) -> None:
        self._world = world
        self._found = found
        self._records: dict[tuple[str, _Counter, datetime], list[tuple[int, Entry]]] = defaultdict(
            list
        )
        """By shard, counter and day."""
        self.changed_at: datetime = world.kernel.now
        """When counted usage last changed."""

    def appended(self, entry: Entry) -> None:
        """A new entry of the ledger: its record is the last of its shard."""
        key = name(entry.tenant, entry.key)
        for shard in self._world.stream.open_shards:
            if not shard.entries:
                continue
            record = shard.entries[-1].record["dynamodb"]
            is_readable = "q" in record["NewImage"]  # A poisoned one waits for a rebuild.
            if record["Keys"]["pk"]["S"] == key and is_readable:
                where = shard.id, (entry.tenant, entry.customer, entry.metric), _day(entry.at)
                self._records[where].append((int(record["SequenceNumber"]), entry))

    def changed(self, change: Change) -> None:
        """A lane holds what its shard brought up to its position, and nothing else."""
        part = part_of(change.new_image) if change.new_image is not None else None
        if part is None:
            return
        self.changed_at = self._world.kernel.now
        if part.part[0] == LANE:
            self._check_lane(part)

    def _check_lane(self, part: Part) -> None:
        epochs = self.epochs(part.tenant)
        if part.epoch not in {epochs.current, epochs.current + 1}:
            return
        cut, last = epochs.cut_of(part.epoch), int(part.position)
        shard = part.part.rpartition("#")[2]
        records = self._records.get((shard, part.counter, part.day), [])
        seen = [
            entry
            for position, entry in records
            if position <= last and (cut is None or entry.received_at >= cut)
        ]
        expected, held = together(map(sums_of, seen)), together(part.buckets.values())
        if held != expected:
            self._found.say(
                "I4",
                f"lane {part.part} of {_named(part.counter)} on {part.day:%Y-%m-%d} in epoch"
                f" {part.epoch} holds {held}; its shard's records up to its position come to"
                f" {expected}",
            )

    def epochs(self, tenant: str) -> Epochs:
        """Which counters of a tenant are read."""
        at = {"pk": {"S": "epochs"}, "sk": {"S": name(tenant)}}
        return epochs_of(self._world.tables.item(COUNTERS.name, at))

    # --- in the end ---

    def held(self) -> dict[_Counter, dict[datetime, Sums]]:
        """What counters hold, by the starts of their buckets, as whoever reads them adds it up."""
        current = {str(tenant): self.epochs(tenant).current for tenant in self._world.tenants}
        found: dict[_Counter, dict[datetime, Sums]] = defaultdict(dict)
        for item in self._world.tables.items(COUNTERS.name):
            part = part_of(item)
            if part is None or part.is_folded or part.epoch != current[part.tenant]:
                continue
            buckets = found[part.counter]
            for start, sums in part.buckets.items():
                buckets[start] = together([buckets[start], sums]) if start in buckets else sums
        return found

    def end(self, entries: list[Entry]) -> None:
        """All parts of a counter's day come to all of the day's entries."""
        expected: dict[tuple[_Counter, datetime], list[Sums]] = defaultdict(list)
        for entry in entries:
            counter = entry.tenant, entry.customer, entry.metric
            expected[counter, _day(entry.at)].append(sums_of(entry))
        found: dict[tuple[_Counter, datetime], list[Sums]] = defaultdict(list)
        for counter, buckets in self.held().items():
            for start, sums in buckets.items():
                found[counter, _day(start)].append(sums)
        for where in sorted(expected.keys() | found.keys()):
            held, due = together(found.get(where, ())), together(expected.get(where, ()))
            if held != due:
                self._found.say(
                    "I4",
                    f"{_named(where[0])} on {where[1]:%Y-%m-%d}: the counter holds {held}, the"
                    f" ledger {due}",
                )


def _named(counter: _Counter) -> str:
    tenant, customer, metric = counter
    return f"{metric} of {customer} ({tenant})"


def _day(at: datetime) -> datetime:
    return at.replace(hour=0, minute=0, second=0, microsecond=0)
