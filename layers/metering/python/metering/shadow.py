"""Shadow mode: what Stripe is told of a metric is told a test account, too, for comparison.

The shadow is the writer and the reconciler once more, over other ports: mappings and customers as
they stand in the test account, streams of its own, its own lease and cursor, and a key that opens
test mode only. So nothing the shadow does, or fails to do, can change what the primary is told.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol

from metering.counter import CounterKey, Usage
from metering.keys import join
from metering.mapping import Customer, MetricSettings
from metering.mapping import Mapping as MeterMapping
from metering.names import CustomerRef, Metric, TenantId
from metering.period import NEVER, Span
from metering.period_close import PeriodClose
from metering.ports import (
    Changes,
    Counters,
    InvoiceLine,
    KnownCounter,
    PeriodCloses,
    ReadCounts,
    Settings,
    SetupError,
)
from metering.push import Role
from metering.telemetry import count_run
from metering.tenant_settings import AfterClose, TenantSettings

if TYPE_CHECKING:
    from metering.ports import Metrics

log = logging.getLogger("metering.shadow")

NO_KEY = (
    "no STRIPE_SHADOW_SECRET_NAME (or _KEY) is set: mappings with shadow tell the test account"
    " nothing"
)
TIME_NEEDED = timedelta(seconds=15)
"""With less left, a run for the shadow would not come to send anything."""
LONGER = timedelta(minutes=10)
"""How much longer than the primary the shadow takes usage of a period that closes: the primary may
be told its last usage just before, and the shadow only ever comes after it."""


# --- what tenants set up, as it is in the test account --------------------------------------------


def as_shadow(mapping: MeterMapping | None) -> MeterMapping | None:
    """The mapping as it stands in the test account; None when it has no shadow.

    Usage of periods that had closed before the shadow began is not told there later.
    """
    if mapping is None or not mapping.shadow:
        return None
    return replace(
        mapping,
        stripe_account=mapping.shadow_stripe_account,
        price_id=mapping.shadow_price_id,
        subscription_item_id=mapping.shadow_subscription_item_id,
        meter_id=mapping.shadow_meter_id,
        meter_event_name=mapping.shadow_meter_event_name,
        is_legacy=False,
        created_at=mapping.shadow_since or mapping.updated_at,
    )


def in_test_account(customer: Customer) -> Customer:
    """The customer as the test account knows it; its billing periods are the primary's."""
    return replace(customer, stripe_customer=customer.shadow_stripe_customer)


class ShadowSettings:
    """The `Settings` port, as the test account has them."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def tenant(self, tenant: TenantId) -> TenantSettings:
        """See `Settings.tenant`.

        Usage after the close is carried or left: a test account's invoices are nobody's bills, so
        it gets no invoice items.
        """
        found = self._settings.tenant(tenant)
        if found.after_close is not AfterClose.INVOICE_ITEM:
            return found
        return replace(found, after_close=AfterClose.UNBILLED)

    def metric(self, tenant: TenantId, metric: Metric) -> MetricSettings:
        """See `Settings.metric`."""
        return self._settings.metric(tenant, metric)

    def active_mapping(self, tenant: TenantId, metric: Metric) -> MeterMapping | None:
        """See `Settings.active_mapping`; None for a metric without a shadow, too."""
        return as_shadow(self._settings.active_mapping(tenant, metric))

    def customer(self, tenant: TenantId, ref: CustomerRef) -> Customer:
        """See `Settings.customer`."""
        return in_test_account(self._settings.customer(tenant, ref))

    def customers(
        self, tenant: TenantId, refs: Iterable[CustomerRef]
    ) -> Mapping[CustomerRef, Customer]:
        """See `Settings.customers`."""
        found = self._settings.customers(tenant, refs)
        return {ref: in_test_account(customer) for ref, customer in found.items()}

    def tenants(self) -> list[TenantId]:
        """See `Settings.tenants`."""
        return self._settings.tenants()


class ShadowCounters:
    """The `Counters` port without the counters that have no shadow: theirs cost nothing."""

    def __init__(self, counters: Counters, settings: ShadowSettings) -> None:
        self._counters = counters
        self._settings = settings

    def usage(
        self, tenant: TenantId, customer: CustomerRef, span: Span
    ) -> dict[tuple[Metric, datetime], Usage]:
        """See `Counters.usage`."""
        return self._counters.usage(tenant, customer, span)

    def known(
        self, tenant: TenantId, *, customer: CustomerRef | None = None
    ) -> Iterator[KnownCounter]:
        """See `Counters.known`."""
        known = list(self._counters.known(tenant, customer=customer))
        shadowed = self._shadowed(line.counter for line in known)
        return (line for line in known if line.counter in shadowed)

    def changed_since(self, instant: datetime) -> Changes:
        """See `Counters.changed_since`."""
        buckets, until = self._counters.changed_since(instant)
        shadowed = self._shadowed(bucket.counter for bucket in buckets)
        return Changes({bucket for bucket in buckets if bucket.counter in shadowed}, until)

    def _shadowed(self, counters: Iterable[CounterKey]) -> set[CounterKey]:
        """Those whose metric has a shadow and whose customer somebody named in the test account."""
        mapped = [one for one in counters if self._settings.active_mapping(one.tenant, one.metric)]
        refs: dict[TenantId, set[CustomerRef]] = {}
        for one in mapped:
            refs.setdefault(one.tenant, set()).add(one.customer)
        customers = {
            tenant: self._settings.customers(tenant, some) for tenant, some in refs.items()
        }
        return {one for one in mapped if customers[one.tenant][one.customer].stripe_customer}


class ShadowCloses:
    """The `PeriodCloses` port: the primary's closes, some minutes later, without their invoices."""

    def __init__(self, closes: PeriodCloses) -> None:
        self._closes = closes

    def of(self, tenant: TenantId, customer: CustomerRef, period: Span) -> PeriodClose | None:
        """See `PeriodCloses.of`."""
        close = self._closes.of(tenant, customer, period)
        return _later(close) if close is not None else None

    def of_month(self, tenant: TenantId, month: str) -> Iterator[PeriodClose]:
        """See `PeriodCloses.of_month`."""
        return map(_later, self._closes.of_month(tenant, month))

    def unfinished(self) -> Iterator[PeriodClose]:
        """See `PeriodCloses.unfinished`."""
        return map(_later, self._closes.unfinished())

    def to_hold(self, now: datetime) -> Iterator[PeriodClose]:
        """None: a shadow's drafts are nobody's bills."""
        log.debug("the shadow holds no draft at %s", now)
        return iter(())

    def store(self, close: PeriodClose) -> PeriodClose | None:
        """Never: a shadow closes no period."""
        raise NotImplementedError(f"the shadow does not close {close.period}")


