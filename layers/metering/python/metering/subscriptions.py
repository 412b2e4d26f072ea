"""Keeping customers' billing periods as their subscriptions at Stripe say.

Notices say which customer to look at; they may be missing, so once a day all subscriptions are
read, and a customer's own whenever one of its periods has ended. Whatever the reason, the
subscriptions are read anew and judged in one place (`metering.eras`).
"""

import logging
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from operator import ne
from typing import Any, NamedTuple, Protocol

from metering.eras import Found, judged
from metering.errors import NotFoundError, RetryableError
from metering.mapping import STRIPE_CUSTOMER_PREFIX, Customer, unmapped_customer
from metering.names import TenantId
from metering.notice import Notice, NoticeKind
from metering.period import Span, day_of
from metering.ports import (
    Clock,
    Counters,
    Notices,
    Rounds,
    Settings,
    SettingsStore,
    SetupError,
    Subscription,
    Subscriptions,
)

log = logging.getLogger("metering.subscriptions")

ROUND = "subscriptions"
ROUND_EVERY = timedelta(days=1)
PAGE = 100
RECOUNTED_FOR = timedelta(days=35)
"""So long after a change of its calendar a customer's buckets are looked at for usage on the wrong
side: longer than Stripe takes usage for."""


class Rebuilds(Protocol):
    """Rebuilding counters from the ledger."""

    def request(self, tenant: TenantId) -> object:
        """Begin to rebuild a tenant's counters; while that is under way, nothing more."""
        ...


class SubscriptionPorts(NamedTuple):
    """What following subscriptions needs."""

    settings: Settings
    store: SettingsStore
    counters: Counters
    subscriptions: Subscriptions
    notices: Notices
    rounds: Rounds
    clock: Clock
    rebuilds: Rebuilds


type ByStripeCustomer = dict[str, list[Customer]]


