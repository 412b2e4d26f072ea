"""What the core asks of the outside world; adapters answer, `metering.wiring` connects."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from enum import Enum, StrEnum
from types import MappingProxyType
from typing import NamedTuple, Protocol

from metering.archive import ExportStatus, Window
from metering.auth import ApiKey, KeyRecord
from metering.canary import Slot, Taken
from metering.counter import BucketKey, CounterKey, Usage
from metering.delivery import Answer
from metering.epoch import Epochs
from metering.error_report import MeterErrorReport, Suspicion
from metering.event import LedgerEntry
from metering.invoice_item import InvoiceItem, KnownItem
from metering.item_delivery import ItemAnswer
from metering.lane import Advance, Lane, LaneKey
from metering.mapping import Customer, MetricSettings
from metering.mapping import Mapping as MeterMapping
from metering.names import CustomerRef, IdempotencyKey, Identifier, Metric, TenantId
from metering.notice import Notice, NoticeKind
from metering.period import Interval, Span
from metering.period_close import PeriodClose
from metering.pricing import Rate
from metering.push import Mode, Push, PushStream, Role
from metering.rate_limit import RateKind, TenantLimits
from metering.reconciliation import Report
from metering.stripe_claims import StripeName
from metering.tenant_settings import TenantSettings


class Machine(Protocol):
    """What a process has of its machine beside clients and a clock; a replay brings its own."""

    def token_bytes(self, size: int) -> bytes:
        """So many random bytes, fit for secrets."""
        ...

    def threads(self, count: int, name: str) -> Executor:
        """See `metering.threads.Threads`."""
        ...

    def seconds(self) -> float:
        """Seconds since some moment: only differences mean something."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait."""
        ...


class Clock(Protocol):
    """Where `now` comes from."""

    def now(self) -> datetime:
        """The present instant, aware, UTC."""
        ...


# --- the ledger -----------------------------------------------------------------------------------


class Appended(Enum):
    """What one append to the ledger came to."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    """The same key with the same content stands there already."""
    CONFLICT = "conflict"
    """The same key with other content stands there; nothing was changed."""
    FAILED = "failed"
    """The table refused for now or did not answer; send it again."""


class IndexOffError(Exception):
    """The ledger's `by_counter` index is switched off here (`EVENT_INDEX=off`)."""


class LedgerTooLargeError(Exception):
    """A pass over the ledger would take more pages than it may."""


class Ledger(Protocol):
    """The accepted usage events: appended once, never changed, never removed."""

    def append(self, entries: Sequence[LedgerEntry]) -> list[Appended]:
        """Store each entry unless its key is taken; one outcome per entry, in order.

        No two entries may share tenant and key.
        """
        ...

    def get(self, tenant: TenantId, key: IdempotencyKey) -> LedgerEntry | None:
        """The entry with this key, read consistently.

        Raises:
            RetryableError: the table refused for now.
        """
        ...

    def get_many(
        self, tenant: TenantId, keys: Iterable[IdempotencyKey]
    ) -> dict[IdempotencyKey, LedgerEntry]:
        """The entries that stand at some keys, read consistently.

        Raises:
            RetryableError: not all could be read.
        """
        ...

    def held(
        self, tenant: TenantId, *, metric: Metric | None, customer: CustomerRef | None
    ) -> Iterator[LedgerEntry]:
        """The late events that were ever held back, approved since or not, in no order.

        Of one metric and customer, or of all; a new one shows within moments.
        """
        ...

    def of_counter(
        self,
        counter: CounterKey,
        span: Span,
        *,
        newest_first: bool = False,
        page_size: int | None = None,
    ) -> Iterator[LedgerEntry]:
        """A counter's entries by event time, lazily, from the index that may be switched off.

        `page_size` bounds what one read fetches, for callers that want only the first few.

        Raises:
            IndexOffError: the event index is switched off in this deployment.
        """
        ...

    def of_tenant(self, tenant: TenantId) -> Iterator[LedgerEntry]:
        """All entries of a tenant in no order, by a consistent scan of the whole table."""
        ...

    def to_recount(
        self, tenant: TenantId, *, pages_max: int | None = None
    ) -> Iterator[LedgerEntry]:
        """The same with no more of each entry than its counter depends on: no resource, no meta.

        Raises:
            LedgerTooLargeError: more than `pages_max` pages of 1 MB would have to be read.
        """
        ...


# --- counters -------------------------------------------------------------------------------------


