"""Which counters and periods a writer looks at."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta

import pytest

from metering.counter import Aggregation, BucketKey, CounterKey
from metering.mapping import Customer
from metering.mapping import Mapping as MeterMapping
from metering.names import CustomerRef, Metric, TenantId
from metering.period import Era, Interval, Span
from metering.ports import Changes, KnownCounter
from metering.push import Mode, PushStream, StreamKey, Target
from metering.work import Work, all_work, changed_work, groups, needy_work
from tests.unit.test_push_kinds import a_mapping

ACME = TenantId("acme")
COUNTER = CounterKey(ACME, CustomerRef("ann"), Metric("seats"))
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
OCTOBER = Span(datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC))
NOVEMBER = Span(OCTOBER.end, datetime(2026, 12, 1, tzinfo=UTC))


class Known:
    """A directory with one counter."""

    def __init__(self, newest: datetime) -> None:
        self._newest = newest

    def known(
        self, tenant: TenantId, *, customer: CustomerRef | None = None
    ) -> Iterator[KnownCounter]:
        yield KnownCounter(COUNTER, self._newest)


class OneTenant:
    """Settings of one tenant with one customer and one mapping."""

    def __init__(self, customer: Customer, mapping: MeterMapping | None = None) -> None:
        self._customer = customer
        self._mapping = mapping

    def tenants(self) -> list[TenantId]:
        return [ACME]

    def customers(
        self, tenant: TenantId, refs: Iterable[CustomerRef]
    ) -> Mapping[CustomerRef, Customer]:
        return dict.fromkeys(refs, self._customer)

    def active_mapping(self, tenant: TenantId, metric: Metric) -> MeterMapping | None:
        assert (tenant, metric) == (ACME, COUNTER.metric)
        return self._mapping


ANN = Customer(ACME, COUNTER.customer, "cus_ann")


def swept(
    now: datetime, newest: datetime, customer: Customer = ANN, mapping: MeterMapping | None = None
) -> list[Span]:
    settings = OneTenant(customer, mapping)
    work = all_work(Known(newest), settings, now)  # type: ignore[arg-type]
    return sorted(one.period for one in work)


def test_a_sweep_sees_the_open_period_and_for_three_days_the_one_before() -> None:
    assert swept(NOON, NOON) == [NOVEMBER]
    assert swept(NOVEMBER.start + 3 * DAY - HOUR, NOON) == [OCTOBER, NOVEMBER]
    assert swept(NOVEMBER.start + 3 * DAY, NOON) == [NOVEMBER]


def test_a_sweep_sees_every_short_period_of_the_last_three_days() -> None:
    daily = Customer(
        ACME, COUNTER.customer, "cus_ann", eras=(Era(NOVEMBER.start, NOVEMBER.start, Interval.DAY),)
    )

    periods = swept(NOON, NOON, daily)

    assert [span.start.day for span in periods] == [17, 18, 19, 20]


@pytest.mark.parametrize(
    ("aggregation", "periods"), [(Aggregation.SUM, []), (Aggregation.LAST, [NOVEMBER])]
)
def test_a_sweep_sees_a_last_value_though_it_is_from_a_period_before(
    aggregation: Aggregation, periods: list[Span]
) -> None:
    assert swept(NOON, OCTOBER.start, mapping=a_mapping(aggregation)) == periods


def test_a_closed_period_without_a_last_value_of_its_own_is_left_alone() -> None:
    gauge = a_mapping(Aggregation.LAST)

    within = swept(NOVEMBER.start + HOUR / 2, OCTOBER.start - DAY, mapping=gauge)
    after = swept(NOVEMBER.start + HOUR, OCTOBER.start - DAY, mapping=gauge)

    assert (within, after) == ([OCTOBER, NOVEMBER], [NOVEMBER])


def a_stream(period: Span) -> PushStream:
    target = Target("", Mode.TEST, "seats", "cus_ann")
    return PushStream(StreamKey(target, COUNTER, period), "mtr_1", 0)


def test_a_stream_in_need_is_looked_at_in_its_period_as_it_is_cut_now() -> None:
    cut = Customer(ACME, COUNTER.customer, "cus_ann", eras=(Era(NOON, NOON),))

    work = needy_work([a_stream(NOVEMBER)], OneTenant(cut))  # type: ignore[arg-type]

    assert work == {Work(COUNTER, Span(NOVEMBER.start, NOON))}


def test_a_stream_whose_period_begins_nowhere_any_more_keeps_it() -> None:
    moved = Customer(ACME, COUNTER.customer, "cus_ann", eras=(Era(OCTOBER.start, NOON),))

    work = needy_work([a_stream(NOVEMBER)], OneTenant(moved))  # type: ignore[arg-type]

    assert work == {Work(COUNTER, NOVEMBER)}


# --- what changed, and in which order it is looked at ---------------------------------------------


class Directory:
    """Settings of several customers, each asked for by its own tenant."""

    def __init__(self, *customers: Customer) -> None:
        self._customers = {(one.tenant, one.ref): one for one in customers}

    def customers(
        self, tenant: TenantId, refs: Iterable[CustomerRef]
    ) -> Mapping[CustomerRef, Customer]:
        return {ref: self._customers[tenant, ref] for ref in refs}


class JustChanged:
    """Counters of which some buckets were written since an instant."""

    def __init__(self, *buckets: BucketKey) -> None:
        self._buckets = set(buckets)

    def changed_since(self, instant: datetime) -> Changes:
        assert instant == NOON - HOUR
        return Changes(self._buckets, NOON)


GLOBEX = TenantId("globex")
BOB = Customer(ACME, CustomerRef("bob"), "", eras=(Era(NOON, NOON),))
CYD = Customer(GLOBEX, CustomerRef("ann"), "cus_ann")


def counter_of(customer: Customer, metric: str = "seats") -> CounterKey:
    return CounterKey(customer.tenant, customer.ref, Metric(metric))


def test_what_changed_is_looked_at_in_the_periods_of_its_own_customer() -> None:
    counters = JustChanged(
        BucketKey(counter_of(ANN), OCTOBER.start + DAY),
        BucketKey(counter_of(ANN), OCTOBER.start + 2 * DAY),
        BucketKey(counter_of(BOB), NOON + DAY),
        BucketKey(counter_of(CYD), NOON + DAY),
    )

    work, until = changed_work(counters, Directory(ANN, BOB, CYD), NOON - HOUR)  # type: ignore[arg-type]

    assert until == NOON
    assert work == {
        Work(counter_of(ANN), OCTOBER),
        Work(counter_of(BOB), BOB.calendar.period_of(NOON)),
        Work(counter_of(CYD), NOVEMBER),
    }


def test_work_is_grouped_by_stripe_customer_and_each_unknown_one_stands_alone() -> None:
    work = [
        Work(counter_of(one, metric), span)
        for one in (CYD, BOB, ANN)
        for metric, span in (("seats", NOVEMBER), ("calls", OCTOBER))
    ]

    found = groups(work, Directory(ANN, BOB, CYD))  # type: ignore[arg-type]

    assert [one.order for one in found] == ["4:acme3:bob", "cus_ann"]
    assert found[0].work == tuple(sorted(one for one in work if one.counter.customer == BOB.ref))
    assert found[1].work == tuple(sorted(one for one in work if one.counter.customer != BOB.ref))


class TwoTenants(Directory):
    """Counters and settings of two tenants, each answered for itself alone."""

    def tenants(self) -> list[TenantId]:
        return [ACME, GLOBEX]

    def known(
        self, tenant: TenantId, *, customer: CustomerRef | None = None
    ) -> Iterator[KnownCounter]:
        for one in self._customers.values():
            if one.tenant == tenant:
                yield KnownCounter(counter_of(one), NOVEMBER.start)

    def active_mapping(self, tenant: TenantId, metric: Metric) -> MeterMapping | None:
        assert tenant in self.tenants()
        assert metric == "seats"
        return None


def test_a_sweep_sees_every_tenants_counters_used_from_a_periods_first_instant_on() -> None:
    both = TwoTenants(ANN, CYD)

    assert all_work(both, both, NOON) == {  # type: ignore[arg-type]
        Work(counter_of(ANN), NOVEMBER),
        Work(counter_of(CYD), NOVEMBER),
    }
