"""`make bench`: what ingest, aggregator and the whole local stack cost, and where time goes.

CPU figures are process time, which other load changes little; wall-clock figures are of the
machine as it is now.
"""

import json
import os
import platform
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from itertools import batched
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from local import dynamodb_local
from local.load import LoadReport
from local.ports import free_port
from local.stack import Stack, running_stack
from metering.config import Config
from metering.wiring import Wiring, using

REQUESTS = 200
SINGLES = 1_000
AGGREGATED = 40_000
SMALL_BATCHES = 6_000
COUNTERS = 25
LATE_EVENTS, LATE_COUNTERS = 10_000, 1_000
AGGREGATOR_BATCH = 7_000
"""Records of 850 bytes that fit in the 6 MB of one invocation."""
LOAD_S = 10.0
MEMORY_EVENTS = 100_000
FILL_S, FILLS_MAX = 20.0, 15
NO_HEADERS: dict[str, str] = {}

console = Console()


def run() -> int:
    """Measure everything; the process's exit code."""
    for name, value in (("KEY_ID", "local"), ("SECRET_ACCESS_KEY", "local")):
        os.environ.setdefault(f"AWS_{name}".replace("KEY_ID", "ACCESS_KEY_ID"), value)
    os.environ.setdefault("AWS_DEFAULT_REGION", dynamodb_local.REGION)
    _machine()
    table = _table("in one process, over DynamoDB Local", "figure", "measured", "target")
    for event_index in (False, True):
        with _deployment(event_index=event_index) as wiring:
            _bench_ingest(table, wiring, event_index=event_index)
    with _deployment(event_index=False) as wiring:
        _bench_aggregator(table, wiring)
    with _deployment(event_index=False):
        _bench_late(table)
    console.print(table)
    with running_stack(free_ports=True) as stack:
        _bench_stack(stack)
    return 0


def _machine() -> None:
    memory_gb = psutil.virtual_memory().total / 2**30
    console.print(
        f"{platform.machine()}, {os.cpu_count()} cores, {memory_gb:.0f} GiB; Python"
        f" {platform.python_version()}; load {os.getloadavg()[0]:.1f} before the start",
        highlight=False,
    )


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title)
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number == 0 else "right")
    return table


@contextmanager
def _deployment(*, event_index: bool) -> Iterator[Wiring]:
    """Fresh tables in a DynamoDB Local of their own, with API keys required."""
    port = free_port()
    process = dynamodb_local.start(port)
    try:
        endpoint = dynamodb_local.endpoint(port)
        dynamodb_local.create_tables(dynamodb_local.client(endpoint), event_index=event_index)
        environment = {"DYNAMODB_ENDPOINT": endpoint, "EVENT_INDEX": "on" if event_index else "off"}
        config = Config.from_environment(environment)
        with using(Wiring(config)) as wiring:
            yield wiring
    finally:
        process.kill()
        process.wait()


def _cpu_and_wall(action: Callable[[], None]) -> tuple[float, float]:
    """CPU seconds of this process, and wall seconds."""
    cpu, wall = time.process_time(), time.perf_counter()
    action()
    return time.process_time() - cpu, time.perf_counter() - wall


# --- ingest ---------------------------------------------------------------------------------------


def _bench_ingest(table: Table, wiring: Wiring, *, event_index: bool) -> None:
    from functions.ingest.handler import handler  # noqa: PLC0415 (after the wiring)
    from metering.auth import Scope  # noqa: PLC0415
    from metering.names import TenantId  # noqa: PLC0415

    key = wiring.key_issuer.create_key(TenantId("bench"), [Scope.EVENTS_WRITE]).text

    def send(requests: Sequence[dict[str, Any]]) -> None:
        for request in requests:
            answer = handler(request, None)
            assert answer["statusCode"] == 200, answer  # noqa: PLR2004

    index = "with" if event_index else "without"
    for batch, number, target in ((100, REQUESTS, 0.12), (1, SINGLES, 1.2)):
        requests = [_ingest_request(key, batch) for _ in range(number + 30)]
        send(requests[:30])
        cpu, wall = _cpu_and_wall(lambda rest=requests[30:]: send(rest))  # type: ignore[misc]
        events = number * batch
        table.add_row(
            f"ingest, {batch} a request, {index} event index: CPU per event",
            f"{cpu / events * 1000:.3f} ms (wall {wall / events * 1000:.3f})",
            f"{target} ms",
        )