class KnownCounter(NamedTuple):
    """A line of the directory of counters."""

    counter: CounterKey
    newest: datetime
    """No event of the counter is newer than this (rounded up to the hour)."""


class Changes(NamedTuple):
    """What was written to counters in a stretch of time."""

    buckets: set[BucketKey]
    until: datetime
    """Where the stretch ends: now, or earlier where too much was changed to be read at once."""


class Counters(Protocol):
    """The reading side of the counters table."""

    def usage(
        self, tenant: TenantId, customer: CustomerRef, span: Span
    ) -> dict[tuple[Metric, datetime], Usage]:
        """Per metric and bucket start, for the buckets that start within the span; consistent."""
        ...

    def known(
        self, tenant: TenantId, *, customer: CustomerRef | None = None
    ) -> Iterator[KnownCounter]:
        """Every counter that ever got an event, in no order; of one customer or of all."""
        ...

    def changed_since(self, instant: datetime) -> Changes:
        """The counters' buckets written at or after an instant (and perhaps some more)."""
        ...


class Refused(NamedTuple):
    """A lane was not as it had been read; nothing was written."""

    standing: Lane
    """The lane as it is."""


class WriteFailed(NamedTuple):
    """The table refused for now or did not answer; the lane may or may not have been written."""


Written = Lane | Refused | WriteFailed
"""What a lane's write came to: the lane as it stands now, or why it was not written."""


class Lanes(Protocol):
    """The writing side of the counters table."""

    def read(self, keys: Sequence[LaneKey]) -> dict[LaneKey, Lane]:
        """The lanes as they stand; one never written is an empty lane.

        Raises:
            RetryableError: not all could be read.
        """
        ...

    def write(self, steps: Sequence[tuple[LaneKey, Advance]]) -> list[Written]:
        """Take each step if its lane still is what the step starts from; one outcome per step."""
        ...

    def list_counters(self, newest: Mapping[CounterKey, datetime]) -> None:
        """Have the directory list each counter, with no event newer than the instant given.

        Raises:
            RetryableError: not all could be listed.
        """
        ...

    def mark_changed(self, buckets: Collection[BucketKey]) -> None:
        """Mark buckets as changed by now, for `Counters.changed_since`.

        Raises:
            RetryableError: not all could be marked.
        """
        ...


class EpochReader(Protocol):
    """Which epochs of the counters exist."""

    def of(self, tenant: TenantId) -> Epochs:
        """A tenant's epochs, read through a short cache."""
        ...


# --- what tenants set up --------------------------------------------------------------------------


class Settings(Protocol):
    """Metrics, mappings and customers, read through a short cache."""

    def tenant(self, tenant: TenantId) -> TenantSettings:
        """What a tenant has decided, the defaults when it decided nothing."""
        ...

    def metric(self, tenant: TenantId, metric: Metric) -> MetricSettings:
        """A metric's settings, the defaults when nobody set it up."""
        ...

    def active_mapping(self, tenant: TenantId, metric: Metric) -> MeterMapping | None:
        """The mapping that pushes this metric, None when it is unmapped."""
        ...

    def customer(self, tenant: TenantId, ref: CustomerRef) -> Customer:
        """Who a customer is at Stripe (`unmapped_customer` when nobody said)."""
        ...

    def customers(
        self, tenant: TenantId, refs: Iterable[CustomerRef]
    ) -> Mapping[CustomerRef, Customer]:
        """Many at once; refs that nobody set up come as `unmapped_customer`."""
        ...

    def tenants(self) -> list[TenantId]:
        """Every tenant that has settings."""
        ...


