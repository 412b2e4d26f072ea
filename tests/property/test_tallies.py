"""What a set of events adds up to does not depend on how or when they are added."""

from datetime import timedelta
from decimal import Decimal
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from metering.adapters.dynamodb.counter_item import read_usage, usage_value
from metering.counter import NO_USAGE, Aggregation, Usage, total, usage_of
from metering.event import EntryKind, LedgerEntry
from tests.books import decided
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
choices = st.lists(st.integers(0, 2), min_size=1, max_size=12)
ledgers = st.builds(decided, entries, choices)


def together(some: list[LedgerEntry]) -> Usage:
    return total(map(usage_of, some))


@given(st.data(), ledgers)
def test_the_order_of_events_does_not_matter(data: st.DataObject, some: list[LedgerEntry]) -> None:
    assert together(data.draw(st.permutations(some))) == together(some)


@given(ledgers, ledgers, ledgers)
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


@given(ledgers)
def test_a_ledger_is_worth_its_events_as_they_were_decided(ledger: list[LedgerEntry]) -> None:
    """Approved events count as themselves; adjustments shift whatever number there is."""
    usage = together(ledger)
    timely = [one.event for one in ledger if one.kind is EntryKind.USAGE and not one.is_late]
    approved = [one.event for one in ledger if one.kind is EntryKind.APPROVAL]
    taken_back = [one.event for one in ledger if one.kind is EntryKind.APPROVAL_REVERT]
    deltas = [one.event.quantity for one in ledger if one.kind is EntryKind.ADJUSTMENT]
    lasting = timely + approved
    late = sum(one.is_late for one in ledger)

    adjusted = sum(map(Fraction, deltas))
    summed = sum(Fraction(one.quantity) for one in lasting + taken_back)
    assert Fraction(usage.value(Aggregation.SUM)) == summed + adjusted
    count = len(lasting) - len(taken_back)
    assert Fraction(usage.value(Aggregation.COUNT)) == count + adjusted
    greatest = max((Fraction(one.quantity) for one in lasting), default=0)
    assert Fraction(usage.value(Aggregation.MAX)) == greatest + adjusted
    newest = max(
        lasting,
        key=lambda one: (one.occurred_at, one.key.removeprefix("adjustment:late:")),
        default=None,
    )
    last = Fraction(newest.quantity) if newest else 0
    assert Fraction(usage.value(Aggregation.LAST)) == last + adjusted
    assert usage.late.count == late - len(approved)
    assert usage.entries == len(ledger)


@given(ledgers)
def test_a_usage_comes_back_from_the_table_as_it_went_in(some: list[LedgerEntry]) -> None:
    usage = together(some)

    assert read_usage(usage_value(usage)) == usage
    parts = map(usage_of, some)
    assert total(read_usage(usage_value(part)) for part in parts) == usage
