"""The lines that are compared: how they are counted, named, and known at Stripe."""

from collections.abc import Collection
from datetime import datetime, timedelta
from decimal import Decimal

from metering.reconciliation import Cause, Row
from tests.simulation.clients import METRICS
from tests.simulation.invariants_items import ZERO
from tests.simulation.model import Books, Line

AGGREGATIONS = {one.name: one.aggregation for one in METRICS}
SCALES = {one.name: one.scale for one in METRICS}
LOOKED_AT = timedelta(hours=60)
"""For how long after its end a period is surely compared."""
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


def named(line: Line) -> str:
    """A line in a sentence."""
    return f"{line.metric} of {line.customer} ({line.tenant}) from {line.start:%Y-%m-%d %H:%M}"


def known_at_stripe(tenant: str, customer: str) -> str:
    """A customer's id there: `cus_...`."""
    return f"cus_{tenant.replace('-', '')}x{customer.removeprefix('cus_')}"


def end_of(books: Books, line: Line) -> datetime:
    """Where a line's period ends."""
    later = [one for one in books.cuts[line.tenant, line.customer] if one > line.start]
    return min(later, default=(line.start + timedelta(days=32)).replace(day=1))


def is_looked_at(books: Books, line: Line, now: datetime) -> bool:
    """Whether the line's period is open, or ended lately."""
    return end_of(books, line) > now - LOOKED_AT


def amount_of(row: Row | None, causes: Collection[Cause]) -> Decimal:
    """How much of a row's difference is put down to some causes."""
    findings = row.findings if row else ()
    return sum((one.amount for one in findings if one.cause in causes), ZERO)
