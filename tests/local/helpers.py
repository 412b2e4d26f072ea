"""The example events, and bounded waiting for what other threads do."""

import json
import time
from collections.abc import Callable
from typing import Any

from local.dynamodb_local import PROJECT

EVENTS = PROJECT / "events"


def an_event(name: str) -> Any:
    return json.loads((EVENTS / f"{name}.json").read_text())


def wait_for(condition: Callable[[], object], *, within_s: float = 10.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)