class SettingsStore(Protocol):
    """The writing side of `Settings`, and the lists; every read is consistent and uncached."""

    def stored_tenant(self, tenant: TenantId) -> TenantSettings:
        """What a tenant has decided, as it stands in the table now."""
        ...

    def put_tenant(self, settings: TenantSettings) -> None:
        """Keep a tenant's decisions in place of what stood there."""
        ...

    def put_metric(self, tenant: TenantId, settings: MetricSettings) -> None:
        """Keep a metric's settings in place of what stood there."""
        ...

    def metrics(self, tenant: TenantId) -> list[MetricSettings]:
        """The metrics that were set up, by name."""
        ...

    def add_mapping(self, mapping: MeterMapping) -> None:
        """Keep a new mapping.

        Raises:
            ConflictError: it is active and its metric has an active mapping already.
        """
        ...

    def mapping(self, tenant: TenantId, mapping_id: str) -> MeterMapping | None:
        """The tenant's mapping with this id."""
        ...

    def mappings(self, tenant: TenantId) -> list[MeterMapping]:
        """All mappings of a tenant, active or not, oldest first."""
        ...

    def change_mapping(self, before: MeterMapping, after: MeterMapping) -> MeterMapping:
        """Put `after` in the place of `before` and answer it with its new version.

        Raises:
            ConflictError: somebody else changed it meanwhile, or it would be its metric's second
                active one.
        """
        ...

    def delete_mapping(self, mapping: MeterMapping) -> None:
        """Forget a mapping; its metric is unmapped from now on.

        Raises:
            ConflictError: somebody else changed it meanwhile.
        """
        ...

    def put_customer(self, customer: Customer) -> None:
        """Keep a customer in place of what stood there; its `recuts` are counted here.

        Raises:
            RetryableError: it is being changed by others at the same time.
        """
        ...

    def change_customer(self, before: Customer, after: Customer) -> bool:
        """Put `after` in the place of `before`, recuts counted; False when that was changed since.

        `before` may be an `unmapped_customer`: then it holds while nobody has set it up.
        """
        ...

    def stored_customer(self, tenant: TenantId, ref: CustomerRef) -> Customer | None:
        """A customer as it stands in the table now; None when nobody set it up."""
        ...

    def customers_after(
        self, tenant: TenantId, ref: CustomerRef | None, limit: int
    ) -> list[Customer]:
        """Up to `limit` customers that were set up, by ref, from after the given one."""
        ...


class KeyStore(Protocol):
    """API keys, read through a short cache."""

    def find(self, prefix: str) -> ApiKey | None:
        """The key with this prefix, usable or not.

        Raises:
            RetryableError: the table refused for now.
        """
        ...

    def stored(self, prefix: str) -> ApiKey | None:
        """The same as it stands in the table now."""
        ...

    def listed(self, tenant: TenantId, after: str | None, limit: int) -> list[KeyRecord]:
        """Up to `limit` keys of a tenant by prefix, usable or not, from after the given one."""
        ...

    def add(self, key: ApiKey, *, opens_tenant: bool = False) -> None:
        """Keep a new key, and note its tenant.

        Raises:
            ConflictError: the prefix is taken; with `opens_tenant`, the tenant is not new.
        """
        ...

    def replace(self, old: ApiKey, new: ApiKey, retires_at: datetime) -> None:
        """Keep a new key, and let the old one, as it was read, end at that time.

        Raises:
            ConflictError: the old one has been revoked or replaced since.
        """
        ...

    def revoke(self, key: KeyRecord, now: datetime) -> None:
        """Refuse the key from now on; other processes follow when their cache ends."""
        ...


class TenantRates(Protocol):
    """What tenants may send, and have sent lately; see `metering.rate_limit`."""

    def limits(self, tenant: TenantId) -> TenantLimits:
        """What the operator set for a tenant, at most a settings cache ago.

        Raises:
            RetryableError: the table refused for now.
        """
        ...

    def put_limits(self, tenant: TenantId, limits: TenantLimits) -> None:
        """Keep a tenant's limits in place of what stood there."""
        ...

    def spend(
        self, kind: RateKind, tenant: TenantId, seconds: float, *, since: float, heard: float
    ) -> float:
        """Put off the instant until which a tenant's usage is paid for, and answer it.

        It begins at `since`, when the usage did, where it lies before that. `heard` is the instant
        as last answered, 0 for never. Instants are epoch seconds; a repeat after a lost answer puts
        it off twice.

        Raises:
            RetryableError: the table refused for now.
        """
        ...


class StripeClaims(Protocol):
    """Which tenant an object at Stripe belongs to."""

    def take(self, tenant: TenantId, names: Collection[StripeName], now: datetime) -> None:
        """Claim all of them for a tenant, as far as they are not its own already.

        Raises:
            ConflictError: one is another tenant's; nothing was claimed.
        """
        ...

    def release(self, name: StripeName) -> TenantId | None:
        """Let anybody claim it again; whose it was."""
        ...


class Tables(Protocol):
    """The deployment's tables as things that can be missing."""

    def unreadable(self) -> list[str]:
        """The tables that cannot be read now, each with the reason; empty when all is well."""
        ...


# --- telemetry ------------------------------------------------------------------------------------


