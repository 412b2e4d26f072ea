"""Whether Stripe was told what was counted, and holds what it was told: I16."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal

from local.stripe.state import MeterEvent
from metering.names import TenantId
from metering.reconciliation import Cause, Row
from metering.tenant_settings import AfterClose
from tests.simulation.invariants_apart import Apart, is_apart, units_apart
from tests.simulation.invariants_items import WIDE, ZERO
from tests.simulation.invariants_lines import (
    AGGREGATIONS,
    NAMED,
    PLANTED,
    SCALES,
    amount_of,
    end_of,
    is_looked_at,
    named,
)
from tests.simulation.invariants_pushes import PushesWatch, Stream, accepted_of, at_stripe, floored
from tests.simulation.model import Books, Line
from tests.simulation.violation import Found
from tests.simulation.world import World

GRACE = timedelta(hours=1)


@dataclass(slots=True)
class AtStripe:
    """What Stripe's own books hold of a line."""

    ours: list[MeterEvent] = field(default_factory=list)
    """That count, and that we sent."""
    everybodys: Decimal = ZERO
    """The sum of all that count."""
    lost: Decimal = ZERO
    """What it took from us and lost by itself."""
    is_planted: bool = False
    """Whether it lost, doubled or gained anything by itself."""

    def total(self, aggregation: str) -> Decimal:
        """Of what we sent: the newest value where that counts, or the sum."""
        if aggregation != "last":
            return sum((one.value for one in self.ours), ZERO)
        newest = max(self.ours, key=lambda one: (one.timestamp, one.number), default=None)
        return newest.value if newest else ZERO


class Told:
    """Compares lines, pushes and Stripe."""

    def __init__(
        self, world: World, books: Books, pushes: PushesWatch, apart: Apart, found: Found
    ) -> None:
        self._world = world
        self._apart = apart
        self._books = books
        self._pushes = pushes
        self._found = found

    def at_stripe(self, streams: Mapping[Line, Sequence[Stream]]) -> dict[Line, AtStripe]:
        """Stripe's events by the period that they are stamped in."""
        held: dict[Line, AtStripe] = defaultdict(AtStripe)
        whose = {
            (one.event_name, one.stripe_customer): (one.tenant, one.customer, one.metric)
            for own in streams.values()
            for one in own
        }
        planted = {one.number for one in self._pushes.planted}
        for event in self._world.core.world.account().events():
            counter = whose.get((event.event_name, event.customer))
            if counter is None:
                continue
            found = held[self._books.line(*counter, at_stripe(event))]
            found.is_planted |= event.number in planted
            if event.cancelled_from is not None:
                found.lost += event.value
                continue
            found.everybodys += event.value
            if event.number not in planted:
                found.ours.append(event)
        return held

    def check_pushed(
        self, line: Line, value: Decimal, streams: Sequence[Stream], row: Row | None
    ) -> None:
        """All that can be told was told, or the product says why not."""
        if AGGREGATIONS[line.metric] == "last" and not value:
            return  # The last value of the period before stands; the report says so.
        scale = SCALES[line.metric]
        accepted = accepted_of(streams)
        due = WIDE.add(value, sum((one.carried_in - one.carried_out for one in streams), ZERO))
        due = WIDE.subtract(due, units_apart(streams).scaleb(-scale, WIDE))
        left = floored(due, scale) - accepted
        if left and not self._is_left(line, streams, left, row):
            self._found.say(
                "I16",
                f"{named(line)}: {value} were counted ({due} to be told), which is"
                f" {floored(due, scale)} in Stripe's units, and {accepted} were accepted",
            )

    def _is_left(self, line: Line, streams: Sequence[Stream], left: int, row: Row | None) -> bool:
        """Whether a line is over, and the product or the tenant says that no more is told."""
        now = self._world.kernel.now
        if is_apart(self._world, line):
            is_over = now >= end_of(self._books, line) + GRACE
            return is_over and self._apart.cannot_bill(line, streams, left)
        settings = self._world.eye.settings.tenant(TenantId(line.tenant))
        is_unbilled = settings.after_close is AfterClose.UNBILLED
        # Whose late usage is to be carried forward, of those nothing may be left by the close; a
        # last value does not add up, and stands in the next period instead.
        is_never_carried = is_unbilled or AGGREGATIONS[line.metric] == "last"
        if row is None and not is_looked_at(self._books, line, now):
            return is_never_carried
        excused = NAMED if is_never_carried else NAMED - {Cause.LATE_AFTER_CLOSE}
        causes = {one.cause for one in row.findings if one.amount} if row else set()
        return now >= end_of(self._books, line) + GRACE and bool(causes & excused)

    def _is_named(self, line: Line, differs: Decimal, row: Row | None) -> bool:
        """Whether a report puts just so much down to Stripe."""
        return amount_of(row, PLANTED).scaleb(SCALES[line.metric], WIDE) == differs

    def check_stripe(
        self, line: Line, streams: Sequence[Stream], held: AtStripe, row: Row | None
    ) -> None:
        """Stripe's books hold what it accepted, or it said afterwards that it does not."""
        accepted = accepted_of(streams)
        total = held.total(AGGREGATIONS[line.metric])
        excused = {ZERO, held.lost}
        if self._world.core.world.account().rejections:
            named_ = amount_of(row, {Cause.ASYNC_REJECTED})
            excused.add(named_.scaleb(SCALES[line.metric], WIDE))
        if held.is_planted and self._is_named(line, accepted - held.everybodys, row):
            return
        if accepted - total not in excused:
            self._found.say(
                "I16",
                f"{named(line)}: pushes of {accepted} were accepted, and Stripe's books hold"
                f" {total}",
            )
