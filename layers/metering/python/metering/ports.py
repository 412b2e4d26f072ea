"""What the core asks of the outside world; adapters answer, `metering.wiring` connects."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import Enum
from typing import NamedTuple, Protocol

from metering.auth import ApiKey
from metering.counter import BucketKey, CounterKey, Usage
from metering.delivery import Answer
from metering.epoch import Epochs
from metering.event import LedgerEntry
from metering.lane import Advance, Lane, LaneKey
from metering.mapping import Customer, MetricSettings
from metering.mapping import Mapping as MeterMapping
from metering.names import CustomerRef, IdempotencyKey, Identifier, Metric, TenantId
from metering.period import Span
from metering.push import Mode, Push, PushStream
from metering.reconciliation import Report


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


# --- counters -------------------------------------------------------------------------------------


class KnownCounter(NamedTuple):
    """A line of the directory of counters."""

    counter: CounterKey
    newest: datetime
    """No event of the counter is newer than this (rounded up to the hour)."""


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

    def changed_since(self, instant: datetime) -> set[BucketKey]:
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

    def add(self, key: ApiKey) -> None:
        """Keep a new key, and note its tenant.

        Raises:
            ConflictError: the prefix is taken.
        """
        ...

    def revoke(self, key: ApiKey, now: datetime) -> None:
        """Refuse the key from now on; other processes follow when their cache ends."""
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

    def exposition(self) -> tuple[str, str] | None:
        """Content type and text of all of them, None where they are switched off."""
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


@dataclass(frozen=True, slots=True)
class SubscriptionItem:
    """A subscription's item and the billing period it is in, to the second."""

    id: str
    price_id: str
    meter_id: str
    """Empty for a price that is not metered by a Billing Meter."""
    period: Span


@dataclass(frozen=True, slots=True)
class Subscription:
    """A customer's subscription at Stripe."""

    id: str
    customer: str
    """`cus_...`"""
    billing_anchor: datetime
    items: tuple[SubscriptionItem, ...]


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

    def send(self, event: MeterEvent) -> Answer:
        """Send a meter event once. Whatever comes back is an answer, a timeout too."""
        ...

    def total(self, meter_id: str, customer: str, span: Span, account: str = "") -> Decimal:
        """What a meter has added up for a customer between two whole minutes; 0 for nothing."""
        ...

    def meter_of_price(self, price_id: str, account: str = "") -> StripeMeter | None:
        """The meter that a price charges by.

        None when the price has no meter (a legacy metered price, or not metered at all).

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
    """For a stream that was never stored: it may begin only while the customer's calendar is the
    one that cut its period."""


class Pushes(Protocol):
    """Streams and their pushes; all reads are consistent."""

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
        """All pushes of a stream, oldest first; the open one is last."""
        ...

    def of_month(self, tenant: TenantId, month: str) -> Iterator[PushStream]:
        """A tenant's streams whose periods begin in the month `YYYY-MM`, in no order."""
        ...

    def in_need(self) -> list[PushStream]:
        """Every stream with an open push or a stop, whatever its counter does."""
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

    def incarnation(self) -> int:
        """Which life of the store this is; raised by one after a restore from a backup."""
        ...

    def pause(self, account: str, mode: Mode, until: datetime, reason: str) -> None:
        """Leave a Stripe account alone until an instant."""
        ...

    def paused_until(self, account: str, mode: Mode) -> datetime | None:
        """When a pause of the account ends or ended; None when it never was paused."""
        ...


class Pass(NamedTuple):
    """A pass over counters that a writer had to leave unfinished."""

    began_at: datetime
    is_sweep: bool
    """Over all counters, not only changed ones."""
    after: str = ""
    """It goes on after this group, in the order of groups."""


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


class Reports(Protocol):
    """Reconciliation reports: one per run, tenant and month; the latest is what is shown."""

    def save(self, report: Report) -> None:
        """Keep a report; it becomes the latest of its tenant and month."""
        ...

    def latest(self, tenant: TenantId, month: str) -> Report | None:
        """The newest report of a month, whole; None before the first."""
        ...
