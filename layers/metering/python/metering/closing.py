"""Closes billing periods: tells the last usage, checks it, holds what does not agree, lets go.

Periods that have ended are found by looking through the counters, and invoices by listing those of
the subscription; a notice of an invoice only makes both happen at once. Each step is one
conditional write, so runs that overlap or end in the middle do no harm.
"""

import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any, NamedTuple

from metering.advance import Life, World
from metering.close_steps import (
    Look,
    Step,
    invoice_of,
    line_trouble,
    no_longer,
    released,
    step_after,
)
from metering.errors import InvariantBrokenError, NotFoundError, RetryableError
from metering.flush import Flush, Told
from metering.holding import Holding, standing
from metering.mapping import Customer, unmapped_customer
from metering.names import CustomerRef, TenantId
from metering.notice import Notice, NoticeKind
from metering.period import NEVER, Span
from metering.period_close import CLOSE_GRACE, PeriodClose, PeriodState
from metering.ports import (
    Invoice,
    Invoices,
    InvoiceStatus,
    Notices,
    Rounds,
    SettingsStore,
    SetupError,
    Subscriptions,
)
from metering.push import PushStream
from metering.pusher import Pauses
from metering.subscriptions import SubscriptionSync
from metering.threads import Threads
from metering.work import MOMENT

log = logging.getLogger("metering.closing")

ROUND = "closing"
ROUND_EVERY = timedelta(minutes=5)
LOOKS_BACK = timedelta(days=4)
"""A period that ended longer ago without being closed has no draft any more."""
THREADS = 8
"""What they wait for is Stripe."""


class ClosingPorts(NamedTuple):
    """What closing needs beside the writer's world."""

    world: World
    store: SettingsStore
    invoices: Invoices
    notices: Notices
    rounds: Rounds
    sync: SubscriptionSync
    subscriptions: Subscriptions


type _Customer = tuple[TenantId, CustomerRef]
type _Take = Callable[[PeriodClose], str]
"""Takes a close further; how it stands then."""


