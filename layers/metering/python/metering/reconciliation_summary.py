"""What the latest reports of some months say together, per metric and over all.

Only the latest report of a month is looked at: runs are never summed up. A metric's drift is the
sum of its rows' differences without their signs, so that errors of opposite signs do not cancel.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from metering.names import Metric
from metering.quantity import EXACT
from metering.reconciliation import Report, Row

PERCENT_DECIMALS = 9


@dataclass(frozen=True, slots=True)
class Drift:
    """Our numbers and Stripe's side by side; quantities in the metric's unit."""

    local: Decimal
    stripe: Decimal
    drift: Decimal
    """The sum of the rows' differences, each without its sign."""
    rows: int

    @property
    def ratio(self) -> Decimal:
        """The drift as a part of Stripe's number; 1 when Stripe has nothing and we have."""
        return ratio(self.drift, self.stripe)


def ratio(drift: Decimal, stripe: Decimal) -> Decimal:
    """A drift as a part of Stripe's number, to nine decimals."""
    if stripe > 0:
        return round(drift / stripe, PERCENT_DECIMALS)
    return Decimal(1) if drift else Decimal(0)


def per_metric(reports: Iterable[Report]) -> dict[Metric, Drift]:
    """Each metric's drift in the reports, which must be of different months."""
    rows: dict[Metric, list[Row]] = defaultdict(list)
    for report in reports:
        for row in report.rows:
            rows[row.counter.metric].append(row)
    return {metric: drift_of(rows[metric]) for metric in sorted(rows)}


def drift_of(rows: Sequence[Row]) -> Drift:
    """The drift of rows of one metric."""
    return Drift(
        local=_sum(row.ledger for row in rows),
        stripe=_sum(row.stripe or Decimal(0) for row in rows),
        drift=_sum(abs(row.difference) for row in rows),
        rows=len(rows),
    )


def _sum(numbers: Iterable[Decimal]) -> Decimal:
    total = Decimal(0)
    for number in numbers:
        total = EXACT.add(total, number)
    return total
