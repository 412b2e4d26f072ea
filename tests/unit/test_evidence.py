"""What the minutes of a total at Stripe say about our pushes."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from metering.drill_down import DrillDown, Reads, Total
from metering.evidence import MinuteSeen, Sign, Told, paired, sign_of
from metering.names import Identifier
from metering.period import Span
from metering.period_close import PeriodClose, PeriodState
from metering.push import Mode, Push, PushState, PushStream, StreamKey, Target
from metering.reconciliation import Row, Status
from metering.stripe_totals import Due, due_for
from tests.builders import NOON, a_counter
from tests.fake_billing import FakeBilling

NOVEMBER = Span(datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC))
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
TARGET = Target("", Mode.TEST, "api_calls", "cus_A")
KEY = StreamKey(TARGET, a_counter(), NOVEMBER)
STREAM = PushStream(KEY, "mtr_1", 0, accepted=10, next_seq=2, version=1)


def a_push(delta: int, at: datetime = NOON, seq: int = 1) -> Push:
    return Push(
        seq=seq,
        identifier=Identifier(f"u1.{KEY.id}.{seq}"),
        delta=delta,
        value=str(delta),
        occurred_at=at,
        planned_at=at,
        state=PushState.ACCEPTED,
        closed_at=at,
    )


def told(*deltas: int) -> list[Told]:
    return [
        Told(KEY.id, a_push(delta, seq=number), delta) for number, delta in enumerate(deltas, 1)
    ]


def sign(all_told: Sequence[Told], seen: int) -> tuple[Sign, int] | None:
    found = sign_of(NOON, all_told, seen)
    return (found.sign, found.effect) if found else None


def test_a_minute_says_whose_push_is_missing_or_there_twice() -> None:
    assert sign(told(5), 5) is None
    assert sign(told(5), 0) == (Sign.MISSING, 5)
    assert sign(told(5), 10) == (Sign.TWICE, -5)
    assert sign(told(5), 8) == (Sign.OTHER, -3)
    assert sign(told(-5), 0) == (Sign.MISSING, -5)
    assert sign([], 3) == (Sign.OTHER, -3)


def test_a_minute_that_two_counters_share_names_the_one_push() -> None:
    found = sign_of(NOON, told(5, 7), 5)

    assert found is not None
    assert found.told is not None
    assert (found.sign, found.told.push.delta) == (Sign.MISSING, 7)


def missing(at: datetime) -> MinuteSeen:
    found = sign_of(at, [Told(KEY.id, a_push(5, at), 5)], 0)
    assert found is not None
    return found


def stray(at: datetime, value: int = 5) -> MinuteSeen:
    found = sign_of(at, [], value)
    assert found is not None
    return found


def test_a_push_in_a_minute_nearby_is_shifted_and_makes_no_difference_within_its_period() -> None:
    (found,) = paired([missing(NOON), stray(NOON + 5 * MINUTE)], NOVEMBER)

    assert (found.sign, found.at, found.seen_at) == (Sign.SHIFTED, NOON, NOON + 5 * MINUTE)
    assert found.effect == 0


def test_a_push_on_the_other_side_of_a_bound_is_shifted_and_makes_one() -> None:
    end = NOVEMBER.end
    (left,) = paired([missing(end - MINUTE), stray(end + MINUTE)], NOVEMBER)
    (entered,) = paired([stray(end - MINUTE), missing(end + MINUTE)], NOVEMBER)

    assert (left.sign, left.effect) == (Sign.SHIFTED, 5)
    assert (entered.sign, entered.effect, entered.at) == (Sign.SHIFTED, -5, end - MINUTE)


def test_what_is_far_away_or_of_another_value_is_something_else() -> None:
    far = paired([missing(NOON), stray(NOON + 11 * MINUTE)], NOVEMBER)
    other = paired([missing(NOON), stray(NOON + MINUTE, 6)], NOVEMBER)

    assert [one.sign for one in far] == [Sign.MISSING, Sign.OTHER]
    assert [one.sign for one in other] == [Sign.MISSING, Sign.OTHER]


def test_without_reads_a_search_finds_nothing_and_says_that_it_is_not_complete() -> None:
    search = DrillDown(
        FakeBilling(), Reads(0, 0), Total(TARGET, "mtr_1", NOVEMBER), list, list, NOON
    )

    evidence = search.search({})

    assert (list(evidence.minutes), evidence.is_complete) == ([], False)


@pytest.mark.parametrize("length", [HOUR, 2 * HOUR - MINUTE, timedelta(days=1)])
def test_a_push_in_the_broken_hour_that_begins_a_period_is_missing_once(length: timedelta) -> None:
    period = Span(NOON + timedelta(minutes=37), NOON + timedelta(minutes=37) + length)
    pushes = [
        a_push(5, at=period.start + MINUTE),
        a_push(7, at=period.end - 2 * MINUTE, seq=2),
    ]
    search = DrillDown(
        FakeBilling(),
        Reads(100, 100),
        Total(TARGET, "mtr_1", period),
        lambda: [(STREAM, pushes)],
        list,
        NOON + timedelta(days=2),
    )

    evidence = search.search({})

    assert [(one.at, one.effect) for one in evidence.minutes] == [
        (push.occurred_at, push.delta) for push in pushes
    ]


def test_reads_that_close_a_period_go_through_when_none_are_left() -> None:
    reads = Reads(most=3, left=1)

    assert reads.take()
    assert not reads.take()
    assert reads.take(is_closing=True)
    assert (reads.made, reads.take(2, is_closing=True)) == (2, False)


# --- when a total is read -------------------------------------------------------------------------


def a_row(told_then: int = 10, read_at: datetime | None = NOON, stripe: int = 10) -> Row:
    ten = Decimal(10)
    return Row(
        counter=a_counter(),
        period=NOVEMBER,
        subscription_item_id="",
        ledger=ten,
        counted=ten,
        pushed=ten,
        stripe=Decimal(stripe) if read_at else None,
        stripe_read_at=read_at,
        findings=(),
        status=Status.OK,
        told_at_reading=Decimal(told_then) if read_at else None,
    )


def test_an_open_period_is_read_once_a_day_and_a_doubt_at_once() -> None:
    assert due_for(a_row(), [STREAM], None, NOON + 22 * HOUR) is None
    assert due_for(a_row(), [STREAM], None, NOON + 23 * HOUR) is Due.DAILY
    assert due_for(a_row(told_then=9, stripe=9), [STREAM], None, NOON + HOUR) is Due.SPARE
    assert due_for(a_row(told_then=11), [STREAM], None, NOON + HOUR) is Due.IN_DOUBT
    assert due_for(a_row(read_at=None), [STREAM], None, NOON) is Due.IN_DOUBT
    assert due_for(None, [STREAM], None, NOON) is Due.IN_DOUBT
    assert due_for(None, [], None, NOON) is None


def test_a_closing_period_is_read_in_each_run_and_once_after_it_is_closed() -> None:
    end = NOVEMBER.end
    closing = PeriodClose(
        a_counter().tenant, a_counter().customer, NOVEMBER, PeriodState.CLOSING, end
    )
    closed = PeriodClose(
        a_counter().tenant,
        a_counter().customer,
        NOVEMBER,
        PeriodState.CLOSED,
        end,
        closed_at=end + HOUR,
    )

    assert due_for(a_row(read_at=end + MINUTE), [STREAM], closing, end + HOUR) is Due.CLOSING
    assert due_for(a_row(read_at=end + MINUTE), [STREAM], closed, end + 2 * HOUR) is Due.CLOSING
    assert due_for(a_row(read_at=end + 2 * HOUR), [STREAM], closed, end + 3 * HOUR) is None
    assert due_for(a_row(read_at=end - MINUTE), [STREAM], None, end + MINUTE) is Due.CLOSING
