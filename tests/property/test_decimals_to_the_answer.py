"""No digit is lost from a request's JSON through ledger, stream and lanes to the answer's JSON."""

import json
from decimal import Decimal
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from metering.counter import Aggregation
from tests.builders import a_sent_event
from tests.property.held_books import HeldBooks
from tests.property.spellings import of_number, quantities


@st.composite
def requests(draw: st.DrawFn, amounts: list[Decimal], metric: str) -> str:
    """The JSON of one event per amount, each a second after the one before."""
    return "[" + ",".join([draw(events(one, metric, at)) for at, one in enumerate(amounts)]) + "]"


@st.composite
def events(draw: st.DrawFn, amount: Decimal, metric: str, second: int) -> str:
    """The JSON of an event whose quantity is spelled in some way."""
    event = a_sent_event(
        metric=metric,
        quantity="Q",
        ts=f"2026-11-20T11:00:{second:02d}Z",
        idempotencyKey=f"{metric}-{second}",
    )
    number = draw(of_number(amount))
    return json.dumps(event).replace('"Q"', draw(st.sampled_from([number, f'"{number}"'])))


@given(st.data(), st.lists(quantities, min_size=1, max_size=8), st.integers(1, 4))
def test_a_usage_answer_states_every_digit_that_was_sent(
    data: st.DataObject, amounts: list[Decimal], length: int
) -> None:
    books = HeldBooks()
    for metric in Aggregation:
        results = books.send(data.draw(requests(amounts, metric)))
        assert {one.status for one in results} == {"accepted"}
    while books.delivered < len(books.ledger.stream):
        books.deliver(length + 1, back=1)

    answer = books.usage_now("cus_A")

    metrics = json.loads(answer, parse_int=Fraction, parse_float=Fraction)["metrics"]
    exact = [Fraction(amount) for amount in amounts]
    assert {one["name"]: one["current"] for one in metrics} == {
        "sum": sum(exact),
        "count": len(exact),
        "max": max(exact),
        "last": exact[-1],
    }
