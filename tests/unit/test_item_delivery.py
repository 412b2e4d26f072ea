"""The steps of an invoice item, and what each answer of Stripe's means for the next."""

from dataclasses import replace
from datetime import timedelta

import pytest

from metering.delivery import (
    Accepted,
    InFlight,
    KeyReused,
    NotAllowed,
    OutcomeUnknown,
    RateLimited,
    Refused,
    ServerError,
)
from metering.errors import InvariantBrokenError
from metering.invoice_item import (
    InvoiceItem,
    ItemState,
    KnownItem,
    billed,
    id_of,
    is_due,
    is_overtaken,
    line_of,
)
from metering.item_delivery import (
    Added,
    ItemAnswer,
    after,
    needs_a_person,
    put_off,
    stamped,
)
from metering.period import Span
from tests.builders import NOON, a_counter

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
PERIOD = Span(NOON, NOON + timedelta(days=30))
TARGET = ("", "test", "api_calls", "cus_A", "")
PLANNED = InvoiceItem(
    id="u1.x.apart.1",
    step=1,
    line="line_1",
    units=5,
    units_before=2,
    amount=730,
    currency="usd",
    price_id="price_1",
    invoice="in_1",
    description="five",
    planned_at=NOON,
)


def sent() -> InvoiceItem:
    found = stamped(PLANNED, NOON)
    assert found is not None
    return found


def test_an_item_is_known_by_counter_period_and_step_alone() -> None:
    first = id_of(TARGET, a_counter(), PERIOD, 1)

    assert first == id_of(TARGET, a_counter(), PERIOD._replace(end=NOON), 1)
    assert len({first, id_of(TARGET, a_counter("b"), PERIOD, 1)}) == 2
    assert len({first, id_of((*TARGET[:-1], "si_1"), a_counter(), PERIOD, 1)}) == 2
    assert id_of(TARGET, a_counter(), PERIOD, 2) == first[:-1] + "2"
    assert len(first) < 50
    assert "cus_A" not in first


def test_counters_of_one_total_share_its_line() -> None:
    assert line_of(TARGET, PERIOD) == line_of(TARGET, PERIOD)
    assert line_of(TARGET, PERIOD) != line_of(TARGET, PERIOD._replace(start=NOON - HOUR))


def test_an_item_is_stamped_before_it_is_sent_and_then_left_alone_for_a_while() -> None:
    item = sent()

    assert (item.state, item.attempts, item.key_since) == (ItemState.SENT, 1, NOON)
    assert item.idempotency_key == item.id
    assert not is_due(item, NOON + timedelta(seconds=29))
    assert is_due(item, NOON + timedelta(seconds=30))


def test_within_a_day_an_unknown_outcome_is_repeated_under_the_same_key() -> None:
    again = stamped(after(sent(), OutcomeUnknown("timeout"), NOON), NOON + 22 * HOUR)

    assert again is not None
    assert (again.idempotency_key, again.attempts, again.key_since) == (PLANNED.id, 2, NOON)


def test_after_a_day_a_new_key_is_used_when_the_old_requests_have_ended() -> None:
    unknown = replace(
        after(sent(), OutcomeUnknown("timeout"), NOON), last_attempt_at=NOON + 22.9 * HOUR
    )

    assert stamped(unknown, NOON + 23 * HOUR) is None
    again = stamped(unknown, NOON + 24 * HOUR)
    assert again is not None
    assert again.idempotency_key == f"{PLANNED.id}.g1"
    assert again.key_since == NOON + 24 * HOUR


@pytest.mark.parametrize(
    ("answer", "generation", "waits", "is_for_a_person"),
    [
        (Refused("resource_missing", "no such customer"), 1, 6 * HOUR, True),
        (NotAllowed("403"), 1, HOUR, True),
        (KeyReused("other parameters"), 1, 30 * MINUTE, True),
        (ServerError("sorry"), 1, 30 * MINUTE, False),
        (InFlight(), 0, MINUTE, False),
        (RateLimited("global-rate"), 0, MINUTE, False),
        (OutcomeUnknown("timeout"), 0, MINUTE, False),
    ],
)
def test_an_item_stays_open_until_stripe_holds_it(
    answer: ItemAnswer, generation: int, waits: timedelta, *, is_for_a_person: bool
) -> None:
    item = after(sent(), answer, NOON)

    assert (item.state, item.key_generation) == (ItemState.SENT, generation)
    assert item.not_before == NOON + waits
    assert item.last_error
    assert needs_a_person(answer) is is_for_a_person


