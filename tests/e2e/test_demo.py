"""The demo as a whole: it ends well on a sound system, and only on one."""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from local import demo
from local.access_log import generate_log
from local.stack import DEMO_TENANT, Stack
from local.stripe.control import StandIn
from metering.adapters.dynamodb.ledger_item import partition_key
from metering.config import Config
from metering.names import TenantId
from metering.wiring import Wiring

pytestmark = [pytest.mark.stack, pytest.mark.xdist_group("own-stacks")]

REQUESTS = 150
CUSTOMERS = 12


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Few customers, since each costs a few pushes and readings."""
    generated = generate_log(5)
    busiest = Counter(request.customer for request in generated).most_common(CUSTOMERS)
    chosen = [request for request in generated if request.customer in dict(busiest)][:REQUESTS]
    path = tmp_path / "access.jsonl"
    rows = (asdict(request) for request in chosen)
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


def test_the_demo_ends_well_when_every_number_agrees(
    log: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert demo.run(log) == 0

    said = " ".join(capsys.readouterr().out.split())  # as if lines were as long as need be
    assert f"{REQUESTS} requests" in said
    assert "42 sent twice counts as 42 (accepted, duplicate)" in said
    assert "the aggregator is killed" in said
    assert f"All agree to the last unit, for each of {CUSTOMERS} customers" in said
    assert f"closed, for {CUSTOMERS} customers" in said
    assert "Every invoice bills what the ledger says, to the last unit" in said
    assert "differ" not in said


def test_the_demo_ends_badly_when_the_ledger_or_stripe_is_off_by_one(
    log: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run_function: Callable[..., Any] = Stack.run

    def sabotage(stack: Stack, function: str, **payload: Any) -> Any:
        if function == "reconciler" and "customerRefs" not in payload:
            take_one_from_the_ledger(stack)
            add_one_at_stripe(stack)
        return run_function(stack, function, **payload)

    monkeypatch.setattr(Stack, "run", sabotage)

    assert demo.run(log) == 1

    said = capsys.readouterr().out
    assert said.count("differ (1 customers)") == 4, "one of each metric, and on an invoice, too"
    assert "All agree" not in said
    assert "Every invoice bills" not in said


def take_one_from_the_ledger(stack: Stack) -> None:
    """As if an accepted call had not lasted."""
    wiring = Wiring(Config(dynamodb_endpoint=stack.dynamodb_endpoint))
    entries = wiring.ledger.of_tenant(TenantId(DEMO_TENANT))
    event = next(entry.event for entry in entries if entry.event.metric == "api_calls")
    key = {"pk": {"S": partition_key(event.tenant, event.key)}}
    wiring.dynamodb.delete_item(TableName="events", Key=key)


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
