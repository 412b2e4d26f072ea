import threading
from typing import Any

import pytest

from infra.functions import WRITER
from local.environment import Environment
from local.handlers import Loaded
from local.schedules import RunKilledError, Scheduled
from metering.wiring import Wiring, current
from tests.local.helpers import an_event, wait_for


def scheduled(handler: Any, *, every_s: float = 3600) -> Scheduled:
    return Scheduled(WRITER, lambda: Environment(Loaded(WRITER, handler)), every_s=every_s)


def test_a_run_now_carries_the_schedulers_event_and_the_payload_and_answers_the_result() -> None:
    def handler(event: Any, context: Any) -> Any:
        return {"event": event, "function": context.function_name}

    answer = scheduled(handler).run_now({"tenantId": "demo"})

    assert answer["event"].keys() == an_event("schedule").keys() | {"tenantId"}
    assert answer["event"]["source"] == "aws.scheduler"
    assert answer["event"]["resources"][0].endswith("schedule/default/writer")
    assert answer["function"] == "writer"


def test_failures_are_counted_and_the_next_run_comes_all_the_same() -> None:
    def handler(event: Any, context: Any) -> Any:
        raise RuntimeError("Stripe is down")

    writer = scheduled(handler, every_s=0.01)
    writer.start()
    wait_for(lambda: writer.tally.failures >= 3)
    writer.stop()

    assert writer.tally.failures == writer.tally.runs
    assert "Stripe is down" in writer.status()["last_error"]


def test_a_slow_function_never_overlaps_itself_unless_asked_to() -> None:
    slow_runs, release, next_runs = threading.Event(), threading.Event(), threading.Event()

    def handler(event: Any, context: Any) -> Any:
        if event["who"] == "slow":
            slow_runs.set()
            release.wait(10)
        if event["who"] == "next":
            next_runs.set()
        ended.append(event["who"])

    ended: list[str] = []
    writer = scheduled(handler)
    threads = [
        threading.Thread(target=writer.run_now, args=({"who": who},)) for who in ("slow", "next")
    ]
    threads[0].start()
    assert slow_runs.wait(10)
    threads[1].start()
    assert not next_runs.wait(0.2)
    writer.run_now({"who": "overlapping"}, overlapping=True)
    release.set()
    for thread in threads:
        thread.join(10)

    assert ended == ["overlapping", "slow", "next"]


def test_a_killed_run_is_told_apart_and_the_next_starts_cold(wiring: Wiring) -> None:
    table = wiring.config.table_prefix + "settings"
    seen: list[Wiring] = []

    def handler(event: Any, context: Any) -> Any:
        seen.append(current())
        current().dynamodb.describe_table(TableName=table)
        return "done"

    def environment() -> Environment:
        return Environment(Loaded(WRITER, handler), lambda: Wiring(wiring.config))

    writer = Scheduled(WRITER, environment)
    writer.chaos.kill(1)

    with pytest.raises(RunKilledError, match="killed at DynamoDB call 1"):
        writer.run_now({})
    assert writer.run_now({}) == "done"
    assert seen[0] is not seen[1]
    assert writer.tally.failures == 1