def test_an_unknown_outcome_is_asked_for_ever_more_seldom() -> None:
    item, now, waits = sent(), NOON, []
    for _ in range(10):
        item = after(item, OutcomeUnknown("timeout"), now)
        assert item.not_before is not None
        waits.append(item.not_before - now)
        found = stamped(item, now)
        assert found is not None
        item = found

    assert waits[:3] == [MINUTE, 2 * MINUTE, 4 * MINUTE]
    assert waits[-1] == HOUR


def test_a_made_item_is_billed() -> None:
    item = after(sent(), Added("ii_1"), NOON + MINUTE)

    assert (item.state, item.stripe_id, item.billed_at) == (
        ItemState.BILLED,
        "ii_1",
        NOON + MINUTE,
    )


def test_what_stands_at_stripe_is_what_is_billed_whatever_was_planned() -> None:
    item = billed(sent(), KnownItem("ii_1", PLANNED.id, "line_1", 4, 400), NOON + MINUTE)

    assert (item.units, item.amount, item.stripe_id) == (4, 400, "ii_1")
    assert item.state is ItemState.BILLED


def test_an_item_that_never_left_is_priced_anew_when_more_was_billed_for_its_line() -> None:
    two = KnownItem("ii_1", "other", "line_1", 2, 200)
    foreign = KnownItem("ii_2", "other", "line_2", 9, 900)

    assert not is_overtaken(PLANNED, [two, foreign])
    assert is_overtaken(PLANNED, [two, two])
    assert not is_overtaken(sent(), [two, two])  # it may stand at Stripe as it is


def test_no_item_is_ever_answered_like_a_meter_event() -> None:
    with pytest.raises(InvariantBrokenError):
        after(sent(), Accepted(), NOON)


# --- ids that stand at Stripe for ever ------------------------------------------------------------


def test_the_marks_of_lines_and_items_stay_what_they_are() -> None:
    counter = ("demo", "cus_A", "api_calls")

    assert line_of(TARGET, PERIOD) == "qsulelsyv44lcufmpipvy6pjfwzoe2ru"
    assert id_of(TARGET, counter, PERIOD, 2) == "u1.5wmfet3agejqgx4yejrofbrqxfj2h53e.apart.2"
    later = Span(PERIOD.end, PERIOD.end + HOUR)
    assert line_of(TARGET, later) != line_of(TARGET, PERIOD)
    assert id_of(TARGET, counter, later, 2) != id_of(TARGET, counter, PERIOD, 2)


def test_an_item_that_stands_at_stripe_is_billed_as_it_stands_there() -> None:
    troubled = replace(PLANNED, not_before=NOON, last_error="500")
    known = KnownItem("ii_1", PLANNED.id, PLANNED.line, 7, 900)

    assert billed(troubled, known, NOON + HOUR) == replace(
        PLANNED,
        state=ItemState.BILLED,
        stripe_id="ii_1",
        units=7,
        amount=900,
        billed_at=NOON + HOUR,
    )


def test_an_item_that_stripe_could_not_be_asked_for_is_looked_at_a_little_later() -> None:
    assert put_off(PLANNED, "throttled", NOON) == replace(
        PLANNED, last_error="throttled", not_before=NOON + timedelta(seconds=30)
    )


def test_a_stamp_is_kept_to_the_last_field_and_a_fence_ends_after_half_an_hour() -> None:
    once = stamped(PLANNED, NOON)
    assert once == replace(
        PLANNED,
        state=ItemState.SENT,
        attempts=1,
        key_since=NOON,
        last_attempt_at=NOON,
        not_before=NOON + timedelta(seconds=30),
    )
    later = NOON + timedelta(days=2)
    fenced = replace(once, last_attempt_at=later - timedelta(minutes=30))

    again = stamped(fenced, later)

    assert again is not None
    assert (again.key_generation, again.key_since, again.last_attempt_at) == (1, later, later)
    assert stamped(fenced, later - timedelta(microseconds=1)) is None