class Metrics(Protocol):
    """Numbers for operators; labels never hold a tenant or a customer."""

    def count(self, name: str, by: float = 1, **labels: str) -> None:
        """Raise a count."""
        ...

    def observe(self, name: str, value: float, **labels: str) -> None:
        """Note one of many values, such as a duration."""
        ...

    def gauge(self, name: str, value: float, **labels: str) -> None:
        """Set what something is now."""
        ...

    def flush(self) -> None:
        """Write out what one invocation has noted, where that is how numbers leave."""
        ...

    def exposition(self) -> tuple[str, str] | None:
        """Content type and text of all of them, None where no scraper is meant to read them."""
        ...


# --- quarantine -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Quarantined:
    """Input that could not be taken or folded, kept whole with its reason.

    `tenant` and `key` are there when the input was readable enough to have them.
    """

    id: str
    """The same for the same input, so that a redelivery overwrites and does not pile up."""
    tenant: TenantId | None
    key: IdempotencyKey | None
    kind: str
    """`unparseable`, `invalid_event`, `conflict`, `unfoldable`, `unreadable`."""
    reason: str
    origin: str
    """`sqs:<message id>`, `stream:<sequence number>`, or of a conflict the event's own source."""
    payload: str
    recorded_at: datetime


class Quarantine(Protocol):
    """Input set aside with its reason."""

    def put(self, items: Sequence[Quarantined]) -> None:
        """Keep each item; putting the same id again changes nothing.

        Raises:
            RetryableError: not kept; the input must be redelivered.
        """
        ...

    def of_key(self, tenant: TenantId, key: IdempotencyKey) -> list[Quarantined]:
        """What was set aside under an event's key, newest first."""
        ...

    def newest(self, tenant: TenantId | None, limit: int) -> list[Quarantined]:
        """The newest items of a tenant, or of input whose tenant is unknown."""
        ...


# --- Stripe ---------------------------------------------------------------------------------------


class SetupError(Exception):
    """An operator must set something up (a key, a permission); the message says what."""


@dataclass(frozen=True, slots=True)
class StripeMeter:
    """A Billing Meter."""

    id: str
    event_name: str
    formula: str
    """`sum`, `count` or `last`; Stripe may add more."""
    active: bool
    window: str = ""
    """Its `event_time_window`: empty, `hour` or `day`."""
    customer_key: str = "stripe_customer_id"
    value_key: str = "value"
    """Under which names its events hold customer and value."""


@dataclass(frozen=True, slots=True)
class StripePrice:
    """A price, as far as it says how usage is billed."""

    id: str
    product: str
    currency: str
    is_metered: bool
    meter_id: str
    """Empty for a legacy metered price, and for one that is not metered."""
    interval: str = ""
    """`day`, `week`, `month` or `year`; empty for a price that does not recur."""
    interval_count: int = 1
    unit_amount: str = ""
    """In the currency's smallest unit, a decimal as text; empty for tiers."""
    tiers_mode: str = ""
    """`graduated` or `volume`; empty without tiers."""

    @property
    def is_legacy(self) -> bool:
        """Whether it bills usage records, which Stripe has given up for meters."""
        return self.is_metered and not self.meter_id


@dataclass(frozen=True, slots=True)
class SubscriptionItem:
    """A subscription's item and the billing period it is in, to the second."""

    id: str
    price_id: str
    meter_id: str
    """Empty for a price that is not metered by a Billing Meter."""
    period: Span
    interval: Interval = Interval.MONTH
    interval_count: int = 1
    """Its period lasts so many intervals."""


@dataclass(frozen=True, slots=True)
class Subscription:
    """A customer's subscription at Stripe."""

    id: str
    customer: str
    """`cus_...`"""
    billing_anchor: datetime
    items: tuple[SubscriptionItem, ...]
    anchor_day: int = 0
    """The day of the month that periods begin on, where it is set apart from the anchor."""
    started_at: datetime | None = None
    trial_ends_at: datetime | None = None
    """When its trial ends or ended, in which usage is not billed; None without one."""
    ends_at: datetime | None = None
    """When it will be over; None while it goes on for good."""
    ended_at: datetime | None = None
    """When it was over; None while it goes on."""


class InvoiceStatus(StrEnum):
    """Where an invoice stands, in Stripe's words."""

    DRAFT = "draft"
    """It still takes usage of its period."""
    OPEN = "open"
    PAID = "paid"
    UNCOLLECTIBLE = "uncollectible"
    VOID = "void"


