"""Schedule: tell Stripe what changed counters add up to.

Retries belong to the schedule: what one run could not finish, the next one goes on with. Test
accounts of mappings with a shadow are told the same afterwards, in the time that is left.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Protocol

from metering import wiring
from metering.push import Role
from metering.telemetry import count_run


class Context(Protocol):
    """What is used of Lambda's context."""

    aws_request_id: str

    def get_remaining_time_in_millis(self) -> int:
        """How much time the invocation has left."""
        ...


def handler(event: Mapping[str, Any], context: Context) -> dict[str, Any]:
    """One run of the writer; answers what it did.

    An operator who has restored the tables from a backup invokes it with `raiseIncarnation: true`,
    the schedules being off, an hour after the last push at the earliest: the new life begins with
    what Stripe's summaries hold, and what they do not show yet would be told twice.
    """
    if event.get("raiseIncarnation") is True:
        return {"incarnation": wiring.current().pushes.raise_incarnation()}

    def remaining() -> timedelta:
        return timedelta(milliseconds=context.get_remaining_time_in_millis())

    wired = wiring.current()
    told: dict[str, Any] = wired.writer.run(context.aws_request_id, remaining)
    count_run(wired.metrics, told, Role.PRIMARY)
    shadowed = told.get("shadowed", 0)
    shadow = wired.shadow_run.run(context.aws_request_id, remaining, shadowed=shadowed)
    return told if shadow is None else told | {"shadow": shadow}
