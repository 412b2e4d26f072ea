"""Whether what was metered is what Stripe was told, and if not, why.

A row compares one counter in one billing period: the ledger recounted, the counter, the pushes that
Stripe accepted, and Stripe's own summary. Each difference between neighbours gets a cause with its
amount and a sentence for a person. A report holds the rows of one run; runs are never summed up.
"""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import NamedTuple

from metering.counter import CounterKey
from metering.names import TenantId
from metering.period import Span
from metering.push import Role
from metering.quantity import EXACT


class Cause(StrEnum):
    """Why two numbers of a row differ, or why one is missing."""

    COUNTER_BEHIND = "counter_behind"
    """Events of the last minutes are still on their way into the counter."""
    COUNTER_WRONG = "counter_wrong"
    """The counter holds something else than the ledger, and time will not mend it."""
    UNMAPPED = "unmapped"
    NO_STRIPE_CUSTOMER = "no_stripe_customer"
    NO_METER = "no_meter"
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
    """Counted after the period's invoice was closed; the tenant's policy decides what becomes of
    it."""
    STRIPE_LAG = "stripe_lag"
    """Accepted in the last minutes; Stripe's summary follows later."""
    LOST_PUSH = "lost_push"
    """Accepted by Stripe, not in its summary."""
    ASYNC_REJECTED = "async_rejected"
    """Accepted by Stripe and found wrong afterwards: an error report names it, or its minute was
    empty on two looks an hour apart."""
    DUPLICATE = "duplicate"
    """One push of ours counted twice."""
    CLOCK_SHIFTED = "clock_shifted"
    """Stripe counted a push of ours under another minute than the one it was stamped with."""
    FOREIGN_WRITER = "foreign_writer"
    """In Stripe's summary, told by nobody we know."""
    INVOICE_DIFFERS = "invoice_differs"
    """The invoice's line bills another quantity than Stripe was told."""
    METER_INACTIVE = "meter_inactive"
    """The meter was deactivated: Stripe refuses its events."""
    METER_CHANGED = "meter_changed"
    """The meter's event name, formula or time window is not what the mapping was made for."""
    PRICE_NOT_ON_METER = "price_not_on_meter"
    """The mapping's price does not charge by the mapping's meter."""
    CUSTOMER_DELETED = "customer_deleted"
    """The customer does not exist at Stripe any more."""
    SUBSCRIPTION_ITEM_MISSING = "subscription_item_missing"
    """None of the customer's subscriptions has an item that charges by the meter."""
    TWO_SUBSCRIPTIONS = "two_subscriptions"
    """Several subscription items of the customer charge by the same meter: each bills it all."""
    NOT_READ = "not_read"
    """Stripe's summary was not read: budget spent, or no answer."""
    READ_EARLIER = "read_earlier"
    """Stripe accepted pushes after its summary was last read; the next daily reading shows them."""
    RECOUNTED_EARLIER = "recounted_earlier"
    """More was counted since the ledger was last recounted, within the last day."""
    REMAINDER = "remainder"
    """Less than one unit of what Stripe is told in; the next push carries it."""
    LATE_HELD = "late_held"
    """Late events that await approval; in no total."""
    CARRIED_IN = "carried_in"
    """Usage of an earlier, closed period that is told, and billed, in this one."""
    COMPENSATED = "compensated"
    """What a person had pushed to cancel what others wrote."""
    STANDING = "standing"
    """The last value of an earlier period, which is billed until there is a newer one."""
    TRIAL = "trial"
    """The period lay in a trial, whose usage is told and not billed."""
    NEGATIVE_TOTAL = "negative_total"
    """The total told is below zero: Stripe bills 0 and carries nothing over."""
    NO_SUBSCRIPTION = "no_subscription"
    """The customer has no subscription at Stripe: its usage is told and billed by nothing."""
    LINE_LAGS = "line_lags"
    """The line of an invoice that is still a draft bills another quantity than Stripe was told."""
    SHADOW_DIFFERS = "shadow_differs"
    """The test account of a mapping with a shadow was told another number than the primary."""


