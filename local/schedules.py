"""EventBridge Scheduler: runs functions at a fixed rate, or now.

A failed run is logged and counted; the next one comes all the same.
"""

import logging
import threading
import uuid
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from infra.functions import Function, Schedule
from local.chaos import Chaos, HandlerKilledError
from local.context import ACCOUNT
from local.dynamodb_local import REGION
from local.environment import Environment
from metering.adapters.clock import SystemClock

if TYPE_CHECKING:
    from metering.ports import Clock

log = logging.getLogger(__name__)


class RunKilledError(Exception):
    """The run was ended in the middle, as asked."""


@dataclass(slots=True)
class ScheduleTally:
    """What the runs have come to."""

    runs: int = 0
    failures: int = 0
    last_error: str = ""
    last_run_at: str = ""


def scheduled_event(function: Function, now: datetime) -> dict[str, Any]:
    """What EventBridge Scheduler sends when the schedule gives no input of its own."""
    return {
        "version": "0",
        "id": str(uuid.uuid4()),
        "detail-type": "Scheduled Event",
        "source": "aws.scheduler",
        "account": ACCOUNT,
        "time": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "region": REGION,
        "resources": [f"arn:aws:scheduler:{REGION}:{ACCOUNT}:schedule/default/{function.name}"],
        "detail": "{}",
    }


class Scheduled:
    """One function's schedule; `start` makes its thread, `stop` ends it."""

    def __init__(
        self,
        function: Function,
        environment: Callable[[], Environment],
        *,
        every_s: float | None = None,
        chaos: Chaos | None = None,
        clock: "Clock | None" = None,
    ) -> None:
        assert isinstance(function.trigger, Schedule)
        self.function = function
        self._make_environment = environment
        self._environment = environment()
        self._every_s = function.trigger.every_local_s if every_s is None else every_s
        self._one_at_a_time = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name=function.name, daemon=True)
        self._clock = clock or SystemClock()
        self.chaos = chaos or Chaos()
        self.tally = ScheduleTally()

    def start(self) -> None:
        """Begin; the first run is one interval away."""
        self._thread.start()

    def stop(self, *, within_s: float = 5.0) -> None:
        """End after the run under way."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(within_s)

    def run_now(self, payload: Mapping[str, Any], *, overlapping: bool = False) -> Any:
        """Run with an event that also carries `payload`; the function's answer.

        Waits for a run under way unless `overlapping`. Whatever the function raises comes through.

        Raises:
            RunKilledError: killed as `chaos` was told.
        """
        event = {**scheduled_event(self.function, self._clock.now()), **payload}
        if overlapping:
            return self._run(event, self._make_environment())
        with self._one_at_a_time:
            return self._run(event, self._environment)

    def between_runs(self) -> AbstractContextManager[object]:
        """Within it no run begins; entering it waits for a run under way."""
        return self._one_at_a_time

    def status(self) -> dict[str, Any]:
        """For people to look at."""
        return {
            "every_s": self._every_s,
            "paused": self.chaos.is_paused,
            **asdict(self.tally),
        }

    def _loop(self) -> None:
        while not self._stop.wait(self._every_s):
            # A slow run makes its successors late, never two at once.
            if not self.chaos.is_paused:
                self._run_and_survive()

    def _run_and_survive(self) -> None:
        try:
            self.run_now({})
        except Exception:
            log.exception("scheduled function %s failed", self.function.name)

    def _run(self, event: dict[str, Any], environment: Environment) -> Any:
        self.tally.runs += 1
        self.tally.last_run_at = event["time"]
        try:
            return environment.invoke(event, kill=self.chaos.take_kill())
        except HandlerKilledError as killed:
            self._note_failure(killed)
            raise RunKilledError(str(killed)) from killed
        except Exception as failed:
            self._note_failure(failed)
            raise

    def _note_failure(self, failed: BaseException) -> None:
        self.tally.failures += 1
        self.tally.last_error = repr(failed)
