"""Whether what was metered is what Stripe was told, and if not, why.

A row compares one counter in one billing period: the ledger recounted, the counter, the pushes that
Stripe accepted, and Stripe's own summary. Each difference between neighbours gets a cause with its
amount and a sentence for a person. A report holds the rows of one run; runs are never summed up.
"""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from metering.counter import CounterKey
from metering.names import TenantId
from metering.period import Span


class Cause(StrEnum):
    """Why two numbers of a row differ, or why one is missing."""

    COUNTER_BEHIND = "counter_behind"
    """Events of the last minutes are still on their way into the counter."""
    COUNTER_WRONG = "counter_wrong"
    """The counter holds something else than the ledger, and time will not mend it."""
    UNMAPPED = "unmapped"
    NO_STRIPE_CUSTOMER = "no_stripe_customer"
    NO_METER = "no_meter"
    LAST_NOT_PUSHED_YET = "last_not_pushed_yet"
    AWAITING_PUSH = "awaiting_push"
    """The writer has not told Stripe yet."""
    IN_FLIGHT = "in_flight"
    """A push is open."""
    UNKNOWN_OUTCOME = "unknown_outcome"
    """A push's outcome is unknown and will be looked up at Stripe."""
    REFUSED = "refused"
    """Stripe refuses the usage, or a person must decide."""
    HELD = "held"
    """The writer holds it back, because settings changed after usage had been told."""
    LATE_AFTER_CLOSE = "late_after_close"
    """Counted after the period's invoice was closed; never told."""
    STRIPE_LAG = "stripe_lag"
    """Accepted in the last minutes; Stripe's summary follows later."""
    LOST_PUSH = "lost_push"
    """Accepted by Stripe, not in its summary."""
    FOREIGN_WRITER = "foreign_writer"
    """In Stripe's summary, told by nobody we know."""
    NOT_READ = "not_read"
    """Stripe's summary was not read: budget spent, or no answer."""
    REMAINDER = "remainder"
    """Less than one unit of what Stripe is told in; the next push carries it."""
    LATE_HELD = "late_held"
    """Late events that await approval; in no total."""


NOTES = frozenset({Cause.REMAINDER, Cause.LATE_HELD})
"""Causes that explain without being a difference."""


class Status(StrEnum):
    """What a row asks of its reader; the values are the HTTP API's."""

    OK = "ok"
    INVESTIGATE = "investigate"
    RESOLVED = "resolved"


@dataclass(frozen=True, slots=True)
class Finding:
    """One cause, how much of the row it explains (in the metric's unit), and a sentence."""

    cause: Cause
    amount: Decimal
    explanation: str


@dataclass(frozen=True, slots=True)
class Row:
    """One counter in one billing period; quantities in the metric's unit."""

    counter: CounterKey
    period: Span
    subscription_item_id: str
    """Empty when the mapping names none."""
    ledger: Decimal
    counted: Decimal
    """What the counter holds."""
    pushed: Decimal
    """What Stripe has accepted."""
    stripe: Decimal | None
    """Stripe's summary; None when there is none to read or it was not read."""
    stripe_read_at: datetime | None
    findings: tuple[Finding, ...]
    status: Status

    @property
    def difference(self) -> Decimal:
        """Ledger less Stripe; what Stripe was not asked counts as 0."""
        return self.ledger - (self.stripe or Decimal(0))

    @property
    def cause(self) -> str:
        """The first finding's cause, empty when there is nothing to say."""
        return self.findings[0].cause if self.findings else ""

    @property
    def explanation(self) -> str:
        """All findings in one text."""
        return " ".join(finding.explanation for finding in self.findings)


@dataclass(frozen=True, slots=True)
class Report:
    """One run over a tenant's counters, in the billing periods that begin in one month."""

    id: str
    tenant: TenantId
    month: str
    """`YYYY-MM`, the month in which the rows' periods begin."""
    created_at: datetime
    rows: tuple[Row, ...]
    stripe_reads: int
    """How many summaries were asked of Stripe."""
