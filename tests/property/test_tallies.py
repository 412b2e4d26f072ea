"""What a set of events adds up to does not depend on how or when they are added."""

from datetime import timedelta
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from metering.adapters.dynamodb.counter_item import read_usage, usage_value
from metering.counter import NO_USAGE, Aggregation, Usage, total, usage_of
from metering.event import LedgerEntry
from tests.builders import NOON, an_entry

entries = st.lists(
    st.builds(
        an_entry,
        st.decimals("0.000000000001", 10**15 - 1, places=12).map(str),
        at=st.integers(-3, 3).map(lambda minutes: NOON + timedelta(minutes=minutes)),
        is_late=st.booleans(),
    ),
    max_size=12,
)


def together(some: list[LedgerEntry]) -> Usage:
    return total(map(usage_of, some))


@given(st.data(), entries)
def test_the_order_of_events_does_not_matter(data: st.DataObject, some: list[LedgerEntry]) -> None:
    assert together(data.draw(st.permutations(some))) == together(some)


@given(entries, entries, entries)
def test_parts_may_be_added_in_any_grouping(
    a: list[LedgerEntry], b: list[LedgerEntry], c: list[LedgerEntry]
) -> None:
    one, two, three = together(a), together(b), together(c)

    assert (one + two) + three == one + (two + three) == together(c + a + b)
    assert one + NO_USAGE == NO_USAGE + one == one


@given(entries)
def test_the_four_values_are_what_their_names_say(some: list[LedgerEntry]) -> None:
    counted = [entry.event for entry in some if not entry.is_late]
    tally = together(some).counted

    assert tally.value(Aggregation.COUNT) == len(counted)
    assert tally.value(Aggregation.SUM) == sum((e.quantity for e in counted), Decimal(0))
    assert tally.value(Aggregation.MAX) == max((e.quantity for e in counted), default=Decimal(0))
    newest = max(counted, key=lambda event: (event.occurred_at, event.key), default=None)
    assert tally.value(Aggregation.LAST) == (newest.quantity if newest else Decimal(0))
    assert tally.watermark == (newest.occurred_at if newest else None)
    assert together(some).late.count == len(some) - len(counted)


@given(entries)
def test_a_usage_comes_back_from_the_table_as_it_went_in(some: list[LedgerEntry]) -> None:
    usage = together(some)

    assert read_usage(usage_value(usage)) == usage
