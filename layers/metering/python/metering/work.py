"""What a writer's run has to look at: counters in billing periods, grouped by Stripe customer."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from datetime import datetime, timedelta
from typing import NamedTuple

from metering.counter import CounterKey
from metering.keys import join
from metering.mapping import Customer
from metering.names import CustomerRef, TenantId
from metering.period import Span
from metering.period_close import CLOSE_GRACE
from metering.ports import Counters, Settings
from metering.push import PushStream, StreamKind
from metering.route import stream_kind

MOMENT = timedelta(microseconds=1)
SWEPT_AFTER_CLOSE = timedelta(days=3)
"""How long a sweep still looks at a period that has ended: so what no writer told in time, because
none ran, is dealt with as usage after the close. Later usage is seen by its change."""


class Work(NamedTuple):
    """A counter's usage of one billing period."""

    counter: CounterKey
    period: Span


class Group(NamedTuple):
    """The work for one Stripe customer, done by one thread: one request at a time."""

    order: str
    """Passes go through groups in the order of this text."""
    work: tuple[Work, ...]


class Changed(NamedTuple):
    """The work that was made in a stretch of time."""

    work: set[Work]
    until: datetime
    """Where the stretch ends; see `Changes`."""


def changed_work(counters: Counters, settings: Settings, since: datetime) -> Changed:
    """Every counter that was written since an instant, in the periods that were touched."""
    buckets, until = counters.changed_since(since)
    customers = customers_of((bucket.counter for bucket in buckets), settings)
    work = {
        Work(counter, _customer(customers, counter).calendar.period_of(start))
        for counter, start in buckets
    }
    return Changed(work, until)


def needy_work(streams: Iterable[PushStream], settings: Settings) -> set[Work]:
    """The counters of streams in need."""
    streams = list(streams)
    customers = customers_of((one.key.counter for one in streams), settings)
    return {
        Work(one.key.counter, _present_period(one, _customer(customers, one.key.counter)))
        for one in streams
    }


def _present_period(stream: PushStream, customer: Customer) -> Span:
    """A stream's period as the customer's calendar has it now: its end may have moved since."""
    present = customer.calendar.period_of(stream.key.period.start)
    return present if present.start == stream.key.period.start else stream.key.period


def all_work(counters: Counters, settings: Settings, now: datetime) -> set[Work]:
    """Every counter with usage in a period that is open or ended lately.

    A last value stands in each period until a newer one comes, so its counters are all there.
    """
    known = [line for tenant in settings.tenants() for line in counters.known(tenant)]
    customers = customers_of((line.counter for line in known), settings)
    return {
        Work(line.counter, period)
        for line in known
        for period in _swept_periods(_customer(customers, line.counter), now)
        if line.newest >= period.start
        or (_is_last(line.counter, settings) and now < period.end + CLOSE_GRACE)
    }


def _is_last(counter: CounterKey, settings: Settings) -> bool:
    mapping = settings.active_mapping(counter.tenant, counter.metric)
    return mapping is not None and stream_kind(mapping) is StreamKind.LAST


def _swept_periods(customer: Customer, now: datetime) -> Iterator[Span]:
    """The period under way, and those before it that ended a short while ago."""
    period = customer.calendar.period_of(now)
    yield period
    while period.start > now - SWEPT_AFTER_CLOSE:
        period = customer.calendar.period_of(period.start - MOMENT)
        yield period


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
        for tenant, wanted in sorted(refs.items())
        for ref, customer in settings.customers(tenant, wanted).items()
    }


def _customer(customers: Customers, counter: CounterKey) -> Customer:
    return customers[counter.tenant, counter.customer]
