"""The demo as a whole: it ends well on a sound system, and only on one."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from local import demo
from local.access_log import generate_log
from local.stack import DEMO_TENANT, Stack
from local.stripe.control import StandIn
from metering.config import Config
from metering.counter import Usage, tally_of
from metering.lane import Advance, Lane, position_of
from metering.wiring import Wiring
from tests.builders import an_entry
from tests.readers import lanes_of

pytestmark = [pytest.mark.stack, pytest.mark.xdist_group("own stacks")]

REQUESTS = 150


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "access.jsonl"
    rows = (asdict(request) for request in generate_log(5)[:REQUESTS])
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


def test_the_demo_ends_well_when_every_number_agrees(
    log: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert demo.run(log) == 0

    said = capsys.readouterr().out
    assert f"{REQUESTS} requests" in said
    assert "42 sent twice counts as 42 (accepted, duplicate)" in said
    assert "the aggregator is killed" in said
    assert "All agree to the last unit" in said
    assert "differ" not in said


def test_the_demo_ends_badly_when_a_counter_or_stripe_is_off_by_one(
    log: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run_function: Callable[..., Any] = Stack.run

    def sabotage(stack: Stack, function: str, **payload: Any) -> Any:
        if function == "reconciler":
            add_one_to_a_counter(stack)
            add_one_at_stripe(stack)
        return run_function(stack, function, **payload)

    monkeypatch.setattr(Stack, "run", sabotage)

    assert demo.run(log) == 1

    said = capsys.readouterr().out
    assert said.count("differ (1 customers)") == 2, "one of each metric"
    assert "All agree" not in said


def add_one_to_a_counter(stack: Stack) -> None:
    wiring = Wiring(Config(dynamodb_endpoint=stack.dynamodb_endpoint))
    key = next(
        stored.key
        for stored in lanes_of(wiring)
        if stored.key.counter.tenant == DEMO_TENANT and stored.key.counter.metric == "api_calls"
    )
    wrong = Lane(position_of("7"), Usage(tally_of(an_entry("1").event)))
    wiring.lanes.write([(key._replace(shard="nobody's"), Advance(Lane(), wrong))])


def add_one_at_stripe(stack: Stack) -> None:
    with StandIn(stack.stripe_url) as stand_in:
        customer = next(name for event, name in stand_in.totals() if event == "egress_bytes")
        stand_in.send_foreign_event("egress_bytes", customer, "1")
        stand_in.settle()


def test_a_log_that_is_none_ends_the_demo_with_what_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("hello there\n")

    assert demo.run(path) == 1
    assert "line 1 is neither JSON nor combined log format" in capsys.readouterr().out
