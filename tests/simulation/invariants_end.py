"""When all is quiet again: the model, the ledger, the counters, the pushes and Stripe's own books.

Neighbours are compared, so that a wrong number is named where it arose: the model and the ledger
(I20), the ledger and the counters (I4), the counters and the pushes, the pushes and Stripe (I16).
"""

import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from decimal import Decimal

from infra.tables import TABLES
from local.stripe.state import MeterEvent
from metering.reconciliation import NOTES, UNEXPLAINED, Cause, Row, Status
from tests.simulation.clients import LATENESS, METRICS
from tests.simulation.draw import Kind
from tests.simulation.invariants_counters import CountersWatch
from tests.simulation.invariants_items import (
    APPROVAL,
    REVERT,
    WIDE,
    ZERO,
    Entry,
    Sums,
    numbers_of,
    sums_of,
    together,
)
from tests.simulation.invariants_ledger import LedgerWatch
from tests.simulation.invariants_pushes import PushesWatch, Stream, at_stripe, floored
from tests.simulation.model import Books, Line, Used, totals
from tests.simulation.violation import Found
from tests.simulation.world import World

AGGREGATIONS = {one.name: one.aggregation for one in METRICS}
HELD = frozenset(one.name for one in METRICS if not one.counts_late)
SCALES = {one.name: one.scale for one in METRICS}
FIRST = timedelta(days=140)
NAMED = frozenset(
    {Cause.LATE_AFTER_CLOSE, Cause.HELD, Cause.UNMAPPED, Cause.NO_STRIPE_CUSTOMER, Cause.NO_METER}
)
"""Why usage may not be told although all is quiet, if the product says so."""
PLANTED = frozenset(
    {
        Cause.FOREIGN_WRITER,
        Cause.DUPLICATE,
        Cause.LOST_PUSH,
        Cause.ASYNC_REJECTED,
        Cause.CLOCK_SHIFTED,
        Cause.COMPENSATED,
    }
)
"""What a drift of Stripe's own may be called."""


