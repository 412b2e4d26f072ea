"""What the reconciler's last reports say, and what the invoices bill: I19 and I20."""

import zlib
from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from decimal import Decimal

from metering.reconciliation import NOTES, UNEXPLAINED, Cause, Finding, Row, Status
from tests.simulation.invariants_invoices import Billed
from tests.simulation.invariants_items import WIDE, ZERO
from tests.simulation.invariants_lines import (
    AGGREGATIONS,
    NAMED,
    PLANTED,
    SCALES,
    amount_of,
    is_looked_at,
    named,
)
from tests.simulation.invariants_pushes import PushesWatch
from tests.simulation.invariants_told import AtStripe
from tests.simulation.model import Books, Line
from tests.simulation.people import Done
from tests.simulation.violation import Found
from tests.simulation.world import World

MINUTE = timedelta(minutes=1)


def rows_of(world: World, lines: Iterable[Line]) -> Iterator[tuple[Line, Row]]:
    """The rows of the last reports of the months in which lines' periods began."""
    for tenant in world.tenants:
        for month in sorted({f"{line.start:%Y-%m}" for line in lines}):
            report = world.eye.reports.latest(tenant, month)
            for row in report.rows if report else ():
                counter = row.counter
                whose = str(counter.tenant), str(counter.customer), str(counter.metric)
                yield Line(*whose, row.period.start), row


class Reports:
    """Compares reports and invoices with what is known better."""

    def __init__(
        self, world: World, books: Books, pushes: PushesWatch, done: Done, found: Found
    ) -> None:
        self._world = world
        self._books = books
        self._pushes = pushes
        self._done = done
        self._found = found

    def check_row(
        self, line: Line, value: Decimal, accepted: int, row: Row | None, held: AtStripe
    ) -> None:
        """A report says what was counted and told, and finds nothing where nothing is."""
        if row is None:
            is_due = is_looked_at(self._books, line, self._world.kernel.now)
            if (value or accepted) and is_due:
                self._found.say(
                    "I19", f"{named(line)}: no report has a row of it; {value} were counted"
                )
            return
        told = Decimal(accepted).scaleb(-SCALES[line.metric], WIDE)
        said = (("counted", row.counted, value), ("in the ledger", row.ledger, value))
        for what, number, ours in (*said, ("pushed", row.pushed, told)):
            if number != ours:
                self._found.say(
                    "I19", f"{named(line)}: the report says {number} were {what}, it was {ours}"
                )
        if not held.is_planted:
            for one in row.findings:
                self._check_finding(line, row, one)

    def _check_finding(self, line: Line, row: Row, finding: Finding) -> None:
        cause = finding.cause
        if cause is Cause.INVOICE_DIFFERS and self._is_excused(row):
            return
        if cause is Cause.ASYNC_REJECTED and self._world.core.world.account().rejections:
            return
        is_settled = finding.is_settled or row.status is not Status.INVESTIGATE
        is_fine = cause in NOTES or cause in NAMED or is_settled
        if cause in UNEXPLAINED or not is_fine:
            self._found.say(
                "I19",
                f"{named(line)}: nothing was wrong, and the report names {cause} of"
                f" {finding.amount}: {finding.explanation}",
            )

    def check_planted(self, rows: dict[Line, Row]) -> None:
        """Some report named what Stripe lost, doubled or gained by itself."""
        events = self._world.core.world.account().events()
        names_of = {one.number: one.event_name for one in events}
        # On a meter that bills the newest value, an older one more or less changes nothing.
        planted = [
            one
            for one in self._pushes.planted
            if AGGREGATIONS.get(names_of.get(one.number, ""), "") != "last"
        ]
        if not planted:
            return
        reports = [zlib.decompress(one).decode() for one in self._pushes.reports]
        if not any(f'"{cause}"' in text for cause in sorted(PLANTED) for text in reports):
            names = {one.cause for row in rows.values() for one in row.findings}
            self._found.say(
                "I19",
                f"Stripe took or lost {len(planted)} events by itself, and the reports"
                f" name {sorted(names)}",
            )

    # --- invoices ---

    def check_invoices(self, rows: dict[Line, Row], invoiced: Mapping[Line, Billed]) -> None:
        """What final invoices bill is what Stripe was told, or a report says by how much not."""
        for line, (billed, _) in invoiced.items():
            row = rows.get(line)
            if row is None:
                continue
            told = max(row.pushed, ZERO)
            if row.invoiced is not None and row.invoiced != billed:
                self._found.say(
                    "I19",
                    f"{named(line)}: the report says {row.invoiced} were billed, the invoices say"
                    f" {billed}",
                )
            differs = WIDE.subtract(told, billed)
            excused = amount_of(row, {Cause.INVOICE_DIFFERS}) if self._is_excused(row) else ZERO
            if differs not in {ZERO, excused}:
                self._found.say(
                    "I20", f"{named(line)}: the invoice bills {billed}, Stripe was told {told}"
                )

    def _is_excused(self, row: Row) -> bool:
        """Whether an invoice may bill another number: nobody could reach Stripe to hold it.

        Or Stripe's own books are wrong, the row says why, and somebody let it bill all the same.
        """
        faults = self._world.drawn.faults
        is_away = faults.stripe_refuses or faults.stripe_unanswered or faults.outage
        is_planted = any(one.cause in PLANTED for one in row.findings)
        return bool(is_away) or is_planted or self._is_cut_short(row)

    def _is_cut_short(self, row: Row) -> bool:
        """Whether somebody let Stripe bill what it had not heard in full."""
        whose = row.counter.tenant, str(row.counter.customer)
        cuts = [self._done.cut_short.get(whose)]
        cuts.append(self._done.repriced.get((*whose, str(row.counter.metric))))
        return any(
            cut is not None and row.period.start <= cut <= row.period.end + MINUTE for cut in cuts
        )