class Closing:
    """Runs of closing."""

    def __init__(self, ports: ClosingPorts, threads: Threads = ThreadPoolExecutor) -> None:
        self._ports = ports
        self._world = ports.world
        self._threads = threads

    def hold_first(self, has_time: Callable[[], bool]) -> dict[str, Any]:
        """Hold the drafts of which it is not known in time what they would bill.

        This takes the fewest calls, so it comes before anything else that may fail; the looks of
        the same run, or of a later one, let go what agrees.

        Raises:
            RetryableError: a table cannot answer now.
        """
        to_hold = self._world.closes.to_hold(self._world.clock.now())
        return dict(sorted(self._each(_holding(self._ports).hold_first, to_hold, has_time).items()))

    def run(self, has_time: Callable[[], bool]) -> dict[str, Any]:
        """Begin what has ended, and take every close that is due a step further.

        Raises:
            RetryableError: a table cannot answer now.
            InvariantBrokenError: some closes met a bug of ours; all others were dealt with.
        """
        try:
            life = self._life()
        except SetupError as error:
            log.warning("no period is closed: %s", error)
            return {"skipped": str(error)}
        notices = list(self._ports.notices.waiting(NoticeKind.INVOICE))
        begun = self._begin(is_due=bool(notices))
        due = self._due({notice.customer for notice in notices})
        outcomes = self._each(_Run(self._ports, life, has_time).look, due, has_time)
        self._done(notices, outcomes)
        return _told(begun, outcomes)

    def run_for(
        self, tenant: TenantId, customers: Collection[CustomerRef], has_time: Callable[[], bool]
    ) -> dict[str, Any]:
        """The same for some customers alone, whose closes are looked at now, due or not.

        Raises:
            RetryableError: a table cannot answer now.
            SetupError: Stripe cannot be asked at all.
            InvariantBrokenError: some closes met a bug of ours; all others were dealt with.
        """
        life = self._life()
        begun = self._begin_of(tenant, self._world.clock.now(), customers)
        asked = [
            close
            for close in self._world.closes.unfinished()
            if close.tenant == tenant and close.customer in customers
        ]
        return _told(begun, self._each(_Run(self._ports, life, has_time).look, asked, has_time))

    def _life(self) -> Life:
        return Life(self._world.billing.mode, self._world.pushes.incarnation())

    def _each(
        self, take: _Take, closes: Iterable[PeriodClose], has_time: Callable[[], bool]
    ) -> Counter[str]:
        """Take each close further, many at once; how they stand then, or why they were left."""
        with self._threads(THREADS, "closing") as pool:
            return Counter(pool.map(_tried(take, has_time), sorted(closes, key=_urgency)))

    def _done(self, notices: Sequence[Notice], outcomes: Counter[str]) -> None:
        """Notices wait for the next run where this one did not come to the end."""
        if outcomes["left"] or outcomes["failed"]:
            return
        for notice in notices:
            self._ports.notices.done(notice)

    # --- what has ended ---

    def _begin(self, *, is_due: bool) -> int:
        """Begin to close every period that has ended; how many."""
        now = self._world.clock.now()
        last = self._ports.rounds.last(ROUND)
        if not is_due and last is not None and now - last < ROUND_EVERY:
            return 0
        begun = sum(self._begin_of(tenant, now) for tenant in self._world.settings.tenants())
        self._ports.rounds.note(ROUND, now)
        return begun

    def _begin_of(
        self, tenant: TenantId, now: datetime, only: Collection[CustomerRef] | None = None
    ) -> int:
        """The same for one tenant, or for some of its customers."""
        ended = [
            (customer, period)
            for customer, period in self._ended(tenant, now)
            if only is None or customer.ref in only
        ]
        fresh = self._not_begun(tenant, ended, now)
        return sum(self._world.closes.store(close) is not None for close in fresh)

    def _not_begun(
        self, tenant: TenantId, ended: Sequence[tuple[Customer, Span]], now: datetime
    ) -> Iterator[PeriodClose]:
        months = {f"{period.start:%Y-%m}" for _, period in ended}
        standing = {
            (close.customer, close.period.start): close
            for month in months
            for close in self._world.closes.of_month(tenant, month)
        }
        for customer, period in ended:
            known = standing.get((customer.ref, period.start))
            if known is None or known.state is PeriodState.OPEN:
                yield _fresh(customer, period, now, known)

    def _ended(self, tenant: TenantId, now: datetime) -> Iterator[tuple[Customer, Span]]:
        """Customers' periods that have ended lately and may hold usage."""
        newest: dict[CustomerRef, datetime] = {}
        for line in self._world.counters.known(tenant):
            ref = line.counter.customer
            newest[ref] = max(line.newest, newest.get(ref, line.newest))
        for ref, customer in self._world.settings.customers(tenant, newest).items():
            for period in _ended_periods(customer, now):
                if newest[ref] >= period.start or self._is_told(customer, period, now):
                    yield customer, period

    def _is_told(self, customer: Customer, period: Span, now: datetime) -> bool:
        """Whether a period without usage of its own has a draft, and Stripe is told of it.

        That is usage that came too late for the period before, or a last value that stands.
        """
        has_draft = customer.calendar.era_of(period.start).subscription != ""
        if not has_draft or now >= period.end + CLOSE_GRACE:
            return False
        return bool(self._world.pushes.of_customer(customer.tenant, customer.ref, period))

    # --- what is due ---

    def _due(self, woken: set[str]) -> list[PeriodClose]:
        """The closes to look at now."""
        now = self._world.clock.now()
        unfinished = list(self._world.closes.unfinished())
        names = self._stripe_customers(unfinished) if woken else {}
        return [
            close
            for close in unfinished
            if close.next_look_at is None
            or close.next_look_at <= now
            or names.get((close.tenant, close.customer)) in woken
        ]

    def _stripe_customers(self, closes: Iterable[PeriodClose]) -> dict[_Customer, str]:
        refs: dict[TenantId, set[CustomerRef]] = defaultdict(set)
        for close in closes:
            refs[close.tenant].add(close.customer)
        return {
            (tenant, ref): customer.stripe_customer
            for tenant, wanted in refs.items()
            for ref, customer in self._world.settings.customers(tenant, wanted).items()
        }


def _urgency(close: PeriodClose) -> tuple[datetime, bool, datetime, CustomerRef]:
    """The first that is finalized goes first, and what no subscription bills goes last."""
    return close.finalizes_at or NEVER, not close.subscription, close.began_at, close.customer


def _told(begun: int, outcomes: Counter[str]) -> dict[str, Any]:
    told = {"begun": begun} | dict(sorted(outcomes.items()))
    log.info("closing run: %s", told)
    if outcomes["failed"]:
        raise InvariantBrokenError(f"{outcomes['failed']} closes met a bug; see the log")
    return told


def _fresh(
    customer: Customer, period: Span, now: datetime, known: PeriodClose | None
) -> PeriodClose:
    """The beginning of a close; `known` is one that was begun before its period grew longer."""
    return PeriodClose(
        customer.tenant,
        customer.ref,
        period,
        PeriodState.CLOSING,
        began_at=now,
        subscription=customer.calendar.era_of(period.start).subscription,
        version=known.version if known else 0,
    )


def _ended_periods(customer: Customer, now: datetime) -> Iterator[Span]:
    period = customer.calendar.period_of(now)
    while period.start > now - LOOKS_BACK:
        period = customer.calendar.period_of(period.start - MOMENT)
        yield period


def _tried(take: _Take, has_time: Callable[[], bool]) -> _Take:
    """The same for a close that may have to be left, or may fail without stopping others."""

    def tried(close: PeriodClose) -> str:
        if not has_time():
            return "left"
        try:
            return take(close)
        except (RetryableError, SetupError) as error:
            log.warning("the close of %s of %s waits: %s", close.customer, close.tenant, error)
            return "unavailable"
        except Exception:
            log.exception("our own bug, at the close of %s of %s", close.customer, close.tenant)
            return "failed"

    return tried


def _holding(ports: ClosingPorts) -> Holding:
    world = ports.world
    return Holding(world.closes, ports.invoices, world.settings, world.clock)


