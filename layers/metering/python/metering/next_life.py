"""The next life of the store of pushes, which begins after a restore from a backup.

It begins with what Stripe's summaries hold. What the lost life pushed and no summary shows yet
would be told, and billed, a second time; so an hour must pass first. The time of the last push is
lost with the life: what is known is when somebody first asked, for the restore came before that.
"""

from datetime import datetime, timedelta
from typing import Protocol

from metering import times

SUMMED_UP_AFTER = timedelta(hours=1)
"""Stripe's summaries follow events within minutes, by an unpublished time."""


class Lives(Protocol):
    """What is used of `ports.Pushes`."""

    def announce_life(self, now: datetime) -> datetime:
        """See `Pushes.announce_life`."""
        ...

    def raise_incarnation(self) -> int:
        """See `Pushes.raise_incarnation`."""
        ...


class TooEarlyError(Exception):
    """Stripe's summaries may not hold all yet that the lost life has pushed."""

    def __init__(self, allowed_at: datetime) -> None:
        super().__init__(
            "pushes of the lost life may not be in Stripe's summaries yet, and would be billed"
            f" twice: leave the schedules off and ask again at {times.to_iso_ms(allowed_at)}, or"
            " say force: true when you know that the last push is more than an hour old"
        )
        self.allowed_at = allowed_at


def begin_next_life(pushes: Lives, now: datetime, *, is_forced: bool = False) -> int:
    """Begin the next life and answer its number.

    Raises:
        TooEarlyError: less than an hour has passed since somebody first asked.
    """
    if not is_forced:
        allowed_at = pushes.announce_life(now) + SUMMED_UP_AFTER
        if now < allowed_at:
            raise TooEarlyError(allowed_at)
    return pushes.raise_incarnation()
