"""What a writer's run has to look at: counters in billing periods, grouped by Stripe customer."""

from collections import defaultdict
from collections.abc import Collection, Iterable
from datetime import datetime
from typing import NamedTuple

from metering.counter import CounterKey
from metering.keys import join
from metering.mapping import Customer
from metering.names import CustomerRef, TenantId
from metering.period import Span
from metering.ports import Counters, Settings
from metering.push import CLOSE_GRACE


class Work(NamedTuple):
    """A counter's usage of one billing period."""

    counter: CounterKey
    period: Span


class Group(NamedTuple):
    """The work for one Stripe customer, done by one thread: one request at a time."""

    order: str
    """Passes go through groups in the order of this text."""
    work: tuple[Work, ...]


def changed_work(counters: Counters, settings: Settings, since: datetime) -> set[Work]:
    """Every counter that was written since an instant, in the periods that were touched."""
    buckets = counters.changed_since(since)
    customers = customers_of((bucket.counter for bucket in buckets), settings)
    return {
        Work(counter, _customer(customers, counter).calendar.period_of(start))
        for counter, start in buckets
    }


def all_work(counters: Counters, settings: Settings, now: datetime) -> set[Work]:
    """Every counter with usage in a period that is open."""
    known = [line for tenant in settings.tenants() for line in counters.known(tenant)]
    customers = customers_of((line.counter for line in known), settings)
    return {
        Work(line.counter, period)
        for line in known
        for period in open_periods(_customer(customers, line.counter), now)
        if line.newest >= period.start
    }


def open_periods(customer: Customer, now: datetime) -> set[Span]:
    """The period under way, and the one before it while its invoice still takes usage."""
    return {customer.calendar.period_of(now), customer.calendar.period_of(now - CLOSE_GRACE)}


def groups(work: Collection[Work], settings: Settings) -> list[Group]:
    """The work by Stripe customer, in the order of passes."""
    customers = customers_of((one.counter for one in work), settings)
    by_customer: dict[str, list[Work]] = defaultdict(list)
    for one in work:
        customer = _customer(customers, one.counter)
        by_customer[customer.stripe_customer or join(customer.tenant, customer.ref)].append(one)
    return [Group(order, tuple(sorted(part))) for order, part in sorted(by_customer.items())]


type Customers = dict[tuple[TenantId, CustomerRef], Customer]


def customers_of(counters: Iterable[CounterKey], settings: Settings) -> Customers:
    """The customers that counters belong to."""
    refs: dict[TenantId, set[CustomerRef]] = defaultdict(set)
    for counter in counters:
        refs[counter.tenant].add(counter.customer)
    return {
        (tenant, ref): customer
        for tenant, wanted in refs.items()
        for ref, customer in settings.customers(tenant, wanted).items()
    }


def _customer(customers: Customers, counter: CounterKey) -> Customer:
    return customers[counter.tenant, counter.customer]
