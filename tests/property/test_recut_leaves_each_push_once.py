"""Periods that are cut late: each push counts where Stripe counts it, and over all nothing moves.

Pushes are told by the calendar that is known, at any minute; plan changes happen whenever and are
heard of later, one or several at a time.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import example, given
from hypothesis import strategies as some

from metering import push
from metering.counter import CounterKey
from metering.names import CustomerRef, Metric, TenantId
from metering.period import BillingCalendar, Era, Span
from metering.ports import PushHistory
from metering.push import Held, Mode, Push, PushState, PushStream, StreamKey, StreamKind, Target
from metering.recut import recut

COUNTER = CounterKey(TenantId("acme"), CustomerRef("ann"), Metric("api_calls"))
TARGET = Target("", Mode.TEST, "api_calls", "cus_ann")
START = datetime(2026, 11, 10, 9, 30, 7, tzinfo=UTC)
HOUR = timedelta(hours=1)


class Books:
    """Our streams and their pushes, and what Stripe has counted by its own calendar."""

    def __init__(self, kind: StreamKind) -> None:
        self.kind = kind
        self.now = START + HOUR
        self.at_stripe = BillingCalendar((Era(START, START, subscription="sub"),))
        self.known = self.at_stripe
        self.streams: dict[datetime, PushStream] = {}
        self.pushes: list[Push] = []

    def begin(self, period: Span) -> PushStream:
        return PushStream(StreamKey(TARGET, COUNTER, period), "mtr_1", 0, self.kind)

    def tell(self, amount: int, state: PushState) -> None:
        """The writer tells some more for the period that it takes to be the present one."""
        self.now += HOUR
        period = self.known.period_of(self.now)
        stream = self.streams.get(period.start) or self.begin(period)
        planned = push.plan(
            stream, stream.accepted + amount, self.now, self.now, closes_at=period.end + HOUR
        )
        if isinstance(planned, PushStream):
            closed = push.close(push.stamp(planned, self.now), state, self.now, resolution="x")
            after = replace(closed.stream, version=stream.version + 1)
            self.streams[period.start] = after
            self.pushes.append(closed.push)

    def cut(self, hours: int) -> None:
        """A plan changes at Stripe."""
        self.now += hours * HOUR + timedelta(seconds=13)
        self.at_stripe = self.at_stripe.with_era(Era(self.now, self.now, subscription="sub"))

    def hear(self) -> None:
        self.known = self.at_stripe
        found = recut(
            [PushHistory(one, self.held(one)) for one in self.streams.values()],
            self.known,
            self.begin,
            self.now,
        )
        assert not isinstance(found, Held)
        for one in found:
            self.streams[one.key.period.start] = replace(one, version=one.version + 1)

    def held(self, stream: PushStream) -> list[Push]:
        """As the store keeps them: each with its sender, and by whom it is held by its stamp."""
        return [one for one in self.pushes if _is_held(one, stream)]

    def counted(self) -> dict[datetime, int]:
        """What Stripe holds of each of its periods."""
        held: dict[datetime, list[Push]] = defaultdict(list)
        for one in self.pushes:
            if one.state is PushState.ACCEPTED:
                held[self.at_stripe.period_of(one.occurred_at).start].append(one)
        return {start: self._total(pushes) for start, pushes in held.items()}

    def _total(self, pushes: Iterable[Push]) -> int:
        if self.kind is StreamKind.DELTA:
            return sum(one.delta for one in pushes)
        return int(max(pushes, key=lambda one: one.occurred_at).value)


def _is_held(one: Push, stream: PushStream) -> bool:
    sender = one.identifier.split(".")[1]
    if sender == stream.key.id:
        return stream.ceded_from is None or one.occurred_at < stream.ceded_from
    return sender in stream.sources and one.occurred_at in stream.key.period


steps = some.one_of(
    some.tuples(
        some.just("tell"),
        some.integers(-9, 99).filter(bool),
        some.sampled_from([PushState.ACCEPTED, PushState.ACCEPTED, PushState.VOID]),
    ),
    some.tuples(some.just("cut"), some.integers(0, 800)),
    some.just(("hear",)),
)
AC = PushState.ACCEPTED


@given(some.lists(steps, max_size=25), some.sampled_from([StreamKind.DELTA, StreamKind.LAST]))
@example([("tell", 1, AC), ("cut", 5), ("tell", 2, AC), ("cut", 700), ("tell", 4, AC)], "delta")
def test_every_stream_holds_what_stripe_counts_in_its_period(
    taken: list[tuple[str | int | PushState, ...]], kind: StreamKind
) -> None:
    books = Books(StreamKind(kind))
    for name, *arguments in taken:
        getattr(books, str(name))(*arguments)

    books.hear()

    ours = {start: one.accepted for start, one in books.streams.items()}
    counted = books.counted()
    assert {start: ours.get(start, 0) for start in ours.keys() | counted.keys()} == {
        start: counted.get(start, 0) for start in ours.keys() | counted.keys()
    }
    holders = [one for every in books.streams.values() for one in books.held(every)]
    assert sorted(one.identifier for one in holders) == sorted(
        one.identifier for one in books.pushes
    )
    if books.kind is StreamKind.DELTA:
        own = sum(one.ceded for one in books.streams.values())
        received = sum(part.amount for one in books.streams.values() for part in one.received)
        assert own == received
    before = dict(books.streams)
    books.hear()
    assert books.streams == before, "hearing it again changes something"


@given(some.lists(some.integers(1, 60), min_size=1, max_size=30), some.integers(0, 29))
def test_no_minute_that_was_taken_over_is_used_again(deltas: list[int], at: int) -> None:
    books = Books(StreamKind.DELTA)
    for number, delta in enumerate(deltas):
        if number == at:
            books.cut(0)
        books.tell(delta, PushState.ACCEPTED)
    books.hear()
    books.tell(1, PushState.ACCEPTED)

    stamps = [one.occurred_at for one in books.pushes]
    assert len(set(stamps)) == len(stamps)
