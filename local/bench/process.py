"""A function in a process of its own, as Lambda runs it, and what each invocation takes there.

`python -m local.bench.process writer` reads events from its standard input, one JSON a line, and
answers each with the line of an `Invocation`. With `COUNT_UNITS=on` in its environment it counts
what the handler takes of DynamoDB and says to its log, too.
"""

import io
import json
import logging
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from infra.functions import FUNCTIONS, Function
from local.bench.units import UnitMeter
from local.dynamodb_local import PROJECT, LocalServiceError
from local.environment import wiring_from_environment
from local.handlers import Loaded, load
from metering.wiring import Wiring, using


@dataclass(frozen=True, slots=True)
class Invocation:
    """What the handler answered, and what it took."""

    answer: Any
    cpu_s: float
    wall_s: float
    peak_mb: float
    """The most memory that the process has had so far."""
    read_units: dict[str, float] = field(default_factory=dict)
    """By table; empty unless units are counted, as are the next two."""
    write_units: dict[str, int] = field(default_factory=dict)
    items_written: dict[str, int] = field(default_factory=dict)
    log_bytes: int = 0
    """What went to standard output and, as JSON lines, to the log."""


class FunctionProcess:
    """An execution environment of a function, cold until its first event; `end` it."""

    def __init__(self, function: Function, environment: Mapping[str, str]) -> None:
        self._name = function.name
        self._process = subprocess.Popen(
            [sys.executable, "-m", "local.bench.process", function.name],
            cwd=PROJECT,
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def end(self) -> None:
        """Kill it, whatever it does."""
        self._process.kill()
        self._process.communicate()

    def invoke(self, event: Mapping[str, Any]) -> Invocation:
        """Have the handler take an event.

        Raises:
            LocalServiceError: it raised something; its traceback is on the terminal.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(event) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise LocalServiceError(f"{self._name} failed at {event}; see above")
        return Invocation(**json.loads(line))


def serve(name: str) -> None:
    """Be the function's process until the input ends."""
    loaded = load(next(one for one in FUNCTIONS if one.name == name))
    assert loaded is not None, f"{name} cannot be imported"
    with using(wiring_from_environment()) as wiring:
        invoke = _counted(wiring) if os.environ.get("COUNT_UNITS") == "on" else _timed
        for line in sys.stdin:
            done = invoke(loaded, json.loads(line))
            print(json.dumps(asdict(done)), flush=True)


def _timed(loaded: Loaded, event: dict[str, Any]) -> Invocation:
    cpu, wall = time.process_time(), time.perf_counter()
    answer = loaded.invoke(event)
    return Invocation(answer, time.process_time() - cpu, time.perf_counter() - wall, _peak_mb())


def _counted(wiring: Wiring) -> Callable[[Loaded, dict[str, Any]], Invocation]:
    """Like `_timed`, with all that is counted; the CPU is the handler's without the counting's."""
    meter = UnitMeter(wiring.dynamodb, event_index=wiring.config.event_index)
    for shown in logging.root.handlers:
        shown.setLevel(logging.ERROR)
    log = _LogBytes(logging.INFO)
    logging.root.addHandler(log)
    logging.root.setLevel(logging.INFO)

    def invoke(loaded: Loaded, event: dict[str, Any]) -> Invocation:
        meter.reset()
        log.bytes = 0
        with redirect_stdout(io.StringIO()) as said:
            done = _timed(loaded, event)
        return replace(
            done,
            cpu_s=done.cpu_s - meter.spent_s,
            read_units={table: units / 1000 for table, units in meter.read.items()},
            write_units=dict(meter.written),
            items_written=dict(meter.items),
            log_bytes=log.bytes + len(said.getvalue().encode()),
        )

    return invoke


class _LogBytes(logging.Handler):
    """How long the lines are that Lambda would write, in its JSON format."""

    bytes = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Count a line and its end."""
        line = {
            "timestamp": "2026-11-21T00:00:00Z",
            "level": record.levelname,
            "message": record.getMessage(),
            "logger": record.name,
            "requestId": "00000000-0000-0000-0000-000000000000",
        }
        self.bytes += len(json.dumps(line).encode()) + 1


def _peak_mb() -> float:
    """Linux counts in KiB, macOS in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


if __name__ == "__main__":
    logging.basicConfig(level="ERROR")
    serve(sys.argv[1])
