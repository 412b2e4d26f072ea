"""Usage after the close: whatever comes when, over all periods Stripe is told what was counted."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from hypothesis import given
from hypothesis import strategies as some

from metering import push
from metering.carry import carry, rest_of
from metering.counter import CounterKey
from metering.names import CustomerRef, Metric, TenantId
from metering.period import CALENDAR_MONTHS
from metering.push import Mode, PushState, PushStream, StreamKey, Target, wanted

COUNTER = CounterKey(TenantId("acme"), CustomerRef("ann"), Metric("api_calls"))
TARGET = Target("", Mode.TEST, "api_calls", "cus_ann")
SCALE = 1
PERIODS_MAX = 5
FIRST = datetime(2026, 1, 1, tzinfo=UTC)


class Told:
    """A counter's totals by period and what Stripe took of them, one period open at a time."""

    def __init__(self) -> None:
        self.totals: list[Decimal] = []
        self.streams: list[PushStream] = []
        self.close()

    def close(self) -> None:
        """The open period closes as it is, and the next one begins."""
        start = (
            self.streams[-1].key.period.end if self.streams else datetime(2026, 1, 1, tzinfo=UTC)
        )
        period = CALENDAR_MONTHS.period_of(start)
        stream = PushStream(StreamKey(TARGET, COUNTER, period), "mtr_1", SCALE)
        self.totals.append(Decimal(0))
        self.streams.append(stream)

    def use(self, number: int, quantity: Decimal) -> None:
        """Usage of a period, open or closed; negative as a correction is."""
        self.totals[number % len(self.totals)] += quantity

    def tell(self, number: int, state: PushState = PushState.ACCEPTED) -> None:
        """What a writer does when it looks at a period."""
        number %= len(self.streams)
        stream = self.streams[number]
        desired = wanted(self.totals[number] + stream.carried_in_quantity, SCALE)
        if number < len(self.streams) - 1:
            self._carry(number, rest_of(stream, [], desired))
            return
        now = stream.key.period.start + timedelta(days=20)
        planned = push.plan(stream, desired, now, now, closes_at=stream.key.period.end)
        if isinstance(planned, PushStream):
            closed = push.close(push.stamp(planned, now), state, now, resolution="answered")
            self.streams[number] = replace(closed.stream, version=stream.version + 1)

    def _carry(self, number: int, rest: Decimal) -> None:
        self.streams[number], self.streams[-1] = carry(self.streams[number], self.streams[-1], rest)

    @property
    def accepted(self) -> int:
        """What Stripe took, over all periods, in scaled units."""
        return sum(stream.accepted for stream in self.streams)

    @property
    def tellable(self) -> int:
        """What there is to tell, each period floored by itself."""
        return sum(wanted(total, SCALE) for total in self.totals)


numbers = some.integers(0, PERIODS_MAX - 1)
steps = some.one_of(
    some.tuples(some.just("use"), numbers, some.decimals(-50, 50, places=2)),
    some.tuples(some.just("tell"), numbers, some.just(PushState.ACCEPTED)),
    some.tuples(some.just("tell"), numbers, some.just(PushState.VOID)),
    some.just(("close",)),
)


@given(some.lists(steps, max_size=40))
def test_accepted_over_all_periods_is_what_was_counted_in_them(
    taken: list[tuple[Any, ...]],
) -> None:
    told = Told()
    for name, *arguments in taken:
        if name != "close" or len(told.streams) < PERIODS_MAX:
            getattr(told, name)(*arguments)

    for number in range(len(told.streams)):  # the writer sees them all once more
        told.tell(number)

    assert told.accepted == told.tellable
    carried_in = sum((one.carried_in_quantity for one in told.streams), Decimal(0))
    assert carried_in == sum((one.carried_out for one in told.streams), Decimal(0))


@given(some.lists(some.decimals(-50, 50, places=2), min_size=1, max_size=10))
def test_one_closed_period_has_one_line_in_the_period_that_tells_it(
    quantities: list[Decimal],
) -> None:
    told = Told()
    told.close()
    for quantity in quantities:
        told.use(0, quantity)
        told.tell(0)

    whole = push.quantity_of(told.tellable, SCALE)
    lines = told.streams[1].carried_in
    assert [line.quantity for line in lines] == ([whole] if whole else [])
    assert told.streams[0].carried_out == whole
