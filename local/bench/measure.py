"""What every part of the benchmark uses: a deployment to measure in, clocks, tables to print."""

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import NamedTuple

import psutil
from rich.console import Console
from rich.table import Table

from local import dynamodb_local
from local.children import Children
from local.dynamodb_local import LocalServiceError
from local.ports import free_port, wait_until_listening
from metering.config import Config
from metering.wiring import Wiring, using

console = Console()


class Size(Enum):
    """How much is measured: all of it, or one part in so many."""

    FULL = 1
    QUICK = 25

    def of(self, full: int) -> int:
        """How much that is of something."""
        return max(full // self.value, 1)


class Deployment(NamedTuple):
    """Fresh tables in a DynamoDB Local of their own."""

    wiring: Wiring
    environment: dict[str, str]
    """What a function's process is told of it."""
    dynamodb: psutil.Process


@contextmanager
def deployment(**environment: str) -> Iterator[Deployment]:
    """A deployment with some settings; every handler of this process finds it meanwhile.

    Raises:
        LocalServiceError: DynamoDB Local did not come up.
    """
    port = free_port()
    endpoint = dynamodb_local.endpoint(port)
    environment = {"DYNAMODB_ENDPOINT": endpoint, **environment}
    config = Config.from_environment(environment)
    with tempfile.TemporaryDirectory() as logs, Children(Path(logs)) as children:
        child = children.start("dynamodb", dynamodb_local.command(port))
        if not wait_until_listening(port, within_s=dynamodb_local.START_WITHIN_S):
            raise LocalServiceError(f"DynamoDB Local did not come up: {child.last_words()}")
        client = dynamodb_local.client(endpoint)
        dynamodb_local.create_tables(client, event_index=config.event_index)
        with using(Wiring(config)) as wiring:
            yield Deployment(wiring, environment, children.processes()[child.name])


def results(title: str, *columns: str) -> Table:
    """A table of figures, the first column telling what they are of."""
    table = Table(title=title)
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number == 0 else "right")
    return table


def cpu_and_wall(action: Callable[[], None]) -> tuple[float, float]:
    """CPU seconds of this process, and wall seconds."""
    cpu, wall = time.process_time(), time.perf_counter()
    action()
    return time.process_time() - cpu, time.perf_counter() - wall


def cpu_of(process: psutil.Process) -> float:
    """CPU seconds that another process has used so far."""
    times = process.cpu_times()
    return times.user + times.system
