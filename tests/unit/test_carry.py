"""What is carried from closed periods: one line for each, looked at at once."""

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

from metering.carry import billed_apart, carried_in, carried_out, carry, merged, rest_of
from metering.counter import CounterKey
from metering.names import CustomerRef, Metric, TenantId
from metering.period import CALENDAR_MONTHS
from metering.push import Carry, Mode, PushStream, StreamKey, Target

COUNTER = CounterKey(TenantId("acme"), CustomerRef("ann"), Metric("api_calls"))
TARGET = Target("", Mode.TEST, "api_calls", "cus_ann")
OCTOBER, NOVEMBER = (datetime(2026, month, 1, tzinfo=UTC) for month in (10, 11))


def stream(start: datetime) -> PushStream:
    key = StreamKey(TARGET, COUNTER, CALENDAR_MONTHS.period_of(start))
    return PushStream(key, "mtr_1", scale=1)


def test_an_open_period_tells_what_is_left_of_a_closed_one_and_is_due() -> None:
    closed, receiving = replace(stream(OCTOBER), is_due=True), stream(NOVEMBER)

    carried = carry(closed, receiving, Decimal("2.5"))

    assert carried.closed == replace(closed, is_due=False, carried_out=Decimal("2.5"))
    line = Carry(OCTOBER, Decimal("2.5"))
    assert carried.receiving == replace(receiving, carried_in=(line,), is_due=True)


def test_lines_of_one_period_are_one_line_and_none_is_of_nothing() -> None:
    before = [Carry(NOVEMBER, Decimal(1)), Carry(OCTOBER, Decimal(2))]

    assert merged(before, [Carry(OCTOBER, Decimal("0.5"))]) == (
        Carry(OCTOBER, Decimal("2.5")),
        Carry(NOVEMBER, Decimal(1)),
    )
    assert merged(before, [Carry(OCTOBER, Decimal(-2))]) == (Carry(NOVEMBER, Decimal(1)),)


def test_what_the_streams_of_one_usage_tell_for_others_is_added_up() -> None:
    one = replace(stream(NOVEMBER), carried_in=(Carry(OCTOBER, Decimal(2)),))
    two = replace(stream(NOVEMBER), carried_in=(Carry(OCTOBER, Decimal("0.5")),))
    out = replace(stream(OCTOBER), carried_out=Decimal(3))

    assert carried_in([one, two]) == Decimal("2.5")
    assert carried_out([out, out]) == Decimal(6)
    assert carried_in([]) == carried_out([]) == billed_apart([]) == Decimal(0)


def test_the_rest_of_a_closed_period_is_what_nobody_told() -> None:
    closed = replace(stream(OCTOBER), accepted=100, carried_out=Decimal(2))
    beside = replace(stream(OCTOBER), carried_out=Decimal("0.5"))

    assert rest_of(closed, [beside], 160) == Decimal("3.5")
    assert rest_of(closed, [], 0) == Decimal(-12)