@dataclass(frozen=True, slots=True)
class Invoice:
    """An invoice of a subscription, as far as a period's close needs it."""

    id: str
    subscription: str
    status: InvoiceStatus
    reason: str
    """Stripe's `billing_reason`: `subscription_cycle`."""
    period: Span
    """The time whose usage it bills."""
    advances: bool
    """Whether Stripe goes on with it by itself; a draft that does not is held by somebody."""
    finalizes_at: datetime | None = None
    """When Stripe will finalize the draft by itself."""
    finalized_at: datetime | None = None
    quantities: Mapping[str, Decimal] = MappingProxyType({})
    """By price id, in the meter's unit; only the lines that came with the invoice."""
    is_whole: bool = True
    """Whether `quantities` hold all of its lines."""


@dataclass(frozen=True, slots=True)
class MeterEvent:
    """What one push sends, exactly; the same every time it is sent."""

    account: str
    """`acct_...`, or empty for the key's own account."""
    event_name: str
    customer: str
    value: str
    occurred_at: datetime
    """A whole minute."""
    identifier: Identifier
    idempotency_key: str


@dataclass(frozen=True, slots=True)
class UsageRecord:
    """What one push sends for a legacy metered price, which has no meter: the whole usage so far.

    It is set, never added, so sending it again changes nothing.
    """

    account: str
    """`acct_...`, or empty for the key's own account."""
    subscription_item: str
    """`si_...`"""
    quantity: str
    occurred_at: datetime
    """A whole minute; one number stands at each instant."""
    idempotency_key: str


class ReadCounts(Protocol):
    """How often Stripe was read, per account (empty: the key's own) and UTC day."""

    def add(self, account: str, day: date, reads: int) -> None:
        """Count some more.

        Raises:
            RetryableError: perhaps counted, perhaps not.
        """
        ...

    def since(self, account: str, day: date) -> Mapping[date, int]:
        """The days from this one on that have any.

        Raises:
            RetryableError: the table refused for now.
        """
        ...


class Billing(Protocol):
    """Stripe, as far as metering needs it.

    The reading methods raise RetryableError when Stripe cannot answer now, and SetupError when no
    key is configured or the key may not do that.
    """

    @property
    def mode(self) -> Mode:
        """The world that the configured key opens; SetupError without a key."""
        ...

    def reach(self) -> None:
        """Pass when Stripe answers our key."""
        ...

    def send(self, event: MeterEvent | UsageRecord) -> Answer:
        """Send a push once. Whatever comes back is an answer, a timeout too."""
        ...

    def total(self, meter_id: str, customer: str, span: Span, account: str = "") -> Decimal:
        """What a meter has added up for a customer between two whole minutes; 0 for nothing."""
        ...

    def hourly(
        self, meter_id: str, customer: str, span: Span, account: str = ""
    ) -> dict[datetime, Decimal]:
        """The same by the start of each UTC hour that has any; the span's bounds are whole hours.

        One request for reading per hundred hours of the span.
        """
        ...

    def records_total(self, subscription_item: str, period: Span, account: str = "") -> Decimal:
        """What usage records of a legacy price come to in one of its item's billing periods.

        Raises:
            NotFoundError: no such item in this account and mode, or its price has a meter.
        """
        ...

    def meter_of_price(self, price_id: str, account: str = "") -> StripeMeter | None:
        """The meter that a price charges by.

        None when the price has no meter (a legacy metered price, or not metered at all).

        Raises:
            NotFoundError: no such price in this account and mode.
        """
        ...

    def meter(self, meter_id: str, account: str = "") -> StripeMeter:
        """A meter.

        Raises:
            NotFoundError: no such meter in this account and mode.
        """
        ...

    def price(self, price_id: str, account: str = "") -> StripePrice:
        """A price.

        Raises:
            NotFoundError: no such price in this account and mode.
        """
        ...

    def subscription(self, subscription_id: str, account: str = "") -> Subscription:
        """A subscription with its items.

        Raises:
            NotFoundError: no such subscription in this account and mode.
        """
        ...


class InvoiceLine(NamedTuple):
    """A line of an invoice, as far as it bills usage or seats of a price."""

    price_id: str
    subscription_item_id: str
    """Empty for a line that comes of no subscription."""
    meter_id: str
    """Empty for a price that is not metered by a Billing Meter."""
    quantity: Decimal
    """In the units that the price counts."""
    period: Span


class InvoiceLines(Protocol):
    """What invoices bill."""

    def lines(self, invoice_id: str, account: str = "") -> list[InvoiceLine]:
        """An invoice's lines; of a draft they may lag behind the usage.

        Raises:
            NotFoundError: no such invoice in this account and mode.
            RetryableError: Stripe cannot answer now.
            SetupError: no key is configured, or it may not read invoices.
        """
        ...