_numbers = iter(range(10**9))


def _ingest_request(key: str, batch: int) -> dict[str, Any]:
    events = [_sent_event(next(_numbers)) for _ in range(batch)]
    return {
        "headers": {"authorization": f"Bearer {key}", "content-type": "application/json"},
        "queryStringParameters": {},
        "requestContext": {"requestId": "bench", "http": {"method": "POST"}},
        "body": json.dumps({"events": events}),
        "isBase64Encoded": False,
    }


def _sent_event(number: int) -> dict[str, Any]:
    return {
        "tenantId": "bench",
        "metric": "api_calls",
        "customerRef": f"cus_{number % 50}",
        "resourceId": "region-1",
        "quantity": 1.5,
        "ts": datetime.now(UTC).isoformat(),  # noqa: TID251 (a client's clock)
        "idempotencyKey": f"bench-{number}",
        "source": "sdk",
    }


# --- aggregator -----------------------------------------------------------------------------------


def _bench_aggregator(table: Table, wiring: Wiring) -> None:
    customers = _skewed(AGGREGATED + SMALL_BATCHES)
    entries = [_stream_record(number, customers[number]) for number in range(AGGREGATED)]
    cpu, wall = _cpu_and_wall(lambda: _fold(entries, 500))
    table.add_row(
        f"aggregator, batches of 500 over {COUNTERS} counters",
        f"{AGGREGATED / cpu:,.0f} events/s of CPU ({AGGREGATED / wall:,.0f} wall)",
        "10,000",
    )
    with _counted_writes(wiring) as written:
        small = [
            _stream_record(AGGREGATED + number, customers[AGGREGATED + number])
            for number in range(SMALL_BATCHES)
        ]
        _fold(small, 60)
    units = _units_of_a_lane(wiring)
    table.add_row(
        f"aggregator, batches of 60 over {COUNTERS} counters: write units per event",
        f"{written['lanes'] * units / len(small):.3f} lanes"
        f" + {written['others'] / len(small):.4f} marks and directory",
        "0.25",
    )


def _skewed(number: int) -> list[int]:
    """Customers with the skew of real traffic: the first has 35 %, five have 78 %, ten 90 %."""
    shares = [0.35, *[0.43 / 4] * 4, *[0.12 / 5] * 5, *[0.10 / 15] * 15]
    return random.Random(1).choices(range(COUNTERS), shares, k=number)  # noqa: S311 (no secret)


def _fold(records: Sequence[dict[str, Any]], size: int, shard: str = "shardId-1") -> None:
    from functions.aggregator.handler import handler  # noqa: PLC0415

    for batch in batched(records, size, strict=False):
        answer = handler(
            {"Records": list(batch), "shardId": shard, "eventSourceARN": "arn:bench"}, None
        )
        assert not answer["batchItemFailures"], answer


def _stream_record(number: int, customer: int, *, is_late: bool = False) -> dict[str, Any]:
    at = datetime.now(UTC).isoformat(timespec="microseconds")[:-6] + "Z"  # noqa: TID251
    image = {
        "pk": {"S": f"5:bench{number}"},
        "t": {"S": "bench"},
        "k": {"S": f"bench-{number}"},
        "m": {"S": "api_calls"},
        "c": {"S": f"cus_{customer}"},
        "q": {"N": "1.5"},
        "ts": {"S": at},
        "ra": {"S": at},
        "src": {"S": "sdk"},
        "h": {"B": "AAAAAAAAAAAAAAAAAAAAAA=="},
    } | ({"late": {"BOOL": True}} if is_late else {})
    change = {"SequenceNumber": f"{number + 1:021}", "NewImage": image}
    return {"eventName": "INSERT", "dynamodb": change}


@contextmanager
def _counted_writes(wiring: Wiring) -> Iterator[dict[str, int]]:
    """Count the counters table's write statements: lanes, and all others."""
    written = {"lanes": 0, "others": 0}

    def count(params: Any, **_: object) -> None:
        for statement in json.loads(params["body"])["Statements"]:
            is_lane = "'h':" in statement["Statement"] or "SET h" in statement["Statement"]
            written["lanes" if is_lane else "others"] += 1

    event = "before-call.dynamodb.BatchExecuteStatement"
    wiring.dynamodb.meta.events.register_last(event, count)
    try:
        yield written
    finally:
        wiring.dynamodb.meta.events.unregister(event, count)