class Quiet:
    """The end of a world."""

    def __init__(
        self,
        world: World,
        ledger: LedgerWatch,
        counters: CountersWatch,
        pushes: PushesWatch,
        found: Found,
    ) -> None:
        self._world = world
        self._ledger = ledger
        self._counters = counters
        self._pushes = pushes
        self._found = found
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
        keys = {(one.tenant, one.key) for one in self._entries}
        approved = frozenset(
            (tenant, key.removeprefix(APPROVAL))
            for tenant, key in sorted(keys)
            if key.startswith(APPROVAL)
            and (tenant, REVERT + key.removeprefix(APPROVAL)) not in keys
        )
        corrections = [
            (one.tenant, one.customer, one.metric, one.at, one.quantity)
            for one in self._entries
            if one.kind == "adjustment"
        ]
        whose = sorted({(one.tenant, one.customer) for one in self._entries})
        cuts = {who: self._cuts(*who) for who in whose}
        return Books(used, approved, corrections, cuts)

    def _cuts(self, tenant: str, customer: str) -> list[datetime]:
        """Calendar months, and from a customer's first subscription on what Stripe says."""
        starts = self._pushes.starts_of(_known_at_stripe(tenant, customer))
        months = list(_months(self._world.drawn.start - FIRST, self._world.kernel.now))
        if not starts:
            return months
        return [one for one in months if one < min(starts)] + sorted(starts)

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

    # --- what Stripe was told, and holds ---

    def _check_told(self, counted: dict[Line, Sums], *, is_reconciled: bool) -> None:
        streams: dict[Line, list[Stream]] = defaultdict(list)
        for one in self._pushes.streams.values():
            if one.role == "primary":
                streams[Line(one.tenant, one.customer, one.metric, one.start)].append(one)
        rows = dict(self._rows())
        held = self._at_stripe(streams)
        for line in sorted(counted.keys() | streams.keys()):
            value = counted[line].value(AGGREGATIONS[line.metric]) if line in counted else ZERO
            self._check_pushed(line, value, streams.get(line, []), rows.get(line))
            accepted = sum(one.accepted for one in streams.get(line, []))
            self._check_stripe(line, accepted, held.get(line, []))
            if is_reconciled:
                self._check_row(line, value, accepted, rows.get(line))
        if is_reconciled:
            self._check_planted(rows)

    def _check_pushed(
        self, line: Line, value: Decimal, streams: Sequence[Stream], row: Row | None
    ) -> None:
        """All that can be told was told, or the product says why not."""
        scale = streams[0].scale if streams else SCALES[line.metric]
        accepted = sum(one.accepted for one in streams)
        due = WIDE.add(value, sum((one.carried_in - one.carried_out for one in streams), ZERO))
        if line.metric == "seats" and not value:
            return  # The last value of the period before stands; the report says so.
        differs = floored(due, scale) - accepted
        names = {one.cause for one in row.findings if one.amount} if row else set()
        is_over = self._world.kernel.now >= self._end(line) + timedelta(hours=1)
        if differs and not (is_over and names & NAMED):
            self._found.say(
                "I16",
                f"{named(line)}: {value} were counted ({due} to be told), which is"
                f" {floored(due, scale)} in Stripe's units, and {accepted} were accepted",
            )

    def _end(self, line: Line) -> datetime:
        cuts = self._books.cuts[line.tenant, line.customer]
        later = [one for one in cuts if one > line.start]
        return later[0] if later else (line.start + timedelta(days=32)).replace(day=1)

    def _at_stripe(self, streams: dict[Line, list[Stream]]) -> dict[Line, list[MeterEvent]]:
        """The events that count, by the period that they are stamped in."""
        held: dict[Line, list[MeterEvent]] = defaultdict(list)
        of = defaultdict(list)
        for line, own in streams.items():
            for one in own:
                of[one.event_name, one.stripe_customer].append((line, one))
        for event in self._world.core.world.account().events():
            if event.cancelled_from is None:
                at = at_stripe(event)
                for line, one in of[event.event_name, event.customer]:
                    if one.start <= at < one.end:
                        held[line].append(event)
                        break
        return held

    def _check_stripe(self, line: Line, accepted: int, events: Iterable[MeterEvent]) -> None:
        ours = [one for one in events if one not in self._pushes.planted]
        if AGGREGATIONS[line.metric] == "last":
            newest = max(ours, key=lambda one: (one.timestamp, one.number), default=None)
            held = newest.value if newest else ZERO
        else:
            held = sum((one.value for one in ours), ZERO)
        if held != accepted and not self._is_lost(line):
            self._found.say(
                "I16",
                f"{named(line)}: pushes of {accepted} were accepted, and Stripe's books hold {held}",
            )

    def _is_lost(self, line: Line) -> bool:
        """Whether Stripe lost some of it by itself; I19 asks what the reports say of that."""
        return any(not isinstance(one, MeterEvent) for one in self._pushes.planted) and bool(line)

    # --- reports ---

    def _rows(self) -> Iterator[tuple[Line, Row]]:
        starts = {line.start for line in map(self._line_of, self._entries)}
        for tenant in self._world.tenants:
            for month in sorted({f"{start:%Y-%m}" for start in starts}):
                report = self._world.eye.reports.latest(tenant, month)
                for row in report.rows if report else ():
                    yield Line(*_whose(row), row.period.start), row

    def _line_of(self, entry: Entry) -> Line:
        return self._books.line(entry.tenant, entry.customer, entry.metric, entry.at)

    def _check_row(self, line: Line, value: Decimal, accepted: int, row: Row | None) -> None:
        if row is None:
            if value or accepted:
                self._found.say(
                    "I19", f"{named(line)}: no report has a row of it; {value} were counted"
                )
            return
        told = Decimal(accepted).scaleb(-SCALES[line.metric], WIDE)
        for what, said, ours in (("counted", row.counted, value), ("pushed", row.pushed, told)):
            if said != ours:
                self._found.say(
                    "I19", f"{named(line)}: the report says {said} were {what}, it was {ours}"
                )
        if row.ledger != row.counted:
            self._found.say(
                "I19",
                f"{named(line)}: the report says that the ledger holds {row.ledger}, and the"
                f" counter {row.counted}",
            )
        if self._pushes.planted:
            return
        for one in row.findings:
            is_settled = one.is_settled or row.status is not Status.INVESTIGATE
            if one.cause in UNEXPLAINED or not (
                one.cause in NOTES or one.cause in NAMED or is_settled
            ):
                self._found.say(
                    "I19",
                    f"{named(line)}: nothing was wrong, and the report names {one.cause} of"
                    f" {one.amount}: {one.explanation}",
                )

    def _check_planted(self, rows: dict[Line, Row]) -> None:
        if not self._pushes.planted:
            return
        names = {one.cause for row in rows.values() for one in row.findings}
        reports = [zlib.decompress(one).decode() for one in self._pushes.reports]
        if not any(f'"{cause}"' in text for cause in sorted(PLANTED) for text in reports):
            self._found.say(
                "I19",
                f"Stripe took or lost {len(self._pushes.planted)} events by itself, and the reports"
                f" name {sorted(names)}",
            )

    # --- items ---

    def _check_items(self) -> None:
        for table in TABLES:
            for item in self._world.tables.items(table.name):
                for number in numbers_of(item):
                    if not isinstance(number, str):
                        self._found.say(
                            "I11", f"{table.name} {item['pk']['S']} holds {number!r}, not a text"
                        )


def named(line: Line) -> str:
    """A line in a sentence."""
    return f"{line.metric} of {line.customer} ({line.tenant}) from {line.start:%Y-%m-%d %H:%M}"


def _known_at_stripe(tenant: str, customer: str) -> str:
    return f"cus_{tenant.replace('-', '')}x{customer.removeprefix('cus_')}"


def _whose(row: Row) -> tuple[str, str, str]:
    return str(row.counter.tenant), str(row.counter.customer), str(row.counter.metric)


def _months(first: datetime, last: datetime) -> Iterator[datetime]:
    month = first.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    while month <= last:
        yield month
        month = (month + timedelta(days=32)).replace(day=1)
