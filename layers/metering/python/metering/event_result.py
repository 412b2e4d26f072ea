"""What becomes of one usage event that a client sends."""

from dataclasses import dataclass
from enum import StrEnum

from metering.names import IdempotencyKey, Metric


class Status(StrEnum):
    """What became of one event; `ERROR` was not taken and says why."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class EventResult:
    """The answer for one event."""

    status: Status
    key: IdempotencyKey | None = None
    metric: Metric | None = None
    error: str | None = None
    retryable: bool = False
    """Nothing is wrong with the event; the same again may be taken."""
    is_late: bool = False
    """Taken into the ledger and held back from the counter until approved."""
