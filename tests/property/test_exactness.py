"""No digit is lost between a client's JSON and a counter, and every number has one text."""

import json
from decimal import Decimal
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from metering.adapters.dynamodb.counter_item import read_tally, tally_value
from metering.adapters.dynamodb.ledger_item import from_item, to_item
from metering.counter import tally_of, total, usage_of
from metering.event import LedgerEntry, UsageEvent
from metering.ingest_request import read_json
from metering.quantity import canonical, parse_quantity
from metering.sent_event import parse
from tests.builders import NOON, a_sent_event
from tests.property.spellings import of_number, quantities

numbers = st.decimals(allow_nan=False, allow_infinity=False)


def taken(spelling: str, *, as_text: bool) -> UsageEvent:
    """The event of a JSON text that spells its quantity so."""
    body = json.dumps(a_sent_event(quantity="Q"))
    raw = read_json(body.replace('"Q"', json.dumps(spelling) if as_text else spelling).encode())
    event = parse(raw, tenant=None, header_key=None)
    assert isinstance(event, UsageEvent), event
    return event


@given(st.data(), quantities, st.booleans())
def test_a_quantity_passes_unchanged_from_json_to_ledger_to_counter(
    data: st.DataObject,
    number: Decimal,
    as_text: bool,  # noqa: FBT001 (hypothesis fills it in)
) -> None:
    event = taken(data.draw(of_number(number)), as_text=as_text)
    stored = from_item(to_item(LedgerEntry(event, NOON, is_late=False), index_shards=4))
    tally = read_tally(tally_value(tally_of(stored.event)))

    assert Fraction(tally.sum) == Fraction(number)
    assert tally.max == tally.sum == stored.event.quantity == number
    assert tally.last is not None
    assert tally.last.quantity == number


@given(st.lists(quantities, min_size=1, max_size=50))
def test_a_counters_sum_is_the_exact_sum(amounts: list[Decimal]) -> None:
    events = [taken(canonical(amount), as_text=False) for amount in amounts]

    summed = total(usage_of(LedgerEntry(event, NOON, is_late=False)) for event in events)

    assert Fraction(summed.counted.sum) == sum(map(Fraction, amounts))
    stored = read_tally(tally_value(summed.counted))
    assert stored == summed.counted


@given(numbers, numbers)
def test_two_numbers_have_one_text_exactly_when_they_are_equal(
    one: Decimal, other: Decimal
) -> None:
    assert (canonical(one) == canonical(other)) == (one == other)
    assert Decimal(canonical(one)) == one


@given(st.data(), quantities)
def test_every_spelling_of_a_number_has_the_same_text(data: st.DataObject, number: Decimal) -> None:
    assert canonical(parse_quantity(data.draw(of_number(number)))) == canonical(number)


@given(quantities)
def test_dynamodb_can_hold_every_quantity(number: Decimal) -> None:
    text = canonical(number)

    assert len(text.replace(".", "").strip("0")) <= 38
    assert "e" not in text.lower()
