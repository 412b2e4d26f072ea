"""A function in a process of its own, as Lambda runs it, and what each invocation takes there.

`python -m local.bench.process writer` reads events from its standard input, one JSON a line, and
answers each with the line of an `Invocation`.
"""

import json
import logging
import os
import resource
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from infra.functions import FUNCTIONS, Function
from local.dynamodb_local import PROJECT, LocalServiceError
from local.environment import wiring_from_environment
from local.handlers import load
from metering.wiring import using


@dataclass(frozen=True, slots=True)
class Invocation:
    """What the handler answered, and what it took."""

    answer: Any
    cpu_s: float
    wall_s: float
    peak_mb: float
    """The most memory that the process has had so far."""


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
    with using(wiring_from_environment()):
        for line in sys.stdin:
            cpu, wall = time.process_time(), time.perf_counter()
            answer = loaded.invoke(json.loads(line))
            done = Invocation(
                answer, time.process_time() - cpu, time.perf_counter() - wall, _peak_mb()
            )
            print(json.dumps(asdict(done)), flush=True)


def _peak_mb() -> float:
    """Linux counts in KiB, macOS in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


if __name__ == "__main__":
    logging.basicConfig(level="ERROR")
    serve(sys.argv[1])
