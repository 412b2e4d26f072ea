"""Keys made of several parts can be read in one way only."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from metering.adapters.dynamodb.counter_item import (
    LANE,
    customer_partition,
    lane_item_key,
    read_partition,
    read_sort_key,
)
from metering.adapters.dynamodb.ledger_item import partition_key
from metering.counter import CounterKey
from metering.keys import join, split
from metering.lane import LaneKey
from metering.names import CustomerRef, IdempotencyKey, Metric, TenantId

# Short alphabets find collisions; whole Unicode finds what nobody thought of.
names = st.text("a1:|#", max_size=6) | st.text(max_size=20)
parts = st.lists(names, max_size=5).map(tuple)
instants = st.datetimes(datetime(1, 1, 1), datetime(9998, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
lane_keys = st.builds(
    LaneKey,
    st.builds(CounterKey, names.map(TenantId), names.map(CustomerRef), names.map(Metric)),
    instants,
    st.integers(1, 999_999),
    names,
)


@given(parts)
def test_a_key_reads_back_as_its_parts(some: tuple[str, ...]) -> None:
    assert split(join(*some)) == some


@given(parts, parts)
def test_one_key_begins_with_another_only_if_its_parts_do(
    one: tuple[str, ...], other: tuple[str, ...]
) -> None:
    assert (join(*one) == join(*other)) == (one == other)
    assert join(*other).startswith(join(*one)) == (other[: len(one)] == one)


@given(names, names, names, names)
def test_no_two_events_share_a_place_in_the_ledger(a: str, b: str, c: str, d: str) -> None:
    one = partition_key(TenantId(a), IdempotencyKey(b))
    other = partition_key(TenantId(c), IdempotencyKey(d))

    assert (one == other) == ((a, b) == (c, d))


@given(lane_keys)
def test_a_lanes_place_reads_back_as_its_key(key: LaneKey) -> None:
    item = lane_item_key(key)

    assert read_partition(item["pk"]["S"]) == (key.counter.tenant, key.counter.customer)
    assert read_sort_key(item["sk"]["S"]) == (
        key.epoch,
        key.day,
        key.counter.metric,
        LANE + key.shard,
    )


@given(names, names)
def test_no_customers_counters_stand_among_the_directory_marks_or_epochs(
    tenant: str, customer: str
) -> None:
    partition = customer_partition(TenantId(tenant), CustomerRef(customer))

    assert not partition.startswith(("dir#", "changed#", "epochs"))