class _Run:
    """One run's looks; each is at one close, and many go on at once."""

    def __init__(self, ports: ClosingPorts, life: Life, has_time: Callable[[], bool]) -> None:
        self._ports = ports
        self._world = ports.world
        self._holding = _holding(ports)
        pauses = Pauses(ports.world.pushes, ports.world.clock)
        self._make_flush = partial(Flush, ports.world, life, pauses, has_time)

    def look(self, close: PeriodClose) -> str:
        """Take one close a step further; how it stands then."""
        customer = self._customer(close)
        period = customer.calendar.period_of(close.period.start)
        now = self._world.clock.now()
        if period.start != close.period.start:
            return self._store(no_longer(close, now))
        if period.end > now:
            return self._store(replace(close, period=period, state=PeriodState.OPEN))
        era = customer.calendar.era_of(period.start)
        close = replace(close, period=period, subscription=era.subscription)
        invoice = self._invoice(close)
        prepared = self._holding.with_deadline(close, invoice)
        if prepared is None:
            return "overtaken"
        return self._go_on(prepared, customer, invoice)

    def _customer(self, close: PeriodClose) -> Customer:
        """The customer as it stands; at the first look, as its subscriptions say now."""
        stands = self._ports.store.stored_customer(close.tenant, close.customer)
        customer = stands or unmapped_customer(close.tenant, close.customer)
        is_first = close.next_look_at is None
        return self._ports.sync.refresh(customer) if is_first else customer

    def _invoice(self, close: PeriodClose) -> Invoice | None:
        """The period's invoice: the known one, or whichever the subscription has for it."""
        if close.invoice:
            try:
                return self._ports.invoices.invoice(close.invoice)
            except NotFoundError:
                return None
        if not close.subscription:
            return None
        return invoice_of(close.period, self._ports.invoices.of_subscription(close.subscription))

    def _go_on(self, close: PeriodClose, customer: Customer, invoice: Invoice | None) -> str:
        flush = self._make_flush()
        told = flush.tell(customer, close.period)
        trouble = told.trouble or flush.check(told, close.period, close.agreed_at)
        if invoice is not None and invoice.status is not InvoiceStatus.DRAFT:
            close = replace(close, is_trial=self._is_trial(close, invoice))
            trouble = trouble or self._line_trouble(close, invoice, told, flush)
        look = Look(self._world.clock.now(), invoice, trouble)
        holds = self._world.settings.tenant(close.tenant).holds_invoices
        return self._take(step_after(close, look, holds=holds))

    def _line_trouble(self, close: PeriodClose, invoice: Invoice, told: Told, flush: Flush) -> str:
        """Where the final invoice bills other quantities than were told."""
        if close.is_trial:
            return ""
        trouble = line_trouble(invoice, self._by_price(close.tenant, told.streams))
        if not trouble:
            return ""
        # The lines bill the usage of all our customers that are this one at Stripe.
        all_told = self._by_price(close.tenant, flush.sharing(told.streams))
        return trouble if line_trouble(invoice, all_told) else ""

    def _is_trial(self, close: PeriodClose, invoice: Invoice) -> bool:
        """Whether the period lay in a trial; asked only where no line bills what we tell."""
        mapped = {one.price_id for one in self._ports.store.mappings(close.tenant) if one.active}
        if not close.subscription or not mapped.isdisjoint(invoice.quantities):
            return False
        try:
            found = self._ports.subscriptions.subscription(close.subscription)
        except NotFoundError:
            return False
        return found.trial_ends_at is not None and close.period.end <= found.trial_ends_at

    def _by_price(self, tenant: TenantId, streams: Iterable[PushStream]) -> dict[str, Decimal]:
        """What was told of each price that a mapping names."""
        # A legacy price has no meter; its usage is its metric's.
        by_meter: dict[str, int] = defaultdict(int)
        for stream in streams:
            by_meter[stream.meter_id or stream.key.counter.metric] += stream.accepted
        mappings = self._ports.store.mappings(tenant)
        return {
            one.price_id: Decimal(by_meter[one.meter_id or one.metric])
            for one in mappings
            if one.active and one.price_id and (one.meter_id or one.metric) in by_meter
        }

    def _take(self, step: Step) -> str:
        """Store a step, and have Stripe hold or release the draft for it.

        A hold is stored first (`Holding.hold`). A release is told first: should we die before it
        is stored, the next look finds it.
        """
        close = step.close
        if step.release:
            invoice = self._ports.invoices.let_advance(close.invoice, on=True)
            close = released(close, invoice, self._world.clock.now())
            log.info("%s of %s is released: all numbers agree", close.invoice, close.tenant)
        stored = self._world.closes.store(close)
        if stored is None:
            return "overtaken"
        if step.alarm:
            log.warning(
                "closing %s of %s, %s to %s: %s",
                close.customer,
                close.tenant,
                close.period.start.isoformat(),
                close.period.end.isoformat(),
                step.alarm,
            )
        return self._holding.hold(stored) if step.hold else standing(stored)

    def _store(self, close: PeriodClose) -> str:
        return standing(self._world.closes.store(close))
