"""What tenants set up: metrics, mappings of metrics onto Stripe meters, and customers."""

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum

from metering.counter import Aggregation
from metering.names import CustomerRef, Metric, TenantId
from metering.period import BillingCalendar, Era, Width

STRIPE_CUSTOMER_PREFIX = "cus_"


class LatePolicy(StrEnum):
    """What becomes of an event older at receipt than its metric's lateness."""

    ADJUST = "adjust"
    """Kept in the ledger, held back from the counter until approved."""
    COUNT = "count"
    """Counted like any other."""
    REJECT = "reject"
    """Refused at ingest."""


@dataclass(frozen=True, slots=True)
class MetricSettings:
    """How a metric is counted; these defaults serve a metric that nobody set up."""

    metric: Metric
    aggregation: Aggregation = Aggregation.SUM
    late_policy: LatePolicy = LatePolicy.ADJUST
    lateness: timedelta = timedelta(hours=48)
    unit: str = "unit"
    """What its quantities are, for people: `request`, `GB`."""
    bucket: Width = Width.DAY
    """How finely its counters are kept. What is already counted stays in its bucket until the
    tenant's counters are rebuilt."""


@dataclass(frozen=True, slots=True)
class Mapping:
    """Which Stripe meter a metric is pushed to; at most one active per tenant and metric."""

    id: str
    tenant: TenantId
    metric: Metric
    aggregation: Aggregation
    stripe_account: str
    """`acct_...`, or empty for the account that the key belongs to."""
    price_id: str
    subscription_item_id: str
    currency: str
    meter_id: str
    meter_event_name: str
    scale: int
    """Stripe is told whole units of 10^-scale."""
    active: bool
    shadow: bool
    shadow_stripe_account: str
    shadow_price_id: str
    shadow_subscription_item_id: str
    created_at: datetime
    updated_at: datetime
    version: int = 1
    """Counts its changes, so that two who change it at once do not undo each other."""
    meter_window: str = ""
    """The meter's `event_time_window`: empty, `hour` or `day`. A meter with one keeps only the last
    event of each window, so it is told whole totals."""
    is_legacy: bool = False
    """Its price has no meter: usage records go to each customer's subscription item."""
    shadow_meter_id: str = ""
    shadow_meter_event_name: str = ""
    """Where the same is told in the test account, while `shadow`."""
    shadow_since: datetime | None = None
    """When it began to be told there: periods that had closed by then are left alone."""


@dataclass(frozen=True, slots=True)
class Customer:
    """A tenant's customer and who it is at Stripe."""

    tenant: TenantId
    ref: CustomerRef
    stripe_customer: str
    """`cus_...`, or empty while unknown: then nothing is pushed for it."""
    shadow_stripe_customer: str = ""
    """`cus_...` in the test account; empty: then nothing is shadowed for it."""
    subscription: str = ""
    """`sub_...`, whose periods are the customer's; empty without one."""
    eras: tuple[Era, ...] = ()
    """How its billing periods were cut since its first subscription."""
    recuts: int = 0
    """How often its calendar was changed when usage may have been told by the former one; the store
    of settings keeps this itself. At 0 no stream of pushes was ever cut otherwise."""
    trouble: str = ""
    """What a person must look at: its subscriptions at Stripe do not say one thing."""
    revision: int = field(default=0, compare=False)
    """Counts its changes, so that two who change it at once do not undo each other."""

    @property
    def calendar(self) -> BillingCalendar:
        """The customer's billing periods."""
        return BillingCalendar(self.eras)

    @property
    def billing_anchor(self) -> datetime | None:
        """Where the subscription's periods are counted from; None without a subscription."""
        return self.eras[-1].anchor if self.eras and self.eras[-1].subscription else None


def unmapped_customer(tenant: TenantId, ref: CustomerRef) -> Customer:
    """A customer nobody set up: a ref that starts with `cus_` is its own Stripe customer."""
    return Customer(tenant, ref, ref if ref.startswith(STRIPE_CUSTOMER_PREFIX) else "")


def in_place_of(before: Customer | None, after: Customer) -> Customer:
    """A customer that takes the place of another (None: nobody had set it up), recuts counted.

    Who had no Stripe customer before it was first set up was told nothing by any calendar.
    """
    former = before or unmapped_customer(after.tenant, after.ref)
    was_told = before is not None or former.stripe_customer != ""
    is_recut = was_told and former.calendar != after.calendar
    return replace(after, recuts=former.recuts + is_recut)
