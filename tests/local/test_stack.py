"""The stack as a whole: what it takes to start, and that nothing of it is ever left."""

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest

from local.dynamodb_local import PROJECT, LocalServiceError
from local.ports import LOOPBACK, free_port
from local.seed import seed
from local.stack import DEMO_CUSTOMER, Stack, running_stack
from local.stripe.control import StandIn
from local.stripe.state import DEFAULT_ACCOUNT, EVENT_DESTINATION, WEBHOOK_ENDPOINT
from metering.adapters.clock import SystemClock
from metering.times import to_text
from tests.local.helpers import an_event, wait_for

NOW = to_text(SystemClock().now())
WEBHOOKS = (WEBHOOK_ENDPOINT, EVENT_DESTINATION)


def children() -> set[int]:
    return {child.pid for child in psutil.Process().children(recursive=True)}


def runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:  # It may end between any two questions.
        return False


def gone(pids: set[int]) -> bool:
    return not any(runs(pid) for pid in pids)


def not_deleted(objects: list[dict[str, Any]]) -> list[str]:
    return [one["id"] for one in objects if not one.get("deleted")]


def ingest(stack: Stack) -> Any:
    body = json.loads(an_event("http-ingest")["body"])
    for event in body["events"]:
        event["ts"] = NOW
    request = urllib.request.Request(
        f"{stack.api_url}/v1/events/ingest",
        json.dumps(body).encode(),
        {"content-type": "application/json"},
    )
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


@pytest.mark.stack
def test_a_stack_counts_what_is_sent_keeps_it_on_disk_and_leaves_no_process(data: Path) -> None:
    before = children()
    with running_stack(free_ports=True, data=data, virtual_shards=2) as stack:
        assert stack.unreadiness() is None
        started = children() - before
        prices = seed(stack.api_url, stack.stripe_url)
        first = ingest(stack)
        stack.drain()
        stack.run("writer")
        moved_to = stack.advance(timedelta(hours=1))
        counted = stack.status()["streams"]["aggregator"]["shards"]
        with (
            pytest.raises(LocalServiceError, match=f"another stack uses {data}"),
            running_stack(free_ports=True, data=data),
        ):
            pass
    assert (first["accepted"], first["duplicates"]) == (2, 0)
    assert sum(shard["records"] for shard in counted.values()) == 2
    assert len(started) >= 5, "four services and the guard"
    assert gone(started)

    with running_stack(free_ports=True, data=data, virtual_shards=2) as stack:
        assert seed(stack.api_url, stack.stripe_url) == prices
        again = ingest(stack)
        stack.drain()
        delivered = stack.status()["streams"]["aggregator"]["shards"]
        stack.run("writer")
        with StandIn(stack.stripe_url) as stripe:
            told = {metric: stripe.total(metric, DEMO_CUSTOMER) for metric in prices}
            objects = stripe.state()["accounts"][DEFAULT_ACCOUNT]["objects"]
            ahead = stripe.ahead()
        now = stack.now()
    assert (again["accepted"], again["duplicates"]) == (0, 2)
    assert sum(shard["records"] for shard in delivered.values()) == 0
    assert [len(not_deleted(objects[kind])) for kind in WEBHOOKS] == [1, 1]
    assert (ahead, now > moved_to) == (timedelta(hours=1), True), "time goes on where it was"
    assert told == {"api_calls": 1, "egress_bytes": 10485}, "10485.76, in whole units"
    assert not children() - before


@pytest.mark.stack
def test_a_start_that_fails_half_way_says_why_and_leaves_no_process(data: Path) -> None:
    before = children()
    checkpoints = data / "checkpoints" / "aggregator.json"
    checkpoints.parent.mkdir(parents=True)
    checkpoints.write_text("{")

    with (
        pytest.raises(LocalServiceError, match="start with an empty data folder"),
        running_stack(free_ports=True, data=data),
    ):
        pass

    assert not children() - before


@pytest.mark.stack
def test_nothing_is_left_when_the_parent_is_killed_hard() -> None:
    program = (
        "import time\n"
        "from local.stack import running_stack\n"
        "with running_stack(free_ports=True) as stack:\n"
        "    print(*[p.pid for p in stack.processes().values()], flush=True)\n"
        "    time.sleep(600)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", program], cwd=PROJECT, stdout=subprocess.PIPE, text=True
    )
    with parent:
        assert parent.stdout
        pids = {int(pid) for pid in parent.stdout.readline().split()}
        pids |= {child.pid for child in psutil.Process(parent.pid).children(recursive=True)}
        os.kill(parent.pid, signal.SIGKILL)

    assert len(pids) >= 5
    wait_for(lambda: gone(pids), within_s=15)


@pytest.mark.stack
def test_dev_prints_one_box_and_stops_cleanly_on_ctrl_c() -> None:
    dev = subprocess.Popen(
        [sys.executable, "-m", "local", "dev", "--free-ports"],
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        text=True,
    )
    with dev:
        assert dev.stdout
        printed = []
        for line in dev.stdout:
            printed.append(line)
            if "idempotencyKey" in line:
                break
        pids = {child.pid for child in psutil.Process(dev.pid).children(recursive=True)}
        dev.send_signal(signal.SIGINT)
        printed += dev.stdout
    box = "".join(printed)

    assert dev.returncode == 0
    assert box.count("local only, not for production") == 1
    assert "\x1b" not in box, "no colour where there is no terminal"
    assert box.endswith("stopped\n")
    assert len(pids) >= 5
    assert gone(pids)


@pytest.mark.stack
def test_dev_ended_in_the_middle_of_its_start_leaves_no_process() -> None:
    command = [sys.executable, "-m", "local", "dev", "--free-ports"]
    with subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True) as dev:
        watched = psutil.Process(dev.pid)
        wait_for(lambda: len(watched.children()) >= 4)
        pids = {child.pid for child in watched.children(recursive=True)}
        dev.send_signal(signal.SIGTERM)
        assert dev.stdout
        assert dev.stdout.read() == "stopped\n"

    assert dev.returncode == 0
    assert gone(pids)


def test_a_taken_port_is_refused_and_the_message_names_its_holder_and_the_way_out() -> None:
    with socket.socket() as taken:
        taken.bind((LOOPBACK, 0))
        taken.listen()
        port = taken.getsockname()[1]
        with (
            pytest.raises(LocalServiceError) as refused,
            running_stack(api_port=port, stripe_port=free_port()),
        ):
            pass

    message = str(refused.value)
    assert f"port {port} is taken by " in message
    assert f"(pid {os.getpid()})" in message
    assert "--free-ports" in message


def test_the_help_is_there_in_no_time_and_without_colour() -> None:
    command = [sys.executable, "-X", "importtime", "-m", "local", "--help"]
    run = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True)

    assert "dev" in run.stdout
    assert "\x1b" not in run.stdout
    imported = {line.rpartition("|")[2].strip() for line in run.stderr.splitlines()}
    assert not imported & {"boto3", "stripe", "uvicorn", "local.stack", "rich"}
