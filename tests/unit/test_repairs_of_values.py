"""Which values that were set are taken back, and what their streams stand at afterwards."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from metering.counter import Aggregation
from metering.evidence import Evidence, MinuteSeen, Sign, Told
from metering.facts import Facts, Recount
from metering.push import Push, PushState, PushStream, StreamKind, stamp
from metering.repairs import Repairs
from tests.builders import NOON
from tests.push_steps import plan
from tests.unit.test_evidence import KEY, NOVEMBER
from tests.unit.test_newest_value import EIGHT, FIVE, HOUR, LAST, NOW


class Kept:
    """A stream with its history, and what of it is stored."""

    def __init__(self, stream: PushStream, history: Sequence[Push]) -> None:
        self.stream = stream
        self._history = list(history)
        self.closed: list[Push] = []

    def streams(self, *_: Any) -> list[PushStream]:
        return [self.stream]

    def history(self, _: PushStream) -> list[Push]:
        return self._history

    def store(self, stream: PushStream, closed: Push) -> PushStream:
        self.stream = stream
        self.closed.append(closed)
        return stream


def repaired(kept: Kept, push: Push) -> list[str]:
    """What a run takes back that found a push missing for the second time."""
    told = Told(KEY.id, push, int(push.value))
    evidence = Evidence(
        minutes=[MinuteSeen(push.occurred_at, told.value, 0, Sign.MISSING, told, effect=3)],
        first_looks={push.identifier: NOW - HOUR},
    )
    facts = Facts(
        counter=KEY.counter,
        period=NOVEMBER,
        aggregation=Aggregation.LAST,
        ledger=Recount(),
        streams=[kept.stream],
        evidence=evidence,
    )
    pushes: Any = kept
    return [one.identifier for one in Repairs(pushes, NOW).take_back([facts])]


def test_a_value_is_taken_back_and_the_one_before_it_stands() -> None:
    kept = Kept(LAST, [FIVE, EIGHT])

    assert repaired(kept, EIGHT) == [EIGHT.identifier]

    assert kept.closed == [
        replace(
            EIGHT,
            state=PushState.ASYNC_REJECTED,
            last_error="not in its minute on two looks an hour apart",
        )
    ]
    assert (kept.stream.accepted, kept.stream.is_due) == (5, True)


def test_a_period_of_which_no_other_value_stands_was_told_nothing() -> None:
    taken_over = replace(EIGHT, delta=3)  # of a former stream, which had set 5 before it
    kept = Kept(LAST, [taken_over])

    assert repaired(kept, taken_over) == [EIGHT.identifier]
    assert kept.stream.accepted == 0


@pytest.mark.parametrize("kind", [StreamKind.LAST, StreamKind.HOURLY])
def test_a_value_that_a_newer_one_has_taken_the_place_of_is_left_alone(kind: StreamKind) -> None:
    kept = Kept(replace(LAST, kind=kind), [FIVE, EIGHT])

    assert repaired(kept, FIVE) == []
    assert kept.closed == []


def test_a_value_is_left_alone_while_a_newer_one_is_under_way() -> None:
    planned = plan(LAST, 9, NOON + 4 * HOUR, NOON + 4 * HOUR)
    assert isinstance(planned, PushStream)
    kept = Kept(stamp(planned, NOON + 4 * HOUR + timedelta(seconds=1)), [FIVE, EIGHT])

    assert repaired(kept, EIGHT) == []
    assert kept.closed == []