class StripeCustomers(Protocol):
    """Customers at Stripe, as far as they can be billed."""

    def items_of(self, customer: str, account: str = "") -> tuple[SubscriptionItem, ...] | None:
        """The items of all subscriptions that are not over; None when the customer is deleted.

        Two requests for reading.

        Raises:
            RetryableError: Stripe cannot answer now.
            SetupError: no key is configured, or it may not read customers.
        """
        ...


class Subscriptions(Protocol):
    """Subscriptions at Stripe; raises as the reading methods of `Billing` do."""

    def subscription(self, subscription_id: str, account: str = "") -> Subscription:
        """A subscription with its items, ended or not.

        Raises:
            NotFoundError: no such subscription in this account and mode.
        """
        ...

    def of_customer(self, stripe_customer: str, account: str = "") -> list[Subscription]:
        """A customer's subscriptions that go on; none of one that Stripe does not know."""
        ...

    def under_way(self, account: str = "") -> Iterator[Subscription]:
        """All subscriptions of the account that go on, read as they are needed."""
        ...

    def cancel(self, subscription_id: str, *, invoice_now: bool, account: str = "") -> Subscription:
        """End a subscription at once; with `invoice_now` its open usage is billed.

        Raises:
            NotFoundError: no such subscription, or it has ended already.
        """
        ...


class Invoices(Protocol):
    """Invoices at Stripe; raises as the reading methods of `Billing` do."""

    def invoice(self, invoice_id: str, account: str = "") -> Invoice:
        """An invoice as it is now.

        Raises:
            NotFoundError: no such invoice; a draft can be deleted.
        """
        ...

    def of_subscription(self, subscription_id: str, account: str = "") -> list[Invoice]:
        """The newest invoices of a subscription, newest first."""
        ...

    def let_advance(self, invoice_id: str, *, on: bool, account: str = "") -> Invoice:
        """Have Stripe finalize a draft by itself, or not; the invoice as it is then.

        Of one that is no draft any more nothing is changed.
        """
        ...


class Prices(Protocol):
    """Prices at Stripe, as far as they say what a quantity costs."""

    def rate(self, price_id: str, account: str = "") -> Rate:
        """How a price turns a quantity into an amount.

        Raises:
            UnpriceableError: it says something we do not know how to price.
            NotFoundError: no such price in this account and mode.
            RetryableError: Stripe cannot answer now.
            SetupError: no key is configured, or it may not read prices.
        """
        ...


class InvoiceItems(Protocol):
    """Invoice items at Stripe that bill usage apart."""

    def add(self, item: InvoiceItem, customer: str, period: Span, account: str) -> ItemAnswer:
        """Send an item once. Whatever comes back is an answer, a timeout too."""
        ...

    def of_customer(self, customer: str, since: datetime, account: str) -> list[KnownItem]:
        """The customer's items that bear an id of ours and were made since an instant.

        Raises:
            RetryableError: Stripe cannot answer now.
            SetupError: no key is configured, or it may not read invoice items.
        """
        ...


# --- what Stripe was told -------------------------------------------------------------------------


class PushHistory(NamedTuple):
    """A stream and its pushes, oldest first; the open one is last."""

    stream: PushStream
    pushes: list[Push]


class Change(NamedTuple):
    """A stream as it should stand in the place of its former version."""

    stream: PushStream
    closed: Push | None = None
    """The push that it closed."""
    customer: Customer | None = None
    """For a stream that was never stored, or whose period changes: that holds only while the
    customer's calendar is the one that cut its period."""


