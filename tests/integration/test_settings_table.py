"""Metrics, mappings, customers and tenants in DynamoDB Local."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from threading import Barrier, Thread

import pytest

from metering.config import Config
from metering.counter import Aggregation
from metering.errors import ConflictError, RetryableError
from metering.mapping import Customer, LatePolicy, Mapping, MetricSettings, unmapped_customer
from metering.names import CustomerRef, Metric, TenantId
from metering.wiring import Wiring
from tests.builders import A_MAPPING, a_subscriber, monthly
from tests.conftest import SetClock
from tests.faults import FaultyClient

ACME, OTHER = TenantId("acme"), TenantId("other")
CALLS, BYTES = Metric("api_calls"), Metric("egress_bytes")


def a_mapping(**changes: object) -> Mapping:
    mapping = replace(
        A_MAPPING,
        tenant=ACME,
        metric=CALLS,
        stripe_account="acct_1",
        meter_event_name="calls",
        scale=3,
        created_at=datetime(2026, 11, 20, 12, 0, 0, 5, tzinfo=UTC),
    )
    return replace(mapping, **changes)  # type: ignore[arg-type]


def test_a_mappings_shadow_comes_back_with_when_it_began(wiring: Wiring) -> None:
    mapping = a_mapping(
        shadow=True, shadow_meter_id="mtr_2", shadow_since=datetime(2026, 11, 21, tzinfo=UTC)
    )

    wiring.settings_store.add_mapping(mapping)

    assert wiring.settings_store.mapping(ACME, "map_1") == mapping


def cached_for(wiring: Wiring, seconds: float) -> Wiring:
    config = replace(wiring.config, settings_cache_s=seconds)
    return Wiring(config, clock=wiring.clock, dynamodb=wiring.dynamodb)


# --- metrics --------------------------------------------------------------------------------------


def test_a_metric_nobody_set_up_has_the_defaults(wiring: Wiring) -> None:
    assert wiring.settings.metric(ACME, CALLS) == MetricSettings(CALLS)
    assert wiring.settings_store.metrics(ACME) == []


def test_a_metrics_settings_come_back_as_they_were_kept(wiring: Wiring) -> None:
    settings = MetricSettings(
        BYTES, Aggregation.MAX, LatePolicy.REJECT, timedelta(hours=1, seconds=1), "byte"
    )

    wiring.settings_store.put_metric(ACME, settings)

    assert wiring.settings.metric(ACME, BYTES) == settings
    assert wiring.settings.metric(OTHER, BYTES) == MetricSettings(BYTES)
    assert wiring.settings_store.metrics(ACME) == [settings]


# --- mappings -------------------------------------------------------------------------------------


def test_an_active_mapping_is_found_by_its_metric(wiring: Wiring) -> None:
    wiring.settings_store.add_mapping(a_mapping())

    assert wiring.settings.active_mapping(ACME, CALLS) == a_mapping()
    assert wiring.settings.active_mapping(ACME, BYTES) is None
    assert wiring.settings.active_mapping(OTHER, CALLS) is None
    assert wiring.settings_store.mapping(ACME, "map_1") == a_mapping()
    assert wiring.settings_store.mapping(OTHER, "map_1") is None


def test_a_metric_never_has_two_active_mappings(wiring: Wiring) -> None:
    store = wiring.settings_store
    store.add_mapping(a_mapping())

    with pytest.raises(ConflictError, match="has an active mapping already"):
        store.add_mapping(a_mapping(id="map_2"))

    inactive = a_mapping(id="map_3", active=False)
    store.add_mapping(inactive)
    with pytest.raises(ConflictError, match="has an active mapping already"):
        store.change_mapping(inactive, replace(inactive, active=True))
    assert store.mappings(ACME) == [a_mapping(), inactive]


def test_of_many_who_activate_a_mapping_at_once_one_succeeds(wiring: Wiring) -> None:
    barrier, outcomes = Barrier(8), []

    def activate(number: int) -> None:
        barrier.wait()
        try:
            wiring.settings_store.add_mapping(a_mapping(id=f"map_{number}"))
            outcomes.append(number)
        except ConflictError:
            pass

    threads = [Thread(target=activate, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    found = wiring.settings_store.mappings(ACME)
    assert [mapping.id for mapping in found] == [f"map_{outcomes[0]}"]
    assert wiring.settings.active_mapping(ACME, CALLS) == found[0]


@pytest.mark.parametrize(
    ("changes", "active_for"),
    [
        ({"price_id": "price_2"}, CALLS),
        ({"metric": BYTES}, BYTES),
        ({"active": False}, None),
        ({"active": False, "metric": BYTES}, None),
    ],
)
def test_a_changed_mapping_is_active_where_it_says_and_nowhere_else(
    wiring: Wiring, changes: dict[str, object], active_for: Metric | None
) -> None:
    wiring.settings_store.add_mapping(a_mapping())

    after = wiring.settings_store.change_mapping(a_mapping(), a_mapping(**changes))

    assert after == a_mapping(**changes, version=2)
    assert wiring.settings_store.mappings(ACME) == [after]
    for metric in (CALLS, BYTES):
        expected = after if metric == active_for else None
        assert wiring.settings.active_mapping(ACME, metric) == expected


def test_two_who_change_a_mapping_at_once_do_not_undo_each_other(wiring: Wiring) -> None:
    wiring.settings_store.add_mapping(a_mapping())
    wiring.settings_store.change_mapping(a_mapping(), a_mapping(active=False))

    with pytest.raises(ConflictError, match="changed meanwhile"):
        wiring.settings_store.change_mapping(a_mapping(), a_mapping(price_id="price_2"))
    with pytest.raises(ConflictError, match="changed meanwhile"):
        wiring.settings_store.delete_mapping(a_mapping())

    assert wiring.settings.active_mapping(ACME, CALLS) is None


def test_a_deleted_mapping_leaves_its_metric_unmapped_and_free(wiring: Wiring) -> None:
    wiring.settings_store.add_mapping(a_mapping())

    wiring.settings_store.delete_mapping(a_mapping())

    assert wiring.settings_store.mappings(ACME) == []
    wiring.settings_store.add_mapping(a_mapping(id="map_2"))
    assert wiring.settings.active_mapping(ACME, CALLS) == a_mapping(id="map_2")


# --- customers ------------------------------------------------------------------------------------


def a_customer(ref: str, *, tenant: TenantId = ACME) -> Customer:
    anchor = datetime(2026, 11, 3, 4, 5, 6, tzinfo=UTC)
    return a_subscriber(ref, anchor, stripe_customer="cus_1", tenant=tenant)


def test_a_customer_comes_back_with_its_anchor_to_the_second(wiring: Wiring) -> None:
    wiring.settings_store.put_customer(a_customer("c1"))

    assert wiring.settings.customer(ACME, CustomerRef("c1")) == a_customer("c1")
    assert wiring.settings.customer(OTHER, CustomerRef("c1")).stripe_customer == ""
    assert wiring.settings.customer(ACME, CustomerRef("cus_9")).stripe_customer == "cus_9"


def test_many_customers_are_read_at_once_known_or_not(wiring: Wiring) -> None:
    for number in range(0, 230, 23):
        wiring.settings_store.put_customer(a_customer(f"c{number}"))
    refs = [CustomerRef(f"c{number}") for number in range(230)]

    found = wiring.settings.customers(ACME, refs)

    assert sorted(found) == sorted(refs)
    assert found == {
        ref: a_customer(ref) if int(ref[1:]) % 23 == 0 else unmapped_customer(ACME, ref)
        for ref in refs
    }


def test_customers_are_listed_in_pages(wiring: Wiring) -> None:
    for ref in ("b", "a", "c"):
        wiring.settings_store.put_customer(a_customer(ref))
    wiring.settings_store.put_customer(a_customer("a2", tenant=OTHER))

    first = wiring.settings_store.customers_after(ACME, None, 2)
    rest = wiring.settings_store.customers_after(ACME, first[-1].ref, 2)

    assert [customer.ref for customer in first] == ["a", "b"]
    assert [customer.ref for customer in rest] == ["c"]


def test_the_longest_refs_fit(wiring: Wiring) -> None:
    tenant, ref = TenantId("€" * 100), CustomerRef("\U0001f600" * 255)

    wiring.settings_store.put_customer(a_customer(ref, tenant=tenant))

    assert wiring.settings.customer(tenant, ref) == a_customer(ref, tenant=tenant)


def test_a_change_of_the_calendar_is_kept_whatever_is_put_later(wiring: Wiring) -> None:
    store, ref = wiring.settings_store, CustomerRef("c1")
    moved = replace(a_customer("c1"), eras=monthly(datetime(2026, 11, 9, tzinfo=UTC)))

    store.put_customer(a_customer("c1"))
    store.put_customer(moved)
    store.put_customer(replace(moved, stripe_customer="cus_2"))
    store.put_customer(a_customer("c1"))

    assert wiring.settings.customer(ACME, ref) == replace(a_customer("c1"), recuts=2)


def test_of_two_who_put_a_customer_at_once_neither_hides_the_others_change(
    wiring: Wiring,
) -> None:
    wiring.settings_store.put_customer(a_customer("c1"))
    moved = replace(a_customer("c1"), eras=monthly(datetime(2026, 11, 9, tzinfo=UTC)))
    faulty = FaultyClient(wiring.dynamodb)
    slow = Wiring(wiring.config, clock=wiring.clock, dynamodb=faulty.client)
    faulty.before("put_item", lambda: wiring.settings_store.put_customer(moved), at=1)

    slow.settings_store.put_customer(a_customer("c1"))  # to it, the calendar is as it was

    assert wiring.settings.customer(ACME, CustomerRef("c1")).recuts == 2


def test_of_two_who_set_a_customer_up_at_once_the_second_sees_the_first(wiring: Wiring) -> None:
    faulty = FaultyClient(wiring.dynamodb)
    slow = Wiring(wiring.config, clock=wiring.clock, dynamodb=faulty.client)
    monthly = replace(a_customer("c1"), eras=())
    faulty.before("put_item", lambda: wiring.settings_store.put_customer(monthly), at=1)

    slow.settings_store.put_customer(a_customer("c1"))

    assert wiring.settings.customer(ACME, CustomerRef("c1")) == replace(a_customer("c1"), recuts=1)


def test_a_customer_that_never_comes_to_rest_is_put_later(wiring: Wiring) -> None:
    faulty = FaultyClient(wiring.dynamodb)
    slow = Wiring(wiring.config, clock=wiring.clock, dynamodb=faulty.client)
    days = iter(range(1, 28))

    def move() -> None:
        anchor = datetime(2026, 11, next(days), tzinfo=UTC)
        wiring.settings_store.put_customer(replace(a_customer("c1"), eras=monthly(anchor)))

    for at in range(1, 10):
        faulty.before("put_item", move, at=at)

    with pytest.raises(RetryableError, match="being changed by others"):
        slow.settings_store.put_customer(a_customer("c1"))


# --- tenants and the cache ------------------------------------------------------------------------


def test_a_tenant_is_in_the_directory_once_it_has_a_key_or_a_setting(wiring: Wiring) -> None:
    assert wiring.settings.tenants() == []

    wiring.key_issuer.create_key(ACME)
    wiring.settings_store.put_metric(OTHER, MetricSettings(CALLS))
    wiring.settings_store.put_customer(a_customer("c"))

    assert wiring.settings.tenants() == [ACME, OTHER]


def test_a_cached_setting_lives_as_long_as_the_cache_says(wiring: Wiring, clock: SetClock) -> None:
    cached = cached_for(wiring, 30)
    assert cached.settings.active_mapping(ACME, CALLS) is None
    assert (
        cached.settings.customers(ACME, [CustomerRef("c1")])[CustomerRef("c1")].subscription == ""
    )

    wiring.settings_store.add_mapping(a_mapping())
    wiring.settings_store.put_customer(a_customer("c1"))

    clock.advance(timedelta(seconds=29))
    assert cached.settings.active_mapping(ACME, CALLS) is None
    assert cached.settings.customer(ACME, CustomerRef("c1")).subscription == ""
    clock.advance(timedelta(seconds=1))
    assert cached.settings.active_mapping(ACME, CALLS) == a_mapping()
    assert cached.settings.customer(ACME, CustomerRef("c1")) == a_customer("c1")


def test_what_a_process_writes_it_knows_at_once(wiring: Wiring) -> None:
    cached = cached_for(wiring, 30)
    store = cached.settings_store
    assert cached.settings.metric(ACME, CALLS) == MetricSettings(CALLS)
    assert cached.settings.active_mapping(ACME, CALLS) is None
    cached.settings.customer(ACME, CustomerRef("c1"))

    store.put_metric(ACME, MetricSettings(CALLS, Aggregation.LAST))
    store.add_mapping(a_mapping())
    store.put_customer(a_customer("c1"))

    assert cached.settings.metric(ACME, CALLS) == MetricSettings(CALLS, Aggregation.LAST)
    assert cached.settings.active_mapping(ACME, CALLS) == a_mapping()
    assert cached.settings.customer(ACME, CustomerRef("c1")) == a_customer("c1")
    after = store.change_mapping(a_mapping(), a_mapping(metric=BYTES))
    assert cached.settings.active_mapping(ACME, CALLS) is None
    assert cached.settings.active_mapping(ACME, BYTES) == after


def test_a_metric_that_nobody_set_up_has_the_deployments_lateness(
    config: Config, clock: SetClock
) -> None:
    def lateness(config: Config) -> timedelta:
        return Wiring(config, clock=clock).settings.metric(ACME, CALLS).lateness

    assert lateness(config) == timedelta(hours=48)
    assert lateness(replace(config, lateness_h=72)) == timedelta(hours=72)

    stored = MetricSettings(CALLS, lateness=timedelta(hours=1))
    Wiring(config, clock=clock).settings_store.put_metric(ACME, stored)
    assert lateness(replace(config, lateness_h=72)) == timedelta(hours=1)
