"""When all is quiet again: the model, the ledger, the counters, the pushes and Stripe's own books.

Neighbours are compared, so that a wrong number is named where it arose: the model and the ledger
(I20), the ledger and the counters (I4), the counters and the pushes, the pushes and Stripe (I16).
"""

from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime, timedelta

from infra.tables import TABLES
from tests.simulation.clients import LATENESS, METRICS
from tests.simulation.draw import Kind
from tests.simulation.invariants_apart import Apart
from tests.simulation.invariants_counters import CountersWatch
from tests.simulation.invariants_invoices import billed_of
from tests.simulation.invariants_items import ZERO, Entry, Sums, numbers_of, sums_of, together
from tests.simulation.invariants_ledger import LedgerWatch
from tests.simulation.invariants_lines import AGGREGATIONS, known_at_stripe, named
from tests.simulation.invariants_pushes import PushesWatch, Stream, accepted_of
from tests.simulation.invariants_reports import Reports, rows_of
from tests.simulation.invariants_told import Told
from tests.simulation.model import Books, Line, Used, totals
from tests.simulation.people import Done, Fate
from tests.simulation.violation import Found
from tests.simulation.world import World

HELD = frozenset(one.name for one in METRICS if not one.counts_late)
FIRST = timedelta(days=140)
"""Before a world begins: nobody used anything earlier."""


class End:
    """The end of a world."""

    def __init__(
        self,
        world: World,
        ledger: LedgerWatch,
        counters: CountersWatch,
        pushes: PushesWatch,
        done: Done,
        found: Found,
    ) -> None:
        self._world = world
        self._ledger = ledger
        self._counters = counters
        self._pushes = pushes
        self._found = found
        self._done = done
        self._entries = list(ledger.entries.values())
        self._books = self._books_of()
        self.numbers: list[tuple[str, str]] = []
        """What was compared and found right."""

    def judge(self, *, is_quiet: bool, is_reconciled: bool) -> None:
        """Compare everything."""
        self._check_items()
        if not is_quiet:
            return  # I18 says so; numbers on their way are no news.
        self._counters.end(self._entries)
        counted = self._check_model()
        if self._world.drawn.kind is not Kind.COUNTING:
            self._check_told(counted, is_reconciled=is_reconciled)

    # --- the model ---

    def _books_of(self) -> Books:
        used = [
            Used(
                copy.tenant,
                copy.customer,
                copy.metric,
                copy.at,
                entry.key,
                copy.quantity,
                entry.received_at,
            )
            for entry, copy in self._ledger.taken()
        ]
        approved = frozenset(
            (str(tenant), key)
            for (tenant, key), fate in self._done.held.items()
            if fate is Fate.APPROVED
        )
        corrections = [
            (one.tenant, one.customer, one.metric, one.counts_at, one.delta)
            for one in self._done.corrections
            if one.fate is Fate.APPROVED
        ]
        whose = sorted(
            {(one.tenant, one.customer) for one in self._entries}
            | {(one.tenant, one.customer) for one in self._done.corrections}
        )
        cuts = {who: self._cuts(*who) for who in whose}
        return Books(used, approved, corrections, cuts)

    def _cuts(self, tenant: str, customer: str) -> list[datetime]:
        """Calendar months, and while a customer has a subscription what Stripe says."""
        starts, ended_at = self._pushes.starts_of(known_at_stripe(tenant, customer))
        months = set(_months(self._world.drawn.start - FIRST, self._world.kernel.now))
        if starts:
            months = {
                one
                for one in months
                if one < min(starts) or (ended_at is not None and one > ended_at)
            }
        return sorted(months | starts)

    def _check_model(self) -> dict[Line, Sums]:
        """What counters hold, line by line, when the ledger holds what was sent."""
        expected = totals(self._books, AGGREGATIONS, HELD, LATENESS)
        parts: dict[Line, list[Sums]] = defaultdict(list)
        for one in self._entries:
            line = self._books.line(one.tenant, one.customer, one.metric, one.at)
            parts[line].append(sums_of(one))
        ledger = {line: together(found) for line, found in parts.items()}
        for line in sorted(expected.keys() | ledger.keys()):
            held = ledger[line].value(AGGREGATIONS[line.metric]) if line in ledger else ZERO
            due = expected.get(line, ZERO)
            self.numbers.append((named(line), f"{due:f}"))
            if held != due:
                self._found.say(
                    "I20",
                    f"{named(line)}: the ledger comes to {held}, what was sent and taken to {due}",
                )
        return self._counted()

    def _counted(self) -> dict[Line, Sums]:
        counted: dict[Line, list[Sums]] = defaultdict(list)
        for (tenant, customer, metric), buckets in self._counters.held().items():
            for start, sums in buckets.items():
                if (tenant, customer) in self._books.cuts:
                    counted[self._books.line(tenant, customer, metric, start)].append(sums)
        return {line: together(found) for line, found in counted.items()}

    def _check_told(self, counted: dict[Line, Sums], *, is_reconciled: bool) -> None:
        """What streams, Stripe, reports and invoices hold of each line."""
        streams: dict[Line, list[Stream]] = defaultdict(list)
        for one in self._pushes.streams.values():
            if one.role == "primary" and (one.tenant, one.customer) in self._books.cuts:
                # What was told before its period moved stands in the one that holds it now.
                streams[self._books.line(one.tenant, one.customer, one.metric, one.start)] += [one]
        lines = {self._books.line(*_of(one), one.at) for one in self._entries} | streams.keys()
        rows = dict(rows_of(self._world, lines))
        billed = billed_of(self._world, self._books)
        apart = Apart(self._world, self._books, billed, self._found)
        told = Told(self._world, self._books, self._pushes, apart, self._found)
        stripe = told.at_stripe(streams)
        reports = Reports(self._world, self._books, self._pushes, self._done, self._found)
        for line in sorted(counted.keys() | streams.keys()):
            value = counted[line].value(AGGREGATIONS[line.metric]) if line in counted else ZERO
            own, row = streams.get(line, []), rows.get(line)
            told.check_pushed(line, value, own, row)
            told.check_stripe(line, own, stripe[line], row)
            if is_reconciled:
                reports.check_row(line, value, accepted_of(own), row, stripe[line])
        if is_reconciled:
            reports.check_planted(rows)
        reports.check_invoices(rows, billed)
        apart.check(streams)

    # --- items ---

    def _check_items(self) -> None:
        for table in TABLES:
            for item in self._world.tables.items(table.name):
                # An item is the content of a map.
                for number in numbers_of({"M": item}):
                    if not isinstance(number, str):
                        self._found.say(
                            "I11", f"{table.name} {item['pk']['S']} holds {number!r}, not a text"
                        )


def _of(entry: Entry) -> tuple[str, str, str]:
    return entry.tenant, entry.customer, entry.metric


def _months(first: datetime, last: datetime) -> Iterator[datetime]:
    month = first.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    while month <= last:
        yield month
        month = (month + timedelta(days=32)).replace(day=1)
