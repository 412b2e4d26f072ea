"""What usage must come to: a second, much simpler opinion, without any of the product.

It is told which sent copy of each key was taken when, what people decided, and where periods begin.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import NamedTuple


class Line(NamedTuple):
    """A customer's use of a metric in the billing period that began then."""

    tenant: str
    customer: str
    metric: str
    start: datetime


class Used(NamedTuple):
    """An event that was taken; its key is taken once."""

    tenant: str
    customer: str
    metric: str
    at: datetime
    key: str
    quantity: Decimal
    received_at: datetime


@dataclass(frozen=True)
class Books:
    """What was taken, what was decided, and what cuts it into periods."""

    events: Sequence[Used]
    approved: frozenset[tuple[str, str]]
    """Tenants and keys of late events that were approved and not taken back."""
    corrections: Sequence[tuple[str, str, str, datetime, Decimal]]
    """Tenant, customer, metric, when it counts, and what is added to the total."""
    cuts: Mapping[tuple[str, str], Sequence[datetime]]
    """Where the periods of each tenant's customer begin."""

    def line(self, tenant: str, customer: str, metric: str, at: datetime) -> Line:
        """Where usage of an instant belongs."""
        cuts = self.cuts[tenant, customer]
        return Line(tenant, customer, metric, cuts[bisect_right(cuts, at) - 1])


def totals(
    books: Books, aggregations: Mapping[str, str], held: frozenset[str], lateness: timedelta
) -> dict[Line, Decimal]:
    """The total of each line; late events of the `held` metrics count once they are approved."""
    used: dict[Line, list[Used]] = defaultdict(list)
    for event in books.events:
        is_late = event.metric in held and event.received_at - event.at > lateness
        if not is_late or (event.tenant, event.key) in books.approved:
            used[books.line(event.tenant, event.customer, event.metric, event.at)].append(event)
    sums = {line: _value(found, aggregations[line.metric]) for line, found in used.items()}
    for tenant, customer, metric, at, delta in books.corrections:
        line = books.line(tenant, customer, metric, at)
        sums[line] = sums.get(line, Decimal(0)) + delta
    return sums


def _value(used: Sequence[Used], aggregation: str) -> Decimal:
    match aggregation:
        case "sum":
            return sum((one.quantity for one in used), Decimal(0))
        case "count":
            return Decimal(len(used))
        case "max":
            return max(one.quantity for one in used)
        case _:
            return max(used, key=lambda one: (one.at, one.key)).quantity
