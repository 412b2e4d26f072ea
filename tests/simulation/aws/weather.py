"""What DynamoDB may do without failing: answer late, in parts, or from a moment ago.

Whoever simulates hands in weather of its own, drawn from its seed; `CLEAR` is the best there is.
Calls that fail or get lost are not weather: those belong to whoever stands between client and
tables.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

NO_TIME = timedelta(0)


class Weather(Protocol):
    """Asked anew each time something could happen."""

    @property
    def read_age_max(self) -> timedelta:
        """The most that `read_age` ever answers; so much of the past is kept."""

    def index_delay(self) -> timedelta:
        """How much later a write is seen in an index; asked once per write and index."""

    def read_age(self) -> timedelta:
        """How old the answer to a read is that did not ask for consistency."""

    def page_items(self) -> int | None:
        """After how many items looked at (at least 1) this page ends early; None: it does not."""

    def unprocessed(self, n: int) -> int:
        """How many of a batch's n keys or requests come back undone; one at least is done."""

    def statement_errors(self) -> str | None:
        """The code by which one statement of a batch fails alone, its write not done.

        `ThrottlingError`, `InternalServerError` or `TransactionConflict`.
        """

    def ttl_delay(self) -> timedelta:
        """How long after it expired an item is deleted, up to 48 h; asked when it is written."""


@dataclass(frozen=True, slots=True)
class Clear:
    """Nothing is late and everything comes at once."""

    read_age_max: timedelta = NO_TIME

    def index_delay(self) -> timedelta:
        return NO_TIME

    def read_age(self) -> timedelta:
        return NO_TIME

    def page_items(self) -> int | None:
        return None

    def unprocessed(self, n: int) -> int:
        return 0

    def statement_errors(self) -> str | None:
        return None

    def ttl_delay(self) -> timedelta:
        return NO_TIME


CLEAR = Clear()
