"""What the core asks of the outside world; `metering.adapters` answers, `metering.wiring` connects."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import NamedTuple, Protocol

from metering.counter import CounterKey, Usage
from metering.event import LedgerEntry
from metering.mapping import Customer, MetricSettings
from metering.mapping import Mapping as MeterMapping
from metering.names import CustomerRef, IdempotencyKey, Metric, TenantId
from metering.period import Span


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


class Ledger(Protocol):
    """The accepted usage events: appended once, never changed, never removed."""

    def append(self, entries: Sequence[LedgerEntry]) -> list[Appended]:
        """Store each entry unless its key is taken; one outcome per entry, in order.

        No two entries may share tenant and key.
        """
        ...

    def get(self, tenant: TenantId, key: IdempotencyKey) -> LedgerEntry | None:
        """The entry with this key, read consistently."""
        ...

    def of_counter(
        self, counter: CounterKey, span: Span, *, newest_first: bool = False
    ) -> Iterator[LedgerEntry]:
        """A counter's entries by event time, lazily, from the index that may be switched off.

        Raises:
            IndexOffError: the event index is switched off in this deployment.
        """
        ...

    def of_tenant(self, tenant: TenantId) -> Iterator[LedgerEntry]:
        """All entries of a tenant in no order, by a consistent scan of the whole table."""
        ...


# --- counters -------------------------------------------------------------------------------------


class BucketKey(NamedTuple):
    """One counter in one bucket of time."""

    counter: CounterKey
    bucket: datetime
    """The bucket's start."""


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


# --- quarantine -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Quarantined:
    """Input that could not be taken or folded, kept whole with its reason.

    `subject` is the ledger's `tenant` and `key` when the input was readable enough to have them.
    """

    id: str
    """The same for the same input, so that a redelivery overwrites and does not pile up."""
    tenant: TenantId | None
    key: IdempotencyKey | None
    kind: str
    """`unparseable`, `invalid_event`, `conflict`, `unfoldable`."""
    reason: str
    origin: str
    """Where it came from: `sqs:<message id>`, `http`, `stream:<sequence number>`."""
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
