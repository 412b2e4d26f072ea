"""What an operator decides about pushes that only a person can judge.

A stream that waits for a person says so by a stop without an end: its push was sent and neither
Stripe's answer nor its own minute tells whether it counted.
"""

from dataclasses import replace
from datetime import datetime
from enum import StrEnum

from metering.errors import ConflictError, NotFoundError, RetryableError
from metering.names import TenantId
from metering.ports import Change, Clock, Pushes
from metering.push import PushState, PushStream, close


class Decision(StrEnum):
    """Whether the open push of a stopped stream counted at Stripe."""

    COUNTED = "counted"
    NOT_COUNTED = "not_counted"


_STATES = {Decision.COUNTED: PushState.ACCEPTED, Decision.NOT_COUNTED: PushState.VOID}


def is_for_a_person(stream: PushStream) -> bool:
    """Whether nothing but a decision takes the stream further."""
    return stream.stopped is not None and stream.stopped.until is None


def decide(stream: PushStream, decision: Decision, now: datetime, *, by: str) -> Change:
    """The stream and its open push, if any, as a person says they are; the writer looks at it next.

    A push that did not count is not sent again: its delta returns under a new number.
    """
    free = replace(stream, stopped=None, is_due=True)
    if free.open is None:
        return Change(free)
    return Change(*close(free, _STATES[decision], now, resolution=f"decided_by:{by}"))


class Decisions:
    """Takes decisions on a tenant's stopped streams."""

    def __init__(self, pushes: Pushes, clock: Clock) -> None:
        self._pushes = pushes
        self._clock = clock

    def waiting(self, tenant: TenantId) -> list[PushStream]:
        """A tenant's streams with an open push or a stop, by id."""
        return sorted(self._pushes.in_need(tenant), key=lambda one: one.key.id)

    def take(self, tenant: TenantId, stream_id: str, decision: Decision, *, by: str) -> PushStream:
        """Decide on a stream that waits for a person, and answer it as stored.

        Raises:
            NotFoundError: the tenant has no such stream in need.
            ConflictError: it does not wait for a person.
            RetryableError: somebody else has stored it meanwhile.
        """
        stream = next((one for one in self.waiting(tenant) if one.key.id == stream_id), None)
        if stream is None:
            raise NotFoundError(f"no stream {stream_id} has an open push or a stop")
        if not is_for_a_person(stream):
            raise ConflictError(
                f"stream {stream_id} does not wait for a person: the writer goes on with it itself"
            )
        change = decide(stream, decision, self._clock.now(), by=by)
        stored = self._pushes.store(change.stream, change.closed)
        if stored is None:
            raise RetryableError(f"stream {stream_id} was changed at the same time; look again")
        return stored
