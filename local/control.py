"""The control routes below `/_local/`: run a function now, look inside, make faults, wait.

| route | what it does |
|---|---|
| `GET /_local/status` | state of streams, queues, schedules, and the process's memory |
| `POST /_local/run/<function>` | run a scheduled function now; the body is more of its event |
| `POST /_local/drain` | wait until queue and stream are empty; body `{"timeout_s": 60}` |
| `POST /_local/chaos/<function>/<fault>` | make a fault of `local.chaos` happen |
| `GET /_local/time` | the present instant, and how far it is ahead of the machine's |
| `POST /_local/time` | move time: `{"advance_s": 3600}` or `{"until": "2026-12-01T00:00:05Z"}` |

The faults and their bodies: `kill` `{"call": 2, "answered": false, "times": 1}`, `pause`, `resume`
for streams and schedules; `twice` `{"batches": 1}`, `rewind` `{"records": 500}`, `recut`
`{"batches": 10, "seed": 0}` for streams.
"""

import json
import logging
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import psutil

from local.chaos import Chaos
from local.http_event import Answer
from local.queues import QueueMapping
from local.schedules import Scheduled
from local.streams import StreamMapping
from local.time_travel import TimeTravel

DRAIN_TIMEOUT_S = 60.0
_LOOK_S = 0.05
_FAULTS: Mapping[str, Callable[..., None]] = {
    "kill": Chaos.kill,
    "twice": Chaos.deliver_twice,
    "rewind": Chaos.rewind,
    "recut": Chaos.recut,
    "pause": Chaos.pause,
    "resume": Chaos.resume,
}

log = logging.getLogger(__name__)


class NoSuchRouteError(Exception):
    """Nothing stands there; the message names what does."""


class FunctionFailedError(Exception):
    """A function raised what would look like a mistake in the request for its run."""


class Control:
    """What the control routes act on."""

    def __init__(self, time: TimeTravel) -> None:
        self._time = time
        self.streams: dict[str, StreamMapping] = {}
        self.queues: dict[str, QueueMapping] = {}
        self.schedules: dict[str, Scheduled] = {}
        self.missing: list[str] = []
        self.facts: dict[str, Any] = {}
        """What the process was set up with: endpoints, queue URLs."""
        self._process = psutil.Process()

    def __call__(self, method: str, path: str, body: bytes) -> Answer:
        """Answer one control request; it may take as long as the run it asks for."""
        try:
            return _json(200, self._do(method, path.split("/")[2:], _payload(body)))
        except NoSuchRouteError as nowhere:
            return _json(404, {"error": "Not Found", "message": str(nowhere)})
        except (TypeError, ValueError) as wrong:
            return _json(400, {"error": "Bad Request", "message": str(wrong)})
        except Exception as failed:
            log.exception("control request %s %s failed", method, path)
            return _json(500, {"error": type(failed).__name__, "message": str(failed)})

    def _do(self, method: str, path: list[str], payload: dict[str, Any]) -> Any:
        match method, path:
            case "GET", ["status"]:
                return self.status()
            case "POST", ["run", function]:
                return self._run(function, payload)
            case "POST", ["drain"]:
                return self.drain(**payload)
            case "POST", ["chaos", function, fault]:
                return self._chaos(function, fault, payload)
            case "GET", ["time"]:
                return self._time.status()
            case "POST", ["time"]:
                return self._time.move(**payload)
        routes = (
            "GET status, POST run/<function>, POST drain, POST chaos/<function>/<fault>, GET time,"
            " POST time"
        )
        raise NoSuchRouteError(f"below /_local/ there are: {routes}")

    def status(self) -> dict[str, Any]:
        """Everything worth looking at."""
        return {
            **self.facts,
            "time": self._time.status(),
            "missing_functions": self.missing,
            "rss_mb": round(self._process.memory_info().rss / 1e6, 1),
            "streams": {name: mapping.status() for name, mapping in self.streams.items()},
            "queues": {name: mapping.status() for name, mapping in self.queues.items()},
            "schedules": {name: one.status() for name, one in self.schedules.items()},
        }

    def _run(self, function: str, payload: dict[str, Any]) -> Any:
        scheduled = self.schedules.get(function)
        if scheduled is None:
            raise NoSuchRouteError(_unknown(function, self.schedules, "scheduled function"))
        overlapping = bool(payload.pop("overlapping", False))
        try:
            return scheduled.run_now(payload, overlapping=overlapping)
        except (TypeError, ValueError) as failed:
            raise FunctionFailedError(f"{function} raised {failed!r}") from failed

    def _chaos(self, function: str, fault: str, payload: dict[str, Any]) -> dict[str, str]:
        mapped: dict[str, StreamMapping | Scheduled] = {**self.streams, **self.schedules}
        if function not in mapped:
            raise NoSuchRouteError(_unknown(function, mapped, "function with faults"))
        if fault not in _FAULTS:
            raise NoSuchRouteError(_unknown(fault, _FAULTS, "fault"))
        _FAULTS[fault](mapped[function].chaos, **payload)
        return {"function": function, "fault": fault}

    def drain(self, timeout_s: float = DRAIN_TIMEOUT_S) -> dict[str, Any]:
        """Wait until what was sent before is in the ledger and what is in the ledger is counted."""
        started = time.monotonic()
        deadline = started + timeout_s
        drained = all(
            _wait_until_caught_up(mappings, deadline)
            for mappings in (self.queues.values(), self.streams.values())
        )
        took = round(time.monotonic() - started, 3)
        return {"drained": drained, "took_s": took} | ({} if drained else self.status())


def _wait_until_caught_up(mappings: Any, deadline: float) -> bool:
    since = time.monotonic()
    while not all(mapping.is_caught_up(since) for mapping in mappings):
        if time.monotonic() > deadline:
            return False
        time.sleep(_LOOK_S)
    return True


def _unknown(name: str, known: Mapping[str, Any], what: str) -> str:
    return f"no {what} {name!r}; there are: {', '.join(sorted(known)) or 'none'}"


def _payload(body: bytes) -> dict[str, Any]:
    payload = json.loads(body) if body.strip() else {}
    if not isinstance(payload, dict):
        raise ValueError("the body must be a JSON object")  # noqa: TRY004 (a caller's mistake)
    return payload


def _json(status: int, body: Any) -> Answer:
    content = json.dumps(body, default=_plain).encode()
    return Answer(status, ((b"content-type", b"application/json"),), content)


def _plain(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
