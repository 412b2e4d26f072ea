"""What Stripe's final invoices bill for usage: read from its own books."""

from collections import defaultdict
from datetime import UTC, datetime
from decimal import Decimal
from typing import NamedTuple

import stripe

from local.stripe.state import INVOICE, METER, PRICE
from tests.simulation.invariants_items import WIDE, ZERO
from tests.simulation.invariants_lines import SCALES, known_at_stripe
from tests.simulation.model import Books, Line
from tests.simulation.world import World


class Billed(NamedTuple):
    """What is billed of a line."""

    quantity: Decimal
    """In the metric's unit."""
    prices: tuple[str, ...]
    """By which, each once."""


def billed_of(world: World, books: Books) -> dict[Line, Billed]:
    """What final invoices bill for usage."""
    account = world.core.world.account()
    whose = {known_at_stripe(*owner): owner for owner in books.cuts}
    billed: dict[Line, Billed] = defaultdict(lambda: Billed(ZERO, ()))
    for invoice in account.all(INVOICE).values():
        owner = whose.get(invoice["customer"])
        if owner is None or invoice["status"] not in {"open", "paid"}:
            continue
        for one in world.stripe.v1.invoices.line_items.list(invoice["id"]).data:
            price, metric = _price_of(world, one)
            if metric:
                at = datetime.fromtimestamp(one.period.start, UTC)
                line = books.line(*owner, metric, at)
                quantity = Decimal(str(one.quantity_decimal)).scaleb(-SCALES[metric], WIDE)
                before = billed[line]
                prices = dict.fromkeys((*before.prices, price))
                billed[line] = Billed(before.quantity + quantity, tuple(prices))
    return billed


def _price_of(world: World, line: stripe.InvoiceLineItem) -> tuple[str, str]:
    """The price of an invoice's line, and the metric whose usage it bills; empty for others."""
    details = line.pricing.price_details if line.pricing else None
    if details is None:
        return "", ""
    account, price = world.core.world.account(), str(details.price)
    meter = (account.all(PRICE)[price]["recurring"] or {}).get("meter")
    return price, str(account.all(METER)[meter]["event_name"]) if meter else ""
