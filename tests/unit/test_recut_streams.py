"""What becomes of each stream when its customer's periods are cut anew, and when nothing may."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from metering.invoice_item import InvoiceItem
from metering.minutes import Minutes
from metering.period import BillingCalendar, Era, Span
from metering.ports import PushHistory
from metering.push import (
    Carry,
    Correction,
    Held,
    Push,
    PushState,
    PushStream,
    Stop,
    StreamKind,
)
from metering.recut import STREAMS_MAX, recut
from tests.unit.test_recut_settle import (
    AFTER,
    BEFORE,
    CUT,
    FIRST,
    HOUR,
    NOW,
    OWN,
    PUSHES,
    SECOND,
    START,
    WHOLE,
    begin,
    told,
)

OCTOBER = START - timedelta(days=31)
LINE = Carry(OCTOBER, Decimal(2))
ITEM = InvoiceItem(
    id="u1.x.apart.1",
    step=1,
    line="line_1",
    units=5,
    units_before=0,
    amount=5,
    currency="usd",
    price_id="price_1",
    invoice="in_1",
    description="five",
    planned_at=NOW,
)


def cut(
    *streams: PushStream | tuple[PushStream, list[Push]],
    calendar: BillingCalendar = AFTER,
    kind: StreamKind = StreamKind.DELTA,
) -> list[PushStream] | Held:
    histories = [
        PushHistory(*one) if isinstance(one, tuple) else PushHistory(one, []) for one in streams
    ]
    return recut(histories, calendar, lambda period: begin(period, kind), NOW)


def after_cut(
    *streams: PushStream | tuple[PushStream, list[Push]], kind: StreamKind = StreamKind.DELTA
) -> list[PushStream]:
    found = cut(*streams, kind=kind)
    assert not isinstance(found, Held), found
    return found


def gone(minutes: int = 60, **changes: Any) -> PushStream:
    """A stream of a period that begins where no period begins any more."""
    stream = begin(Span(CUT + timedelta(minutes=minutes), WHOLE.end))
    return replace(stream, version=1, **changes)


# --- usage of closed periods ----------------------------------------------------------------------


def test_what_a_period_that_is_gone_carried_is_told_by_the_one_in_its_place() -> None:
    left = gone(carried_in=(LINE,), is_due=True)
    heir = replace(begin(SECOND), version=1, carried_in=(Carry(OCTOBER, Decimal("0.5")),))

    assert after_cut(left, heir) == [
        replace(left, carried_in=(), is_due=False),
        replace(heir, carried_in=(Carry(OCTOBER, Decimal("2.5")),), is_due=True),
    ]
    assert after_cut(left) == [
        replace(left, carried_in=(), is_due=False),
        replace(begin(SECOND), carried_in=(LINE,), is_due=True),
    ]


def test_carries_of_several_periods_that_are_gone_come_together_beside_moved_pushes() -> None:
    first, second, left, other = after_cut(
        (OWN, PUSHES), gone(carried_in=(LINE,)), gone(90, carried_in=(LINE,))
    )

    assert first.key.period == FIRST
    assert second.key.period == SECOND
    assert (second.accepted, second.carried_in) == (3, (Carry(OCTOBER, Decimal(4)),))
    assert left.carried_in == other.carried_in == ()


def test_a_period_that_is_gone_and_carried_nothing_is_left_alone() -> None:
    assert after_cut(gone(), gone(90, is_due=True)) == []
    assert after_cut(replace(begin(FIRST), version=1)) == []


# --- when nothing may be done ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        lambda own: replace(own, kind=StreamKind.LEGACY),
        lambda own: replace(own, key=own.key._replace(incarnation=1)),
        lambda own: replace(own, accepted=9),
    ],
)
def test_a_stream_that_holds_more_than_its_pushes_say_is_not_taken_apart(
    change: Callable[[PushStream], PushStream],
) -> None:
    assert cut((change(OWN), PUSHES)) is Held.PERIOD_CHANGED


def test_a_correction_that_counted_stays_where_it_is() -> None:
    counted = [PUSHES[0], replace(PUSHES[1], is_correction=True)]
    voided = [PUSHES[0], replace(PUSHES[1], is_correction=True, state=PushState.VOID)]
    own = replace(OWN, accepted=5)

    assert cut((own, counted)) is Held.PERIOD_CHANGED
    assert isinstance(cut((own, voided)), list)


@pytest.mark.parametrize(
    "settled",
    [
        {"carried_out": Decimal(1)},
        {"items": (ITEM,)},
        {"corrections": (Correction(1, NOW, "api:ann", "x"),)},
    ],
)
def test_a_period_that_is_gone_and_was_settled_apart_is_for_a_person(
    settled: dict[str, Any],
) -> None:
    assert cut(gone(carried_in=(LINE,), **settled)) is Held.PERIOD_CHANGED
    assert isinstance(cut((replace(OWN, **settled), PUSHES)), list)


def test_streams_of_two_forms_are_not_mixed() -> None:
    fine = replace(begin(SECOND), version=1, scale=2)

    assert cut((OWN, PUSHES), fine) is Held.PERIOD_CHANGED
    assert isinstance(cut((OWN, PUSHES), replace(fine, scale=0)), list)


def test_more_streams_than_one_transaction_takes_are_not_begun() -> None:
    streams = [gone(minutes, carried_in=(LINE,)) for minutes in range(1, STREAMS_MAX + 2)]

    assert isinstance(cut(*streams[:STREAMS_MAX]), list)
    assert cut(*streams) is Held.PERIOD_CHANGED


def test_an_invoice_item_on_its_way_is_waited_for() -> None:
    assert cut((replace(OWN, item=ITEM), PUSHES)) is Held.PUSH_OPEN


# --- one stream -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "accepted", "was_due", "is_due"),
    [
        (StreamKind.DELTA, 5, False, True),
        (StreamKind.DELTA, 1, False, True),
        (StreamKind.DELTA, 0, False, False),
        (StreamKind.DELTA, 0, True, True),
        (StreamKind.LAST, 5, False, False),
        (StreamKind.LAST, 0, True, True),
    ],
)
def test_a_period_that_was_only_shortened_is_looked_at_where_some_may_be_left_to_tell(
    kind: StreamKind,
    accepted: int,
    was_due: bool,  # noqa: FBT001 (a parameter of pytest)
    is_due: bool,  # noqa: FBT001 (a parameter of pytest)
) -> None:
    stream = replace(begin(WHOLE, kind), version=1, accepted=accepted, is_due=was_due)

    (after,) = after_cut(stream)

    assert after == replace(stream, key=stream.key._replace(period=FIRST), is_due=is_due)


def test_a_stop_is_lifted_from_a_period_that_is_gone() -> None:
    stop = Stop("refused", "m", NOW, NOW + HOUR)

    left, _ = after_cut(gone(carried_in=(LINE,), stopped=stop))

    assert left.stopped is None


@pytest.mark.parametrize(("hours", "is_due"), [(-2, True), (2, False)])
def test_a_window_behind_the_new_end_has_nothing_left_to_tell(
    hours: int,
    is_due: bool,  # noqa: FBT001 (a parameter of pytest)
) -> None:
    hour = CUT.replace(minute=0, second=0) + hours * HOUR
    stream = begin(WHOLE, StreamKind.HOURLY)
    hourly = replace(stream, key=stream.key._replace(hour=hour), version=1, is_due=True)

    (after,) = after_cut(hourly)

    assert (after.key.period, after.is_due) == (FIRST, is_due)


def test_a_stream_that_only_takes_over_has_ceded_nothing() -> None:
    first, second = after_cut((OWN, PUSHES))

    assert (first.ceded_from, second.ceded_from) == (FIRST.end, None)


def test_a_stream_that_has_ceded_before_goes_on_ceding_from_its_end() -> None:
    shorter = BEFORE.with_era(Era(CUT + 2 * HOUR, CUT + 2 * HOUR, subscription="sub"))
    own, pushes = told(begin(WHOLE), (5, CUT - HOUR), (8, CUT + 3 * HOUR))

    found = cut((replace(own, ceded_from=WHOLE.end), pushes), calendar=shorter)

    assert not isinstance(found, Held)
    assert found[0].ceded_from == CUT + 2 * HOUR


def test_minutes_that_were_taken_over_are_used_no_more() -> None:
    _, second = after_cut((OWN, PUSHES))

    assert second.minutes == Minutes().without(PUSHES[1].occurred_at)
    own, pushes = told(
        begin(WHOLE, StreamKind.LAST), (5, CUT - HOUR), (8, CUT + HOUR), (9, CUT + 2 * HOUR)
    )
    _, last = after_cut((own, pushes), kind=StreamKind.LAST)
    assert last.minutes == Minutes().after(pushes[2].occurred_at)


def test_a_last_value_that_was_taken_over_whole_leaves_all_minutes_free() -> None:
    own, pushes = told(begin(WHOLE, StreamKind.LAST), (8, CUT + HOUR))

    first, second = after_cut((own, pushes), kind=StreamKind.LAST)

    assert (first.minutes, first.accepted) == (Minutes(), 0)
    assert second.minutes == Minutes().after(pushes[0].occurred_at)


def test_a_stream_that_takes_over_as_many_pushes_as_it_gives_has_ceded_them_all_the_same() -> None:
    at_five = AFTER.with_era(Era(CUT + 5 * HOUR, CUT + 5 * HOUR, subscription="sub"))
    second, later = told(begin(SECOND), (7, CUT + 6 * HOUR))

    found = cut((OWN, PUSHES), (second, later), calendar=at_five)

    assert not isinstance(found, Held)
    assert [(one.accepted, one.ceded, one.ceded_from) for one in found] == [
        (5, 3, CUT),
        (3, 7, CUT + 5 * HOUR),
        (7, 0, None),
    ]
