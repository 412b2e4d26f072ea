"""What a set of events adds up to."""

from datetime import timedelta
from decimal import Decimal, Inexact

import pytest

from metering.counter import (
    EMPTY,
    NO_USAGE,
    Aggregation,
    Tally,
    Usage,
    counter_of,
    sum_of_buckets,
    tally_of,
    total,
    usage_of,
)
from tests.builders import NOON, a_counter, an_entry

MINUTE = timedelta(minutes=1)


def tally(*entries: tuple[str, timedelta]) -> Tally:
    usages = [usage_of(an_entry(quantity, at=NOON + after)) for quantity, after in entries]
    return total(usages).counted


def test_one_set_of_events_has_four_values() -> None:
    three = tally(("2.5", MINUTE), ("7", MINUTE * 0), ("0.5", MINUTE * 3))

    assert three.value(Aggregation.SUM) == Decimal(10)
    assert three.value(Aggregation.COUNT) == Decimal(3)
    assert three.value(Aggregation.MAX) == Decimal(7)
    assert three.value(Aggregation.LAST) == Decimal("0.5")
    assert three.watermark == NOON + MINUTE * 3


def test_no_events_are_worth_nothing() -> None:
    assert [EMPTY.value(aggregation) for aggregation in Aggregation] == [Decimal(0)] * 4
    assert EMPTY.watermark is None


def test_the_last_of_two_events_in_one_instant_is_settled_by_key() -> None:
    first, second = an_entry("1", key="a"), an_entry("2", key="b")

    either_way = [total([usage_of(first), usage_of(second)])]
    either_way += [total([usage_of(second), usage_of(first)])]

    assert [usage.counted.value(Aggregation.LAST) for usage in either_way] == [Decimal(2)] * 2


def test_a_late_event_is_kept_beside_the_count() -> None:
    usage = usage_of(an_entry("3")) + usage_of(an_entry("5", is_late=True))

    assert usage.counted.sum == Decimal(3)
    assert usage.late.sum == Decimal(5)
    assert usage_of(an_entry("5", is_late=True)).counted == EMPTY


def test_nothing_and_nothing_is_nothing() -> None:
    assert total([]) == NO_USAGE == Usage() + Usage()


def test_a_sum_beyond_38_digits_raises_instead_of_rounding() -> None:
    huge = Tally(count=1, sum=Decimal(10) ** 27)

    with pytest.raises(Inexact):
        huge + tally_of(an_entry("0.000000000001").event)


def test_an_event_belongs_to_its_tenant_customer_and_metric() -> None:
    entry = an_entry(customer="cus_B", metric="egress_bytes")

    assert counter_of(entry.event) == a_counter("cus_B", "egress_bytes")


def test_buckets_are_added_each_to_its_own() -> None:
    one, two, three = (usage_of(an_entry(quantity)) for quantity in ("1", "2", "4"))

    added = sum_of_buckets([{NOON: one}, {NOON: two, NOON + MINUTE: three}, {}])

    assert added == {NOON: one + two, NOON + MINUTE: three}
