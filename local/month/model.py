"""What a month's usage must come to: a second, much simpler opinion, without any of the product.

It knows what clients sent and were told was taken, what people approved, and where Stripe began a
customer's billing periods. Everything is added up once, at the end, in no particular way.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

type Event = Mapping[str, Any]


class Line(NamedTuple):
    """A customer's use of a metric in the billing period that began then."""

    customer: str
    metric: str
    start: datetime


@dataclass(frozen=True)
class Books:
    """What was taken, and what cuts it into periods."""

    events: Sequence[Event]
    """Each once."""
    received_at: Mapping[str, datetime]
    approved_at: datetime | None
    """Late events received before this were approved."""
    corrections: Sequence[tuple[str, str, datetime, Decimal]]
    """Customer, metric, an instant of the period, and what is added to its total."""
    cuts: Mapping[str, Sequence[datetime]]
    """Where each customer's periods begin, in order."""


def totals(
    books: Books,
    aggregations: Mapping[str, str],
    holds_late: Callable[[str], bool],
    lateness: timedelta,
) -> dict[Line, Decimal]:
    """The total of every line that anything was used or corrected in."""
    used: dict[Line, list[tuple[datetime, Decimal]]] = defaultdict(list)
    for event in books.events:
        at = datetime.fromisoformat(event["ts"])
        received_at = books.received_at[event["idempotencyKey"]]
        is_held = holds_late(event["metric"]) and received_at - at > lateness
        if is_held and (books.approved_at is None or received_at > books.approved_at):
            continue
        customer = event["customerRef"]
        cuts = books.cuts[customer]
        start = cuts[bisect_right(cuts, at) - 1]
        line = Line(customer, event["metric"], start)
        used[line].append((at, Decimal(event["quantity"])))
    sums = {line: _value(found, aggregations[line.metric]) for line, found in used.items()}
    for customer, metric, at, delta in books.corrections:
        cuts = books.cuts[customer]
        line = Line(customer, metric, cuts[bisect_right(cuts, at) - 1])
        sums[line] = sums.get(line, Decimal(0)) + delta
    return sums


def _value(used: Sequence[tuple[datetime, Decimal]], aggregation: str) -> Decimal:
    match aggregation:
        case "sum":
            return sum((quantity for _, quantity in used), Decimal(0))
        case "count":
            return Decimal(len(used))
        case "max":
            return max(quantity for _, quantity in used)
        case _:
            return max(used)[1]
