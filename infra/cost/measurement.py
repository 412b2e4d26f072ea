"""What the functions were measured to take; a stored one stands beside this file.

All that the arithmetic knows of the product comes from here. `make cost` measures anew.
"""

import tomllib
from dataclasses import dataclass, fields
from decimal import Decimal
from pathlib import Path
from typing import Any, Self

STORED = Path(__file__).parent / "measured.toml"


@dataclass(frozen=True, slots=True)
class Taken:
    """What one invocation of a function took, on average."""

    of: Decimal
    """How many events, counters or rows it dealt with; 1 where it found nothing to do."""
    cpu_ms: Decimal
    """CPU of one core of the machine that measured."""
    counters_read: Decimal = Decimal(0)
    """Read units of the counters table."""
    others_read: Decimal = Decimal(0)
    """Read units of all other tables."""
    written: Decimal = Decimal(0)
    """Write units, those of indexes included."""
    items: Decimal = Decimal(0)
    """Items that were written."""
    log_bytes: Decimal = Decimal(0)
    answer_bytes: Decimal = Decimal(0)

    @property
    def read(self) -> Decimal:
        """Read units of all tables."""
        return self.counters_read + self.others_read

    def each(self) -> "Taken":
        """What that is for each event, counter or row."""
        return Taken(*(getattr(self, one.name) / self.of for one in fields(self)))

    def beyond(self, idle: "Taken") -> "Taken":
        """What it took more than an invocation that found nothing to do."""
        more = {
            one.name: max(getattr(self, one.name) - getattr(idle, one.name), Decimal(0))
            for one in fields(self)
        }
        return Taken(**more | {"of": self.of})


@dataclass(frozen=True, slots=True)
class Measurement:
    """All that is measured; each of its parts is named after what was done."""

    at: str
    """The day, the commit, the machine and the command that made it, for people."""
    entry_bytes: Decimal
    """Of an event in the ledger, without what the event index adds."""
    indexed_bytes: Decimal
    """Of the same with the index's keys; the index holds as much again."""
    lane_bytes: Decimal

    single: Taken
    """Ingest, one event a request."""
    batch: Taken
    """Ingest, a hundred events a request."""
    single_indexed: Taken
    batch_indexed: Taken
    queue_single: Taken
    """A hundred messages of one event each."""
    queue_batch: Taken
    """Ten messages of a hundred events each."""
    recounted: Taken
    """Entries that a recount reads in one pass over the ledger; CPU alone."""
    folded_1: Taken
    """The aggregator, warm, one record."""
    folded_60: Taken
    folded_500: Taken
    folded_cold: Taken
    """The first batch of a process; `of` counts counters."""
    writer_idle: Taken
    writer_new: Taken
    """Streams that had no push yet in their period."""
    writer_more: Taken
    """Streams that had."""
    writer_looked: Taken
    """Changed counters that need no push."""
    reconciler_idle: Taken
    reconciler_first: Taken
    """Rows whose total at Stripe was read, all of them."""
    reconciler_again: Taken
    """Rows of which nothing changed."""
    period_closer: Taken
    rebuilder: Taken
    lane_folder: Taken

    @classmethod
    def load(cls, path: Path = STORED) -> Self:
        """Read what `dump` wrote.

        Raises:
            FileNotFoundError: there is no such file.
            TypeError: it is of another version of this program; measure anew.
        """
        table = tomllib.loads(path.read_text(), parse_float=Decimal)
        return cls(**{name: _read(value) for name, value in table.items()})

    def dump(self) -> str:
        """As TOML."""
        plain = [
            f"{one.name} = {_shown(getattr(self, one.name))}"
            for one in fields(self)
            if one.type is not Taken
        ]
        parts = [
            f"\n[{one.name}]\n" + _rows(getattr(self, one.name))
            for one in fields(self)
            if one.type is Taken
        ]
        return "\n".join([*plain, *parts]) + "\n"


def _read(value: Any) -> Any:
    if isinstance(value, dict):
        return Taken(**{name: Decimal(number) for name, number in value.items()})
    return value if isinstance(value, str) else Decimal(value)


def _rows(taken: Taken) -> str:
    return "\n".join(f"{one.name} = {_shown(getattr(taken, one.name))}" for one in fields(taken))


def _shown(value: Decimal | str) -> str:
    return f'"{value}"' if isinstance(value, str) else f"{value:.4f}".rstrip("0").rstrip(".")
