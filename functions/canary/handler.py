"""Schedule: send a known event by the public API, and see that it is counted, once and soon."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Protocol

from functions.invocation import invocation
from metering import wiring


class Context(Protocol):
    """What is used of Lambda's context."""

    def get_remaining_time_in_millis(self) -> int:
        """How much time the invocation has left."""
        ...


@invocation
def handler(event: Mapping[str, Any], context: Context) -> dict[str, Any]:
    """One check; answers what it found, or that the canary is switched off."""

    def remaining() -> timedelta:
        return timedelta(milliseconds=context.get_remaining_time_in_millis())

    wired = wiring.current()
    if wired.canary is None:
        return {"canary": "off"}
    told = wired.canary.run(remaining)
    wired.metrics.count("runs_total", function="canary")
    return told
