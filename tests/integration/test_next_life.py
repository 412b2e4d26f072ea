"""After a restore the store's next life begins an hour after it was first asked for."""

from datetime import timedelta

import pytest

from functions.writer.handler import handler as write
from infra.functions import WRITER
from metering.next_life import TooEarlyError, begin_next_life
from metering.wiring import Wiring
from tests.billing_world import Context
from tests.builders import NOON
from tests.conftest import SetClock

HOUR = timedelta(hours=1)


def ask(**more: bool) -> dict[str, object]:
    return write({"raiseIncarnation": True} | more, Context(WRITER))


def test_the_first_who_asks_is_told_when_to_ask_again(wiring: Wiring, clock: SetClock) -> None:
    assert ask() == {
        "refused": "pushes of the lost life may not be in Stripe's summaries yet, and would be"
        " billed twice: leave the schedules off and ask again at 2026-11-20T13:00:00.000Z, or say"
        " force: true when you know that the last push is more than an hour old",
        "askAgainAt": "2026-11-20T13:00:00.000Z",
    }
    assert wiring.pushes.incarnation() == 0

    clock.advance(HOUR - timedelta(seconds=1))
    assert ask()["askAgainAt"] == "2026-11-20T13:00:00.000Z"
    assert wiring.pushes.incarnation() == 0

    clock.advance(timedelta(seconds=1))
    assert ask() == {"incarnation": 1}
    assert wiring.pushes.incarnation() == 1


def test_an_answer_that_was_lost_does_not_begin_another_life(
    wiring: Wiring, clock: SetClock
) -> None:
    ask()
    clock.advance(HOUR)
    assert ask() == {"incarnation": 1}

    assert "refused" in ask()

    assert wiring.pushes.incarnation() == 1


def test_who_knows_that_the_last_push_is_old_says_so(wiring: Wiring) -> None:
    assert ask(force=True) == {"incarnation": 1}
    assert ask(force=True) == {"incarnation": 2}


def test_a_note_that_came_with_the_backup_counts_for_nothing(
    wiring: Wiring, clock: SetClock
) -> None:
    ask()
    clock.set(NOON + timedelta(days=1, seconds=1))

    with pytest.raises(TooEarlyError) as refused:
        begin_next_life(wiring.pushes, clock.now())

    assert refused.value.allowed_at == clock.now() + HOUR
