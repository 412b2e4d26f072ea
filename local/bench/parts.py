"""Which parts there are to measure, and running them one after the other."""

import os
import platform
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum

import psutil

from local import dynamodb_local
from local.bench import aggregator, arrival, ingest, reconciler, whole_stack, writer
from local.bench.measure import Size, console


class Part(StrEnum):
    """What can be measured alone."""

    INGEST = "ingest"
    AGGREGATOR = "aggregator"
    STACK = "stack"
    WRITER = "writer"
    RECONCILER = "reconciler"
    ARRIVAL = "arrival"
    STRIPE = "stripe"
    """The three before it: all that has to do with Stripe."""


_MEASURED: Mapping[Part, Callable[[Size], None]] = {
    Part.INGEST: ingest.measure,
    Part.AGGREGATOR: aggregator.measure,
    Part.STACK: whole_stack.measure,
    Part.WRITER: writer.measure,
    Part.RECONCILER: reconciler.measure,
    Part.ARRIVAL: arrival.measure,
}
_GROUPS: Mapping[Part, Sequence[Part]] = {
    Part.STRIPE: (Part.WRITER, Part.RECONCILER, Part.ARRIVAL),
}


def run(only: Sequence[Part] = (), *, quick: bool = False) -> int:
    """Measure the wanted parts, or everything; the process's exit code."""
    os.environ.setdefault("AWS_DEFAULT_REGION", dynamodb_local.REGION)
    for name, value in dynamodb_local.CREDENTIALS.items():
        os.environ.setdefault(name.upper(), value)
    wanted = {one for part in only for one in _GROUPS.get(part, (part,))} or set(_MEASURED)
    size = Size.QUICK if quick else Size.FULL
    _machine(size)
    for part, measure in _MEASURED.items():
        if part in wanted:
            measure(size)
    console.print(f"load {os.getloadavg()[0]:.1f} at the end", highlight=False)
    return 0


def _machine(size: Size) -> None:
    memory_gb = psutil.virtual_memory().total / 2**30
    console.print(
        f"{platform.machine()}, {os.cpu_count()} cores, {memory_gb:.0f} GiB; Python"
        f" {platform.python_version()}; load {os.getloadavg()[0]:.1f} before the start",
        highlight=False,
    )
    if size is Size.QUICK:
        console.print(
            "[yellow]a small part of everything: to see that it runs, not to quote[/yellow]"
        )
