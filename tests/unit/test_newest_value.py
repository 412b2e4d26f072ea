"""Whether the newest value that a `last` meter was told stands there, found by one read."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal

import pytest

from metering.drill_down import Reads, Total
from metering.evidence import Evidence, Sign, sign_of, told_by_minute
from metering.newest_value import NewestValue, newest_told
from metering.period import Span
from metering.push import ONE_MINUTE, Push, PushState, PushStream, StreamKind
from metering.stripe_totals import Seen, Totals, total_of
from metering.work import Work
from tests.builders import NOON
from tests.fake_billing import FakeBilling
from tests.unit.test_evidence import NOVEMBER, STREAM, TARGET, a_push

HOUR = timedelta(hours=1)
NOW = NOON + 5 * HOUR
LAST = replace(STREAM, kind=StreamKind.LAST, accepted=8, accepted_at=NOON, next_seq=3)
REJECTED = PushState.ASYNC_REJECTED


def a_value(value: int, hours: int, state: PushState = PushState.ACCEPTED) -> Push:
    push = a_push(value, NOON + hours * HOUR, seq=hours)
    return replace(push, value=str(value), state=state)


FIVE, EIGHT = a_value(5, 1), a_value(8, 2)


class OneSpan(FakeBilling):
    """Holds a value in each span of time that a test names, and remembers which were read."""

    def __init__(self, held: dict[Span, int]) -> None:
        super().__init__()
        self.read: list[Span] = []
        self._held = held

    def total(self, meter_id: str, customer: str, span: Span, account: str = "") -> Decimal:
        self.read.append(span)
        return Decimal(self._held.get(span, 0))


def minute(push: Push) -> Span:
    return Span(push.occurred_at, push.occurred_at + ONE_MINUTE)


def search(
    stripe: OneSpan,
    seen: int,
    pushes: Sequence[Push] = (FIVE, EIGHT),
    *,
    stream: PushStream = LAST,
    reads: int = 1,
    looked_at: datetime | None = None,
) -> Evidence:
    looks = {pushes[-1].identifier: looked_at} if looked_at else {}
    total = Total(TARGET, "mtr_1", NOVEMBER)
    left = Reads(reads, reads)
    look = NewestValue(stripe, left, total, seen, lambda: [(stream, pushes)], NOW)
    evidence = look.search(looks)
    assert left.made == len(stripe.read) <= 1
    return evidence


def test_a_value_that_stands_is_not_looked_up() -> None:
    stripe = OneSpan({})

    assert search(stripe, 8) == Evidence()
    assert stripe.read == []


def test_a_value_whose_minute_is_empty_is_missing() -> None:
    stripe = OneSpan({})

    evidence = search(stripe, 5)

    (found,) = evidence.minutes
    assert (found.sign, found.expected, found.seen, found.effect) == (Sign.MISSING, 8, 0, 3)
    assert found.is_absent
    assert evidence.first_looks == {EIGHT.identifier: NOW}
    assert stripe.read == [minute(EIGHT)]


def test_the_first_look_is_remembered() -> None:
    evidence = search(OneSpan({}), 5, looked_at=NOON)

    assert evidence.first_looks == {EIGHT.identifier: NOON}


def test_a_value_in_its_minute_was_overtaken_by_somebody_else() -> None:
    assert search(OneSpan({minute(EIGHT): 8}), 12) == Evidence()


def test_another_value_in_its_minute_proves_nothing() -> None:
    evidence = search(OneSpan({minute(EIGHT): 12}), 12)

    (found,) = evidence.minutes
    assert (found.sign, found.seen, found.told) == (Sign.OTHER, 12, None)
    assert not found.is_absent
    assert evidence.first_looks == {}


@pytest.mark.parametrize(("later", "is_missing"), [(0, True), (12, False)])
def test_of_a_value_of_0_it_matters_whether_anything_stands_since(
    later: int,
    is_missing: bool,  # noqa: FBT001 (a parameter of the test)
) -> None:
    zero = a_value(0, 3)
    rest = Span(zero.occurred_at, NOW + ONE_MINUTE)
    stripe = OneSpan({rest: later})

    evidence = search(stripe, 5, [FIVE, zero], stream=replace(LAST, accepted=0))

    assert [one.effect for one in evidence.minutes] == [-5] * is_missing
    assert stripe.read == [rest]


def test_without_a_read_nothing_is_known() -> None:
    assert search(OneSpan({}), 5, reads=0) == Evidence(is_complete=False)


def test_where_no_push_stands_all_that_is_there_is_somebody_elses() -> None:
    gone = replace(EIGHT, state=REJECTED)

    assert search(OneSpan({}), 5, [gone], stream=replace(LAST, accepted=0)) == Evidence()


def test_a_value_that_was_told_since_the_stream_was_read_is_not_judged() -> None:
    evidence = search(OneSpan({}), 5, [FIVE], stream=LAST)

    assert evidence == Evidence(is_complete=False)
    assert newest_told([(LAST, [FIVE, EIGHT, a_value(9, 3)])]).push == EIGHT  # type: ignore[union-attr]


def test_of_several_streams_the_one_that_told_last_is_meant() -> None:
    older = replace(LAST, accepted=5, accepted_at=NOON - HOUR)

    found = newest_told([(LAST, [EIGHT]), (older, [FIVE])])

    assert found is not None
    assert found.push == EIGHT
    assert newest_told([]) is None


def test_a_counter_holds_what_stripe_does_when_its_last_value_is_missing() -> None:
    total = Total(TARGET, "mtr_1", NOVEMBER)
    totals = Totals(FakeBilling(), Reads(1, 1), NOW)
    totals.seen[total] = Seen(5, NOW)
    work = Work(LAST.key.counter, NOVEMBER)
    assert total_of(LAST) == total

    for evidence in ({}, {total: search(OneSpan({}), 5)}):
        readings = totals.readings({work: [LAST]}, evidence)
        assert readings[work].total == 5


# --- windows --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seen", "sign"),
    [(8, None), (5, Sign.MISSING), (0, Sign.MISSING), (7, Sign.OTHER)],
    ids=["all told", "as before", "empty", "somebody else's"],
)
def test_a_window_that_holds_an_earlier_value_of_ours_lacks_the_newest(
    seen: int, sign: Sign | None
) -> None:
    at = NOON.replace(minute=0)
    pushes = [replace(one, occurred_at=at) for one in (FIVE, EIGHT)]
    minutes = told_by_minute([(replace(LAST, kind=StreamKind.HOURLY), pushes)])

    found = sign_of(at, minutes[at], seen)

    assert (found.sign if found else None) == sign
    if found:
        assert found.effect == 8 - seen
        assert found.is_absent is (sign is Sign.MISSING)
