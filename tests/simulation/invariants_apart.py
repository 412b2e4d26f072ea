"""Whether late usage that is to be billed apart stands at Stripe once, at what it costs: I16, I20.

What it costs is a second opinion: a unit's price times the units, rounded half up, with and without
what came too late.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from local.stripe.state import INVOICE_ITEM, PRICE
from metering.names import TenantId
from metering.tenant_settings import AfterClose
from tests.simulation.invariants_invoices import Billed
from tests.simulation.invariants_items import WIDE, ZERO
from tests.simulation.invariants_lines import AGGREGATIONS, SCALES, known_at_stripe, named
from tests.simulation.invariants_pushes import ApartItem, Stream, accepted_of
from tests.simulation.model import Books, Line
from tests.simulation.people import AMOUNT_MAX
from tests.simulation.violation import Found
from tests.simulation.world import World

UNITS = "stripemeter_units"
"""Under which an item's metadata says how many units it bills."""


def is_apart(world: World, line: Line) -> bool:
    """Whether what comes too late for a line is to be billed apart."""
    settings = world.eye.settings.tenant(TenantId(line.tenant))
    return settings.after_close is AfterClose.INVOICE_ITEM


def units_apart(streams: Sequence[Stream]) -> Decimal:
    """How many units of a line invoice items bill, as its streams say."""
    return Decimal(sum(item.units for one in streams for item in one.apart))


class Apart:
    """Compares streams with the invoice items in Stripe's books."""

    def __init__(
        self, world: World, books: Books, billed: Mapping[Line, Billed], found: Found
    ) -> None:
        self._world = world
        self._books = books
        self._billed = billed
        self._found = found

    def cannot_bill(self, line: Line, streams: Sequence[Stream], left: int) -> bool:
        """Whether nobody can bill the units that are left of a line that is over.

        No final invoice bills the line, or what it sets does not add up; or they cost more than
        Stripe takes at once; or a stream says that it waits for a person, and the invoice does bill
        something else than Stripe was told.
        """
        if AGGREGATIONS[line.metric] == "last" or line not in self._billed:
            return True
        waiting = [one.on_its_way for one in streams if one.on_its_way is not None]
        if any(abs(one.amount) > AMOUNT_MAX for one in waiting):
            return sum(one.units for one in waiting) == left
        is_stopped = any(one.stopped == "cannot_bill" for one in streams)
        return is_stopped and not self._is_priced(line, streams)

    def _is_priced(self, line: Line, streams: Sequence[Stream]) -> bool:
        """Whether the invoice bills just what Stripe was told, by one price."""
        quantity, prices = self._billed[line]
        told = max(accepted_of(streams), 0)
        return len(prices) == 1 and quantity.scaleb(SCALES[line.metric], WIDE) == told

    def check(self, streams: Mapping[Line, Sequence[Stream]]) -> None:
        """What streams say was billed apart is at Stripe, and nothing else."""
        at_stripe = self._at_stripe()
        for line in sorted(streams.keys() | at_stripe.keys()):
            own, held = streams.get(line, []), at_stripe.get(line, [])
            ours = sorted(
                (one.stripe_id, one.units, one.amount) for each in own for one in each.apart
            )
            theirs = sorted((one["id"], _units(one), one["amount"]) for one in held)
            if ours != theirs:
                self._found.say(
                    "I16",
                    f"{named(line)}: the streams say that {ours} are billed apart, and Stripe's"
                    f" books hold {theirs}",
                )
            if ours and not is_apart(self._world, line):
                self._found.say(
                    "I14", f"{named(line)}: {ours} are billed apart, against the policy"
                )
            items = [one for each in own for one in each.apart]
            if items:
                self._check_amount(line, accepted_of(own), items)

    def _at_stripe(self) -> dict[Line, list[dict[str, Any]]]:
        whose = {known_at_stripe(*owner): owner for owner in self._books.cuts}
        held: dict[Line, list[dict[str, Any]]] = defaultdict(list)
        for item in self._world.core.world.account().all(INVOICE_ITEM).values():
            if UNITS not in item["metadata"]:
                continue  # Stripe bills by it what was used until a price was changed.
            metric = item["description"].partition(":")[0]
            at = datetime.fromtimestamp(item["period"]["start"], UTC)
            held[self._books.line(*whose[item["customer"]], metric, at)].append(item)
        return held

    def _check_amount(self, line: Line, told: int, items: Sequence[ApartItem]) -> None:
        """All items together cost what the invoice would have been higher by."""
        prices = tuple(dict.fromkeys(one.price for one in items))
        billed = self._billed[line].prices if line in self._billed else ()
        if prices != billed:
            self._found.say(
                "I20", f"{named(line)}: billed apart by {prices}, and by {billed} on the invoice"
            )
            return
        price = self._world.core.world.account().all(PRICE)[prices[0]]
        whole = told + sum(one.units for one in items)
        due = _cost(price, whole) - _cost(price, told)
        amount = sum(one.amount for one in items)
        if amount != due:
            self._found.say(
                "I20",
                f"{named(line)}: {whole - told} units are billed apart beside {told} for {amount}"
                f" cents, which cost {due}",
            )


def _cost(price: Mapping[str, Any], units: int) -> Decimal:
    """In whole cents, of a unit's price or of two tiers."""
    used = max(Decimal(units), ZERO)
    tiers = price.get("tiers")
    if not tiers:
        exact = WIDE.multiply(Decimal(price["unit_amount_decimal"]), used)
        return exact.quantize(Decimal(1), ROUND_HALF_UP, WIDE)
    first, then = tiers
    within = min(used, Decimal(first["up_to"]))
    exact = WIDE.multiply(Decimal(first["unit_amount_decimal"]), within)
    if used > within:
        more = WIDE.multiply(Decimal(then["unit_amount_decimal"]), used - within)
        exact = WIDE.add(exact, WIDE.add(more, Decimal(then["flat_amount"])))
    return exact.quantize(Decimal(1), ROUND_HALF_UP, WIDE)


def _units(item: Mapping[str, Any]) -> int:
    return int(item["metadata"][UNITS])