def _units_of_a_lane(wiring: Wiring) -> Decimal:
    """Write units of one lane, by ReturnConsumedCapacity of the same item put once more.

    DynamoDB Local tells no capacity for PartiQL statements, so a lane is written back by PutItem.
    """
    table = wiring.table("counters")
    items = wiring.dynamodb.scan(TableName=table, FilterExpression="attribute_exists(h)")["Items"]
    answers = [
        wiring.dynamodb.put_item(TableName=table, Item=item, ReturnConsumedCapacity="TOTAL")
        for item in items
    ]
    units = [Decimal(str(answer["ConsumedCapacity"]["CapacityUnits"])) for answer in answers]
    return sum(units, Decimal(0)) / len(units)


def _bench_late(table: Table) -> None:
    late = [_stream_record(number, number % LATE_COUNTERS) for number in range(LATE_EVENTS)]
    _, first = _cpu_and_wall(lambda: _fold(late, AGGREGATOR_BATCH))
    again = [
        _stream_record(number + LATE_EVENTS, number % LATE_COUNTERS, is_late=True)
        for number in range(LATE_EVENTS)
    ]
    _, second = _cpu_and_wall(lambda: _fold(again, AGGREGATOR_BATCH))
    table.add_row(
        f"{LATE_EVENTS:,} late events over {LATE_COUNTERS:,} counters, wall",
        f"{second:.2f} s ({first:.2f} s where the counters are new)",
        "2 s",
    )


# --- the whole stack ------------------------------------------------------------------------------


def _bench_stack(stack: Stack) -> None:
    table = _table(
        f"whole stack over HTTP, {LOAD_S:.0f} s each", "load", "requests/s", "events/s", "ms", "CPU"
    )
    for connections, batch in ((10, 1), (100, 1), (10, 100)):
        before = _cpu_by_process(stack)
        report = _load(stack, connections, batch, LOAD_S)
        spent = _spent(before, _cpu_by_process(stack), report.seconds)
        table.add_row(
            f"{connections} connections, {batch} a request",
            f"{report.requests_per_s:,.0f}",
            f"{report.events_per_s:,.0f}",
            f"p50 {report.p50_ms:.0f}  p95 {report.p95_ms:.0f}  p99 {report.p99_ms:.0f}",
            spent,
        )
        if report.failed:
            console.print(f"[red]{report.failed} requests failed[/red]")
    stack.drain(timeout_s=300)
    console.print(table)
    _show_memory(stack)


def _load(stack: Stack, connections: int, batch: int, seconds: float) -> LoadReport:
    port = stack.api_url.rpartition(":")[2]
    flags = {"port": port, "connections": connections, "batch": batch, "seconds": seconds}
    flags["run"] = f"{time.time_ns()}"
    command = [sys.executable, "-m", "local.load"]
    command += [f"--{name}={value}" for name, value in flags.items()]
    done = subprocess.run(command, capture_output=True, check=True, text=True)
    return LoadReport(**json.loads(done.stdout))


def _cpu_by_process(stack: Stack) -> dict[str, float]:
    usage = {}
    for name, process in stack.processes().items():
        times = process.cpu_times()
        usage[name] = times.user + times.system
    return usage


def _spent(before: dict[str, float], after: dict[str, float], seconds: float) -> str:
    """Each process's share of one core."""
    shares = {name: (after[name] - before[name]) / seconds for name in after}
    return "  ".join(f"{name} {share:.0%}" for name, share in shares.items() if share >= 0.01)  # noqa: PLR2004


def _show_memory(stack: Stack) -> None:
    for _ in range(FILLS_MAX):
        if _ledger_size(stack) >= MEMORY_EVENTS:
            break
        _load(stack, 10, 100, FILL_S)
    stack.drain(timeout_s=300)
    sizes = {name: process.memory_info().rss / 2**20 for name, process in stack.processes().items()}
    table = _table(
        f"memory with {_ledger_size(stack):,} events (target: runner 300 MB)", "process", "MB"
    )
    for name, size in sizes.items():
        table.add_row(name, f"{size:,.0f}")
    table.add_row("all", f"{sum(sizes.values()):,.0f}")
    console.print(table)


def _ledger_size(stack: Stack) -> int:
    client = dynamodb_local.client(stack.dynamodb_endpoint)
    pages = client.get_paginator("scan").paginate(TableName="events", Select="COUNT")
    return sum(page["Count"] for page in pages)
