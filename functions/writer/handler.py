"""Schedule: tell Stripe what changed counters add up to.

Retries belong to the schedule: what one run could not finish, the next one goes on with. Test
accounts of mappings with a shadow are told the same afterwards, in the time that is left.
"""

import logging
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Protocol

from functions.invocation import invocation
from metering import times, wiring
from metering.next_life import TooEarlyError, begin_next_life
from metering.push import Role
from metering.telemetry import count_run

log = logging.getLogger(__name__)


class Context(Protocol):
    """What is used of Lambda's context."""

    aws_request_id: str

    def get_remaining_time_in_millis(self) -> int:
        """How much time the invocation has left."""
        ...


@invocation
def handler(event: Mapping[str, Any], context: Context) -> dict[str, Any]:
    """One run of the writer; answers what it did.

    An operator who has restored the tables from a backup invokes it with `raiseIncarnation: true`,
    the schedules being off: at once, which is noted and refused, and again when the hour is over
    that the answer names. `force: true` takes the operator's word that the last push is that old.
    """
    if event.get("raiseIncarnation") is True:
        return _begin_next_life(is_forced=event.get("force") is True)

    def remaining() -> timedelta:
        return timedelta(milliseconds=context.get_remaining_time_in_millis())

    wired = wiring.current()
    told: dict[str, Any] = wired.writer.run(context.aws_request_id, remaining)
    count_run(wired.metrics, told, Role.PRIMARY)
    shadowed = told.get("shadowed", 0)
    shadow = wired.shadow_run.run(context.aws_request_id, remaining, shadowed=shadowed)
    return told if shadow is None else told | {"shadow": shadow}


def _begin_next_life(*, is_forced: bool) -> dict[str, Any]:
    wired = wiring.current()
    try:
        number = begin_next_life(wired.pushes, wired.clock.now(), is_forced=is_forced)
    except TooEarlyError as refusal:
        log.warning("%s", refusal)
        return {"refused": str(refusal), "askAgainAt": times.to_iso_ms(refusal.allowed_at)}
    return {"incarnation": number}
