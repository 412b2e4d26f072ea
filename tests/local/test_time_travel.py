"""Moving the local stack's time: the functions' and the stand-in's are one."""

import json
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from local.control import Control
from local.stripe import server
from local.stripe.clock import SettableClock
from local.stripe.control import StandIn
from local.time_travel import TimeTravel

MACHINE = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


@pytest.fixture
def stand_in() -> Iterator[StandIn]:
    with server.running(clock=lambda: MACHINE) as stand_in:
        yield stand_in


@pytest.fixture
def clock() -> SettableClock:
    """The functions'."""
    return SettableClock(lambda: MACHINE)


def control(
    clock: SettableClock, stripe_url: str, *held: AbstractContextManager[object]
) -> Control:
    return Control(TimeTravel(clock, stripe_url, lambda: held))


def moved(control: Control, **body: object) -> tuple[int, dict[str, Any]]:
    answer = control("POST", "/_local/time", json.dumps(body).encode())
    return answer.status, json.loads(answer.body)


def test_functions_and_stripe_are_moved_by_the_same_step(
    clock: SettableClock, stand_in: StandIn
) -> None:
    status, said = moved(control(clock, stand_in.url), advance_s=5400.5)

    assert (status, said) == (200, {"now": "2026-11-20T13:30:00.500000+00:00", "ahead_s": 5400.5})
    assert clock.now() == stand_in.now() == MACHINE + timedelta(seconds=5400.5)
    assert stand_in.ahead() == timedelta(seconds=5400.5)


def test_time_moves_to_a_named_instant_and_then_no_further_back(
    clock: SettableClock, stand_in: StandIn
) -> None:
    traveller = control(clock, stand_in.url)

    there = moved(traveller, until="2026-12-01T00:00:05Z")
    back = moved(traveller, until="2026-11-30T00:00:00Z")

    assert there[1]["now"] == "2026-12-01T00:00:05+00:00"
    assert back == (
        400,
        {
            "error": "Bad Request",
            "message": "time moves only forward, and it is 2026-12-01T00:00:05Z",
        },
    )
    assert clock.now() == stand_in.now() == datetime(2026, 12, 1, 0, 0, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"advance_s": -1}, "time moves only forward"),
        ({}, "give either advance_s, in seconds, or until, an instant"),
        ({"advance_s": 1, "until": "2026-12-01T00:00:00Z"}, "give either"),
        ({"until": "2026-12-01T00:00:00"}, "until needs an offset"),
        ({"until": "tomorrow"}, "Invalid isoformat"),
        ({"advance_s": "1"}, "advance_s is a number of seconds"),
        ({"advance_s": True}, "advance_s is a number of seconds"),
        ({"advance_s": float("nan")}, "move at most 400 days"),
        ({"advance_s": 1e12}, "move at most 400 days"),
        ({"until": "9999-01-01T00:00:00Z"}, "move at most 400 days"),
        ({"days": 1}, "unexpected keyword argument 'days'"),
    ],
)
def test_a_move_that_leads_nowhere_is_refused_and_moves_nothing(
    clock: SettableClock, stand_in: StandIn, body: dict[str, object], says: str
) -> None:
    status, said = moved(control(clock, stand_in.url), **body)

    assert status == 400
    assert says in said["message"]
    assert clock.now() == stand_in.now() == MACHINE


def test_where_stripe_cannot_be_moved_the_functions_stay_too(clock: SettableClock) -> None:
    status, said = moved(control(clock, "http://127.0.0.1:1"), advance_s=60)

    assert (status, said["error"]) == (500, "ConnectError")
    assert clock.now() == MACHINE


def test_a_run_under_way_ends_in_the_time_in_which_it_began(
    clock: SettableClock, stand_in: StandIn
) -> None:
    running = threading.Lock()
    traveller = control(clock, stand_in.url, running)

    with running:
        mover = threading.Thread(target=moved, args=(traveller,), kwargs={"advance_s": 60})
        mover.start()
        mover.join(0.2)
        assert mover.is_alive()
        assert clock.now() == stand_in.now() == MACHINE
    mover.join(10)

    assert clock.now() == stand_in.now() == MACHINE + timedelta(seconds=60)
