"""What the whole local stack takes over HTTP, and the memory of its processes."""

import json
import subprocess
import sys
import time

from local import dynamodb_local
from local.bench.measure import Size, console, cpu_of, results
from local.load import LoadReport
from local.stack import Stack, running_stack

LOAD_S = 10.0
MEMORY_EVENTS = 100_000
FILL_S, FILLS_MAX = 20.0, 15


def measure(size: Size) -> None:
    """Three kinds of load, then memory with many events stored."""
    with running_stack(free_ports=True) as stack:
        _measure_load(stack, LOAD_S / size.value)
        _measure_memory(stack, size)


def _measure_load(stack: Stack, seconds: float) -> None:
    table = results(
        f"whole stack over HTTP, {seconds:.1f} s each",
        "load",
        "requests/s",
        "events/s",
        "ms",
        "CPU",
    )
    for connections, batch in ((10, 1), (100, 1), (10, 100)):
        before = _cpu_by_process(stack)
        report = _load(stack, connections, batch, seconds)
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


def _load(stack: Stack, connections: int, batch: int, seconds: float) -> LoadReport:
    port = stack.api_url.rpartition(":")[2]
    flags = {"port": port, "connections": connections, "batch": batch, "seconds": seconds}
    flags["run"] = f"{time.time_ns()}"
    command = [sys.executable, "-m", "local.load"]
    command += [f"--{name}={value}" for name, value in flags.items()]
    done = subprocess.run(command, capture_output=True, check=True, text=True)
    return LoadReport(**json.loads(done.stdout))


def _cpu_by_process(stack: Stack) -> dict[str, float]:
    return {name: cpu_of(process) for name, process in stack.processes().items()}


def _spent(before: dict[str, float], after: dict[str, float], seconds: float) -> str:
    """Each process's share of one core."""
    shares = {name: (after[name] - before[name]) / seconds for name in after}
    return "  ".join(f"{name} {share:.0%}" for name, share in shares.items() if share >= 0.01)  # noqa: PLR2004


def _measure_memory(stack: Stack, size: Size) -> None:
    for _ in range(FILLS_MAX):
        if _ledger_size(stack) >= size.of(MEMORY_EVENTS):
            break
        _load(stack, 10, 100, FILL_S / size.value)
    stack.drain(timeout_s=300)
    sizes = {name: process.memory_info().rss / 2**20 for name, process in stack.processes().items()}
    table = results(
        f"memory with {_ledger_size(stack):,} events (target: runner 300 MB)", "process", "MB"
    )
    for name, mb in sizes.items():
        table.add_row(name, f"{mb:,.0f}")
    table.add_row("all", f"{sum(sizes.values()):,.0f}")
    console.print(table)


def _ledger_size(stack: Stack) -> int:
    client = dynamodb_local.client(stack.dynamodb_endpoint)
    pages = client.get_paginator("scan").paginate(TableName="events", Select="COUNT")
    return sum(page["Count"] for page in pages)