def _later(close: PeriodClose) -> PeriodClose:
    return replace(
        close,
        invoice="",
        finalizes_at=_longer(close.finalizes_at),
        closed_at=_longer(close.closed_at),
    )


def _longer(instant: datetime | None) -> datetime | None:
    return instant if instant is None or instant >= NEVER else instant + LONGER


class NoInvoiceLines:
    """The `InvoiceLines` port of a test account, whose invoices are nobody's bills."""

    def lines(self, invoice_id: str, account: str = "") -> list[InvoiceLine]:
        """None of any invoice."""
        log.debug("the lines of %s %s are nobody's bill", invoice_id, account)
        return []


class ShadowReadCounts:
    """The `ReadCounts` port for a test account: it grants reads of its own."""

    def __init__(self, counts: ReadCounts) -> None:
        self._counts = counts

    def add(self, account: str, day: date, reads: int) -> None:
        """See `ReadCounts.add`."""
        self._counts.add(_named(account), day, reads)

    def since(self, account: str, day: date) -> Mapping[date, int]:
        """See `ReadCounts.since`."""
        return self._counts.since(_named(account), day)


def _named(account: str) -> str:
    return join(Role.SHADOW, account)


# --- the writer's second half ---------------------------------------------------------------------


class Runs(Protocol):
    """A writer."""

    def run(self, owner: str, remaining: Callable[[], timedelta]) -> dict[str, Any]:
        """See `Writer.run`."""
        ...


class ShadowRun:
    """Runs of the shadow's writer, each in the time that the primary's has left.

    `writer` answers None without a key. Whatever goes wrong is logged, counted and told, and never
    raised: the primary's run was good.
    """

    def __init__(self, writer: Callable[[], Runs | None], metrics: "Metrics") -> None:
        self._writer = writer
        self._metrics = metrics

    def run(
        self, owner: str, remaining: Callable[[], timedelta], *, shadowed: int
    ) -> dict[str, Any] | None:
        """One run; what it did, None when there is nothing to tell of.

        `shadowed` is how many counters of the primary's run have a shadow.
        """
        try:
            writer = self._writer()
            if writer is None:
                return self._skipped(NO_KEY, shadowed)
            if remaining() <= TIME_NEEDED:
                return {"skipped": "no time is left"}
            told = writer.run(owner, remaining)
        except SetupError as error:
            return self._skipped(str(error), shadowed)
        except Exception as error:
            log.exception("the shadow's run failed; what the primary was told stands")
            self._metrics.count("shadow_runs_failed_total")
            return {"failed": str(error)}
        count_run(self._metrics, told, Role.SHADOW)
        return told

    def _skipped(self, reason: str, counters: int) -> dict[str, Any] | None:
        if not counters:
            return None
        log.warning("%d counters with a shadow are told to no test account: %s", counters, reason)
        told = {"skipped": reason, "held": {"no_shadow_key": counters}}
        count_run(self._metrics, told, Role.SHADOW)
        return told