class SubscriptionSync:
    """Follows the subscriptions of customers."""

    def __init__(self, ports: SubscriptionPorts) -> None:
        self._ports = ports

    def run(self, has_time: Callable[[], bool]) -> dict[str, Any]:
        """Look at what notices name, and once a day at all; answers what changed.

        Raises:
            SetupError: Stripe cannot be asked at all.
            RetryableError: Stripe or a table cannot answer now; what is left waits.
        """
        notices = list(self._ports.notices.waiting(NoticeKind.SUBSCRIPTION))
        is_due = self._is_round_due()
        if not notices and not is_due:
            return {"looked_at": 0, "changed": 0}
        known = self.customers()
        looked_at, changed = self._act_on(notices, known, has_time)
        if is_due and has_time():
            more, more_changed = self._go_round(known, has_time)
            looked_at, changed = looked_at + more, changed + more_changed
        told = {"looked_at": looked_at, "changed": changed}
        log.info("subscriptions: %s", told)
        return told

    def refresh(self, customer: Customer) -> Customer:
        """A customer after its subscriptions were read anew; one read or two."""
        stripe_customer = customer.stripe_customer
        if not stripe_customer:
            return customer
        return self._keep(customer, self._ports.subscriptions.of_customer(stripe_customer))

    def customers(self) -> ByStripeCustomer:
        """Every customer that is known at Stripe, of all tenants."""
        known: ByStripeCustomer = defaultdict(list)
        for tenant in self._ports.settings.tenants():
            for customer in self._customers_of(tenant):
                if customer.stripe_customer:
                    known[customer.stripe_customer].append(customer)
        return known

    def _customers_of(self, tenant: TenantId) -> Iterator[Customer]:
        """Those that were set up, and those with usage whose ref is a Stripe customer."""
        seen = set()
        after = None
        while page := self._ports.store.customers_after(tenant, after, PAGE):
            after = page[-1].ref
            seen |= {customer.ref for customer in page}
            yield from page
        refs = {line.counter.customer for line in self._ports.counters.known(tenant)} - seen
        for ref in sorted(refs):
            if ref.startswith(STRIPE_CUSTOMER_PREFIX):
                yield unmapped_customer(tenant, ref)

    # --- by notice ---

    def _act_on(
        self, notices: Sequence[Notice], known: ByStripeCustomer, has_time: Callable[[], bool]
    ) -> tuple[int, int]:
        """Each Stripe customer that notices name is read once, however many name it."""
        by_customer: dict[str, list[Notice]] = defaultdict(list)
        for notice in notices:
            by_customer[notice.customer].append(notice)
        looked_at = changed = 0
        for stripe_customer, own in by_customer.items():
            if not has_time():
                break
            before = known.get(stripe_customer, [])
            after = [self.refresh(customer) for customer in before]
            looked_at += len(before)
            changed += sum(map(ne, before, after))
            for notice in own if self._is_settled(before, after) else ():
                self._ports.notices.done(notice)
        return looked_at, changed

    def _is_settled(self, before: Sequence[Customer], after: Sequence[Customer]) -> bool:
        """Whether the next run need not look again.

        After a change, a cached calendar still lets usage be counted wrongly for a while; and a
        rebuild that was under way by then may have counted some of it so.
        """
        return before == after and not any(map(self._has_missed_cut, after))

    # --- all of them ---

    def _is_round_due(self) -> bool:
        last = self._ports.rounds.last(ROUND)
        return last is None or self._ports.clock.now() - last >= ROUND_EVERY

    def _go_round(self, known: ByStripeCustomer, has_time: Callable[[], bool]) -> tuple[int, int]:
        began_at = self._ports.clock.now()
        going_on = self._all_under_way(has_time)
        if going_on is None:
            return 0, 0
        looked_at = changed = 0
        for stripe_customer, customers in known.items():
            for customer in customers:
                found = going_on.get(stripe_customer, [])
                if not found and not customer.subscription:
                    continue
                if not has_time():
                    return looked_at, changed
                looked_at += 1
                changed += self._try_to_keep(customer, found) != customer
        self._ports.rounds.note(ROUND, began_at)
        return looked_at, changed

    def _all_under_way(self, has_time: Callable[[], bool]) -> dict[str, list[Subscription]] | None:
        """By Stripe customer; None when there was no time to read them all."""
        going_on: dict[str, list[Subscription]] = defaultdict(list)
        for subscription in self._ports.subscriptions.under_way():
            if not has_time():
                log.warning("the round over all subscriptions takes longer than a run lasts")
                return None
            going_on[subscription.customer].append(subscription)
        return going_on

    def _try_to_keep(self, customer: Customer, going_on: Sequence[Subscription]) -> Customer:
        """One customer that cannot be read now is left for its next look."""
        try:
            return self._keep(customer, going_on)
        except (RetryableError, SetupError) as error:
            log.warning("the subscription of %s is not read: %s", customer.ref, error)
            return customer

    # --- one customer ---

    def _keep(self, customer: Customer, going_on: Sequence[Subscription]) -> Customer:
        """The customer as it stands after what was found; a change by others goes first."""
        stands = self._ports.store.stored_customer(customer.tenant, customer.ref)
        before = stands or unmapped_customer(customer.tenant, customer.ref)
        if before.stripe_customer != customer.stripe_customer:
            return before  # Somebody has just said that it is another one.
        found = Found(self._configured(before, going_on), going_on)
        after = judged(before, found, self._is_metered_of(before.tenant))
        if after == before:
            self._recount_what_was_left(after)
            return before
        _tell_of(before, after, self._ports.clock.now())
        if not self._ports.store.change_customer(before, after):
            raise RetryableError(f"customer {customer.ref} is being changed by others")
        self.recount(before, after)
        return self._ports.store.stored_customer(after.tenant, after.ref) or after

    def recount(self, before: Customer, after: Customer) -> None:
        """Have the tenant's counters rebuilt where usage was counted by a calendar that was wrong.

        A bucket is cut by the calendar that is known when an event is counted; so usage that came
        between the change of a subscription and our learning of it stands on the wrong side.
        """
        cuts = sorted({era.begins_at for era in set(before.eras) ^ set(after.eras)})
        if not any(self._is_counted_across(after, cut) for cut in cuts):
            return
        log.warning(
            "usage of %s of %s was counted by its former periods: the counters are rebuilt",
            after.ref,
            after.tenant,
        )
        self._ports.rebuilds.request(after.tenant)

    def _recount_what_was_left(self, customer: Customer) -> None:
        """The same for a late cut whose learning ended between storing it and asking for that."""
        if self._has_missed_cut(customer):
            log.warning("the counters of %s are rebuilt: a cut was missed", customer.tenant)
            self._ports.rebuilds.request(customer.tenant)

    def _has_missed_cut(self, customer: Customer) -> bool:
        now = self._ports.clock.now()
        cuts = [era.begins_at for era in customer.eras if now - era.begins_at < RECOUNTED_FOR]
        return any(self._is_counted_across(customer, cut) for cut in cuts)

    def _is_counted_across(self, customer: Customer, cut: datetime) -> bool:
        """Whether a bucket that begins before a cut, on its day, holds usage from after it."""
        part = Span(day_of(cut), cut)
        usage = self._ports.counters.usage(customer.tenant, customer.ref, part)
        newest = (
            at for one in usage.values() for at in (one.counted.watermark, one.decided_until) if at
        )
        return any(at >= cut for at in newest)

    def _configured(
        self, customer: Customer, going_on: Sequence[Subscription]
    ) -> Subscription | None:
        """The customer's own subscription; one that has ended is not among those that go on."""
        if not customer.subscription:
            return None
        own = [one for one in going_on if one.id == customer.subscription]
        if own:
            return own[0]
        try:
            return self._ports.subscriptions.subscription(customer.subscription)
        except NotFoundError:
            return None

    def _is_metered_of(self, tenant: TenantId) -> Callable[[Subscription], bool]:
        """Whether a subscription bills what the tenant's mappings tell."""
        meters = {one.meter_id for one in self._ports.store.mappings(tenant) if one.active}

        def is_metered(subscription: Subscription) -> bool:
            return any(item.meter_id in meters for item in subscription.items if item.meter_id)

        return is_metered


def _tell_of(before: Customer, after: Customer, now: datetime) -> None:
    """What changed, for a person."""
    if after.trouble and after.trouble != before.trouble:
        log.warning("customer %s of %s: %s", after.ref, after.tenant, after.trouble)
    if after.calendar != before.calendar:
        period = after.calendar.period_of(now)
        log.info(
            "customer %s of %s: billing periods by %s now; the present one is %s to %s",
            after.ref,
            after.tenant,
            after.subscription or "calendar months",
            period.start.isoformat(),
            period.end.isoformat(),
        )