class Pushes(Protocol):
    """Streams and their pushes, of one role; all reads are consistent."""

    @property
    def role(self) -> Role:
        """Whose streams these are; those of the other role are never seen here."""
        ...

    def streams(self, counter: CounterKey, period: Span) -> list[PushStream]:
        """The streams of a counter in a billing period (more than one after a remapping)."""
        ...

    def of_customer(
        self, tenant: TenantId, customer: CustomerRef, period: Span
    ) -> dict[Metric, list[PushStream]]:
        """The streams of all of a customer's counters in a billing period, by metric."""
        ...

    def overlapping(self, counter: CounterKey, period: Span) -> list[PushStream]:
        """The counter's streams whose periods share time with this one and begin elsewhere."""
        ...

    def of_period(self, counter: CounterKey, period: Span) -> list[PushHistory]:
        """The same, each with all its pushes."""
        ...

    def history(self, stream: PushStream) -> list[Push]:
        """All pushes that count for a stream, oldest first; the open one is last.

        Those that it has received from other streams come first; those it has ceded are not there.
        """
        ...

    def of_month(self, tenant: TenantId, month: str) -> Iterator[PushStream]:
        """A tenant's streams whose periods begin in the month `YYYY-MM`, in no order."""
        ...

    def in_need(self, tenant: TenantId | None = None) -> list[PushStream]:
        """Every stream with an open push or a stop, whatever its counter does; or one tenant's."""
        ...

    def store(self, stream: PushStream, closed: Push | None = None) -> PushStream | None:
        """Put a changed stream in the place of its former version, with the push that it closed.

        All of it or nothing. Answers the stream as stored, with its new version; None when somebody
        else has stored the stream meanwhile.

        Raises:
            RetryableError: perhaps stored, perhaps not; read it again.
        """
        ...

    def store_all(self, changes: Sequence[Change]) -> list[PushStream | None]:
        """Store each of several streams as `store` does, one outcome per change.

        None also when a stream's customer has another calendar by now.

        Raises:
            RetryableError: some perhaps stored, some perhaps not; read them again.
        """
        ...

    def store_together(self, changes: Sequence[Change]) -> list[PushStream] | None:
        """Store all of a few streams or none of them.

        None when somebody else has stored one of them meanwhile, or when the customer of one has
        another calendar by now.

        Raises:
            RetryableError: perhaps stored, perhaps not; read them again.
        """
        ...

    def claim(self, stream: PushStream) -> bool:
        """Whether the stream's counter is the one that sets the target's value this month.

        The first to ask is, for all periods that begin in the month.
        """
        ...

    def incarnation(self) -> int:
        """Which life of the store this is; raised by one after a restore from a backup."""
        ...

    def announce_life(self, now: datetime) -> datetime:
        """Note that the store's next life is to begin, and answer since when that is noted."""
        ...

    def raise_incarnation(self) -> int:
        """Begin the store's next life and answer its number; no identifier is used again."""
        ...

    def pause(self, account: str, mode: Mode, until: datetime, reason: str) -> None:
        """Leave a Stripe account alone until an instant."""
        ...

    def paused_until(self, account: str, mode: Mode) -> datetime | None:
        """When a pause of the account ends or ended; None when it never was paused."""
        ...


class PeriodCloses(Protocol):
    """The ends of customers' billing periods; all reads are consistent."""

    def of(self, tenant: TenantId, customer: CustomerRef, period: Span) -> PeriodClose | None:
        """How far the end of a period has come; None when nothing is known of it yet."""
        ...

    def of_month(self, tenant: TenantId, month: str) -> Iterator[PeriodClose]:
        """Those of a tenant's periods that begin in the month `YYYY-MM`, in no order."""
        ...

    def unfinished(self) -> Iterator[PeriodClose]:
        """Every period that is closing, of all tenants."""
        ...

    def to_hold(self, now: datetime) -> Iterator[PeriodClose]:
        """Those of them whose draft is to be held first by now (`period_close.held_from`)."""
        ...

    def store(self, close: PeriodClose) -> PeriodClose | None:
        """Put a changed close in the place of its former version, and answer it as stored.

        None when somebody else has stored it meanwhile.
        """
        ...


class Rounds(Protocol):
    """When what is done from time to time was last done; they save work, no number needs them."""

    def last(self, name: str) -> datetime | None:
        """When a round was last finished; None when it never was."""
        ...

    def note(self, name: str, finished_at: datetime) -> None:
        """A round was finished."""
        ...


class Notices(Protocol):
    """Notices from Stripe that were not acted on yet."""

    def keep(self, notice: Notice) -> bool:
        """Keep a notice to be acted on; False when one with its id was kept before."""
        ...

    def waiting(self, *kinds: NoticeKind) -> Iterator[Notice]:
        """The notices of some kinds that nobody has acted on yet, oldest first."""
        ...

    def done(self, notice: Notice) -> None:
        """Nobody needs to act on it any more; its id stays known for 30 days."""
        ...


class WebhookSettings(Protocol):
    """What an operator has set up for Stripe's webhooks."""

    @property
    def mode(self) -> Mode:
        """The world that the configured key opens; SetupError without a key."""
        ...

    def secrets(self) -> tuple[str, ...]:
        """What may sign: several while one takes another's place, never none.

        Raises:
            SetupError: none is set up, or what is set up is no secret of a webhook.
            RetryableError: they cannot be read now.
        """
        ...