NOTES = frozenset(
    {
        Cause.READ_EARLIER,
        Cause.RECOUNTED_EARLIER,
        Cause.REMAINDER,
        Cause.LATE_HELD,
        Cause.CARRIED_IN,
        Cause.STANDING,
        Cause.COMPENSATED,
        Cause.NEGATIVE_TOTAL,
        Cause.TRIAL,
        Cause.NO_SUBSCRIPTION,
        Cause.LINE_LAGS,
    }
)
"""Causes that explain without being a difference."""
WRONG_WHATEVER_THE_AMOUNT = frozenset(
    {
        Cause.NOT_READ,
        Cause.METER_INACTIVE,
        Cause.METER_CHANGED,
        Cause.PRICE_NOT_ON_METER,
        Cause.CUSTOMER_DELETED,
        Cause.SUBSCRIPTION_ITEM_MISSING,
        Cause.TWO_SUBSCRIPTIONS,
    }
)
"""Causes that ask for somebody though they explain no amount."""


UNEXPLAINED = frozenset(
    {Cause.COUNTER_WRONG, Cause.LOST_PUSH, Cause.FOREIGN_WRITER, Cause.INVOICE_DIFFERS}
)
"""Causes that name what is wrong and not why: somebody has to find out."""
DRIFT = UNEXPLAINED | {Cause.ASYNC_REJECTED, Cause.DUPLICATE, Cause.CLOCK_SHIFTED}
"""Causes of numbers that differ though nothing is on its way between them any more."""


class Status(StrEnum):
    """What a row asks of its reader; the values are the HTTP API's."""

    OK = "ok"
    INVESTIGATE = "investigate"
    RESOLVED = "resolved"
    """There is a difference, and nothing is left to be done about it."""


class Look(NamedTuple):
    """What a stretch of time should hold at Stripe, by our pushes, and what it was seen to hold.

    In the metric's unit. `identifier` is the push's that is stamped with this minute, empty for an
    hour or for a minute that none of ours is stamped with.
    """

    span: Span
    expected: Decimal
    seen: Decimal
    identifier: str = ""
    first_seen_at: datetime | None = None
    """When it was first seen so; a second look at least an hour later confirms it."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One cause, how much of the row it explains (in the metric's unit), and a sentence."""

    cause: Cause
    amount: Decimal
    explanation: str
    looks: tuple[Look, ...] = ()
    """The minutes and hours that show it."""
    is_settled: bool = False
    """What was to be done about it is done or decided; nobody is asked for anything."""


class Repair(NamedTuple):
    """A difference that the run itself put right."""

    counter: CounterKey
    period: Span
    cause: Cause
    amount: Decimal
    """How much Stripe will be told again, in the metric's unit."""
    identifier: str
    """Of the push that it was about."""
    text: str


class Proposal(NamedTuple):
    """What a person could do about a difference that no run puts right by itself."""

    counter: CounterKey
    period: Span
    cause: Cause
    amount: Decimal
    """By how much what Stripe was told should change, in the metric's unit."""
    text: str


class InvoiceNumber(NamedTuple):
    """What the invoice of a row's period bills."""

    invoice: str
    """`in_...`"""
    quantity: Decimal
    """Of the lines that charge by the row's meter, in the metric's unit."""
    is_final: bool
    """Whether the invoice was finalized when it was read: then it is never read again."""


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
    invoice: InvoiceNumber | None = None
    """None while the period has no invoice, or none that could be read."""
    told_at_reading: Decimal | None = None
    """What Stripe had accepted when its summary was read."""
    recounted_at: datetime | None = None
    """When the ledger was last read and agreed with the counter; None when it did not agree."""
    usage_mark: str = ""
    """Of what the counter held then (`facts.mark_of`)."""

    @property
    def invoiced(self) -> Decimal | None:
        """What the period's invoice bills; None while there is none."""
        return self.invoice.quantity if self.invoice else None

    @property
    def difference(self) -> Decimal:
        """Ledger less Stripe; what Stripe was not asked counts as 0."""
        return EXACT.subtract(self.ledger, self.stripe or Decimal(0))

    @property
    def drift(self) -> Decimal:
        """The greatest difference that time will not mend and nobody has settled, without sign."""
        lasting = (one for one in self.findings if one.cause in DRIFT and not one.is_settled)
        return max((abs(one.amount) for one in lasting), default=Decimal(0))

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
    """How many requests for reading were made to Stripe."""
    repairs: tuple[Repair, ...] = ()
    """What this run put right."""
    proposals: tuple[Proposal, ...] = ()
    """What a person could do about the rest."""
    role: Role = Role.PRIMARY
    """Whose pushes it is about; reports of the two are never summed up."""
