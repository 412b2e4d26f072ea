"""Stored items as checkers read them: by the layouts that the product documents, without its code.

The attributes are those of `metering/adapters/dynamodb/*_item.py`.
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from decimal import Context, Decimal
from functools import lru_cache, reduce
from typing import Any, NamedTuple

type Item = Mapping[str, Any]

ZERO = Decimal(0)
WIDE = Context(prec=60)
"""Wider than any sum here: nothing is rounded."""


def name(*parts: str) -> str:
    """Parts as one text of keys: each with its length before it."""
    return "".join(f"{len(part)}:{part}" for part in parts)


def parts_of(text: str) -> list[str]:
    """The parts of such a text."""
    parts = []
    while text:
        length, _, rest = text.partition(":")
        parts.append(rest[: int(length)])
        text = rest[int(length) :]
    return parts


@lru_cache(maxsize=4096)
def instant(text: str) -> datetime:
    """Of a text with an offset."""
    at = datetime.fromisoformat(text)
    assert at.tzinfo is not None, f"{text} has no offset"
    return at.astimezone(UTC)


class Entry(NamedTuple):
    """An item of the ledger."""

    tenant: str
    key: str
    metric: str
    customer: str
    quantity: Decimal
    at: datetime
    received_at: datetime
    meta: str
    is_late: bool
    kind: str
    """`usage`, or the kind of a decision."""


def entry_of(item: Item) -> Entry:
    """The entry that an item of `events` holds."""
    return Entry(
        item["t"]["S"],
        item["k"]["S"],
        item["m"]["S"],
        item["c"]["S"],
        Decimal(item["q"]["N"]),
        instant(item["ts"]["S"]),
        instant(item["ra"]["S"]),
        item["meta"]["S"] if "meta" in item else "{}",
        "late" in item,
        item["kd"]["S"] if "kd" in item else "usage",
    )


APPROVAL, REVERT = "adjustment:late:", "adjustment:late-revert:"
"""How the keys of approvals begin, and of what takes them back."""


class Sums(NamedTuple):
    """What a counter holds of some entries: n, sum, max and last of those that count, and more."""

    n: int = 0
    sum: Decimal = ZERO
    max: Decimal | None = None
    last: tuple[datetime, str, Decimal] | None = None
    late_n: int = 0
    late_sum: Decimal = ZERO
    adjusted: Decimal = ZERO
    entries: int = 0

    def value(self, aggregation: str) -> Decimal:
        """The counter's number."""
        match aggregation:
            case "sum":
                found = self.sum
            case "count":
                found = Decimal(self.n)
            case "max":
                found = self.max or ZERO
            case _:
                found = self.last[2] if self.last else ZERO
        return WIDE.add(found, self.adjusted)

    def __str__(self) -> str:
        return (
            f"{self.entries} entries ({self.n} events of {self.sum}, greatest {self.max},"
            f" last {self.last[2] if self.last else None}, late {self.late_n} of {self.late_sum},"
            f" adjusted by {self.adjusted})"
        )


NOTHING = Sums()


def sums_of(entry: Entry) -> Sums:
    """What one entry adds."""
    quantity = entry.quantity
    match entry.kind:
        case "usage" if entry.is_late:
            return Sums(late_n=1, late_sum=quantity, entries=1)
        case "usage":
            return Sums(1, quantity, quantity, (entry.at, entry.key, quantity), entries=1)
        case "approval":
            last = entry.at, entry.key.removeprefix(APPROVAL), quantity
            return Sums(1, quantity, quantity, last, -1, -quantity, entries=1)
        case "approval_revert":
            return Sums(-1, quantity, entries=1)
        case _:
            return Sums(adjusted=quantity, entries=1)


def together(parts: Iterable[Sums]) -> Sums:
    """What several hold; they share no entry."""
    return reduce(_added, parts, NOTHING)


def _added(one: Sums, other: Sums) -> Sums:
    greatest = [each for each in (one.max, other.max) if each is not None]
    newest = [each for each in (one.last, other.last) if each is not None]
    return Sums(
        one.n + other.n,
        WIDE.add(one.sum, other.sum),
        max(greatest) if greatest else None,
        max(newest) if newest else None,
        one.late_n + other.late_n,
        WIDE.add(one.late_sum, other.late_sum),
        WIDE.add(one.adjusted, other.adjusted),
        one.entries + other.entries,
    )


class Part(NamedTuple):
    """One item of a counter's day: a lane, the base of former lanes, or a recount."""

    tenant: str
    customer: str
    metric: str
    day: datetime
    epoch: int
    part: str
    """`A` a recount, `B` a base, `L` and its shard a lane."""
    position: str
    is_folded: bool
    """Its usage is part of the base."""
    buckets: Mapping[datetime, Sums]

    @property
    def counter(self) -> tuple[str, str, str]:
        """Whose usage of what."""
        return self.tenant, self.customer, self.metric


def part_of(item: Item) -> Part | None:
    """A part of a counter; None for the table's other items."""
    partition, sort_key = item["pk"]["S"], item["sk"]["S"]
    if "b" not in item or not partition[:1].isdigit() or sort_key[:1] != "e":
        return None
    tenant, customer = parts_of(partition)
    epoch, day, rest = sort_key.split("#", 2)
    length, _, rest = rest.partition(":")
    metric, part = rest[: int(length)], rest[int(length) :]
    position = item["h"]["S"] if "h" in item else ""
    buckets = {instant(at): _held(value["M"]) for at, value in item["b"]["M"].items()}
    where = int(epoch[1:]), part, position, "fv" in item
    return Part(tenant, customer, metric, instant(day), *where, buckets)


def _held(value: Item) -> Sums:
    """What a bucket says that it holds."""
    counted = value["c"]["M"]
    late = value["l"]["M"] if "l" in value else {}
    n, late_n = (int(one["n"]["N"]) if one else 0 for one in (counted, late))
    last = None
    if "k" in counted:
        last = instant(counted["t"]["S"]), counted["k"]["S"], Decimal(counted["q"]["N"])
    return Sums(
        n,
        Decimal(counted["s"]["N"]) if counted else ZERO,
        Decimal(counted["x"]["N"]) if "x" in counted else None,
        last,
        late_n,
        Decimal(late["s"]["N"]) if late else ZERO,
        Decimal(value["a"]["N"]) if "a" in value else ZERO,
        int(value["e"]["N"]) if "e" in value else n + late_n,
    )


class Epochs(NamedTuple):
    """Which counters of a tenant are read, and which are being built."""

    current: int
    cut_at: datetime | None
    """What was received before this is in the recount, not in the lanes."""
    next_cut_at: datetime | None

    def cut_of(self, epoch: int) -> datetime | None:
        """From when on an epoch's lanes hold what was received; None: everything."""
        return self.cut_at if epoch == self.current else self.next_cut_at


def epochs_of(item: Item | None) -> Epochs:
    """The epochs of a tenant's item; without one the first alone."""
    if item is None:
        return Epochs(1, None, None)
    cuts = (instant(item[one]["S"]) if one in item else None for one in ("cut", "next_cut"))
    return Epochs(int(item["current"]["N"]), *cuts)


def numbers_of(value: Any) -> Iterator[object]:
    """What stands under `N` anywhere in a value."""
    for kind, held in value.items():
        if kind == "N":
            yield held
        elif kind == "M":
            for one in held.values():
                yield from numbers_of(one)
        elif kind == "L":
            for one in held:
                yield from numbers_of(one)