class MeterErrorReports(Protocol):
    """Stripe's reports of meter events that it took and did not count."""

    def report(self, event_id: str, account: str = "") -> MeterErrorReport:
        """The report in a thin event.

        Raises:
            NotFoundError: no such event in this account and mode; Stripe keeps them for 30 days.
            RetryableError: Stripe cannot answer now.
            SetupError: no key is configured, or it may not read events.
        """
        ...


class Suspects(Protocol):
    """Suspicions that Stripe did not count what it took, until a look at Stripe settles them.

    All methods raise RetryableError when the table refuses for now.
    """

    def add(self, suspicions: Sequence[Suspicion]) -> None:
        """Keep each, unless one with its id stands there."""
        ...

    def change(self, suspicion: Suspicion) -> None:
        """Keep it in the place of the one with its id, unless that was settled meanwhile."""
        ...

    def open(self) -> Iterator[Suspicion]:
        """Every suspicion that is not settled, in no order; consistent."""
        ...

    def done(self, suspicion: Suspicion) -> None:
        """It is settled; a new report may raise it again."""
        ...


class Pass(NamedTuple):
    """A pass over counters that a writer had to leave unfinished."""

    began_at: datetime
    is_sweep: bool
    """Over all counters, not only changed ones."""
    after: str = ""
    """It goes on after this group, in the order of groups."""
    must_return: bool = False
    """Up to there something was left that only another look will find."""


class Cursor(NamedTuple):
    """How far the writer has looked at counters."""

    looked_from: datetime
    """Changes before this have been dealt with."""
    swept_from: datetime
    """When the last finished pass over all counters began."""
    unfinished: Pass | None = None


class WriterDesk(Protocol):
    """The writer's lease and cursor: they save work; no number depends on them."""

    def take_lease(self, owner: str, now: datetime, until: datetime) -> int | None:
        """The lease's fencing number, or None while another writer holds it."""
        ...

    def end_lease(self, fence: int) -> None:
        """Give the lease back, if it still is ours."""
        ...

    def cursor(self) -> Cursor | None:
        """Where the last writer stopped; None before the first."""
        ...

    def move_cursor(self, cursor: Cursor, fence: int) -> bool:
        """Keep the cursor, unless another writer has taken the lease since."""
        ...


class Exports(Protocol):
    """Exports of the ledger to a bucket; they run for minutes to hours after they were begun.

    Its methods raise `RetryableError` when the database cannot answer now.
    """

    def restorable(self) -> Span:
        """The time that can be exported.

        Raises:
            SetupError: the ledger keeps no backups to export from.
        """
        ...

    def begin(self, window: Window, at: datetime) -> str:
        """Export a window's changes, or the ledger as it was `at` a moment; the export's name.

        The same attempt at the same window is the same export, for eight hours.
        """
        ...

    def status(self, export: str) -> ExportStatus:
        """How far an export is."""
        ...


class ArchiveWindows(Protocol):
    """Which windows of time were exported, or will be; `RetryableError` as everywhere."""

    def all(self) -> list[Window]:
        """Every window, in the order of time."""
        ...

    def add(self, window: Window) -> bool:
        """Keep a new window; False when one with its start is there already."""
        ...

    def change(self, before: Window, after: Window) -> bool:
        """Put `after` in the place of `before`; False when another run has changed it since."""
        ...


class CanaryApi(Protocol):
    """The deployment's own public API, as the canary's tenant calls it.

    Its methods raise `RetryableError` when it cannot be reached or cannot answer now, and
    `SetupError` when it refuses the canary's key.
    """

    def send(self, slots: Sequence[Slot]) -> list[Taken]:
        """Send each slot's event; what ingest answered about each, in order."""
        ...

    def daily(self, first: datetime, last: datetime) -> Mapping[date, Decimal]:
        """What the counters hold of each day's slots, from `first` to `last`."""
        ...

    def stripe_difference(self, month: str) -> Decimal | None:
        """What the month's latest report finds between ledger and Stripe that time will not mend.

        None where the canary's customer is not told to Stripe, or there is no report yet.
        """
        ...


class Reports(Protocol):
    """Reconciliation reports: one per run, tenant and month; the latest is what is shown."""

    def save(self, report: Report) -> None:
        """Keep a report; it becomes the latest of its tenant and month."""
        ...

    def latest(self, tenant: TenantId, month: str) -> Report | None:
        """The newest report of a month, whole; None before the first."""
        ...
