"""The weather over a world's tables: late indexes, old reads, short pages and partial batches."""

from datetime import timedelta

from tests.simulation.draw import NO_FAULTS, Faults
from tests.simulation.kernel import Kernel

OLD = timedelta(seconds=5)
"""The most that an eventually consistent read or an index lags."""
EXPIRED_FOR = timedelta(hours=48)
_STATEMENT_ERRORS = ("ThrottlingError", "InternalServerError", "TransactionConflict")


class Skies:
    """A `tests.simulation.aws.weather.Weather` that is drawn."""

    read_age_max = OLD

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self.faults: Faults = NO_FAULTS

    def index_delay(self) -> timedelta:
        """How much later a write is seen in an index."""
        if not self._kernel.chance(self.faults.stale):
            return timedelta()
        return OLD * self._kernel.random.random()

    def read_age(self) -> timedelta:
        """How old the answer to a read is that did not ask for consistency."""
        return self.index_delay()

    def page_items(self) -> int | None:
        """After how many items a page ends."""
        if not self._kernel.chance(self.faults.partial):
            return None
        return self._kernel.random.randint(1, 4)

    def unprocessed(self, n: int) -> int:
        """How many of a batch's n keys or requests come back undone."""
        if n < 2 or not self._kernel.chance(self.faults.partial):
            return 0
        return self._kernel.random.randint(1, n - 1)

    def statement_errors(self) -> str | None:
        """The code by which one statement of a batch fails alone."""
        if not self._kernel.chance(self.faults.throttle / 2):
            return None
        return self._kernel.random.choice(_STATEMENT_ERRORS)

    def ttl_delay(self) -> timedelta:
        """How long after it expired an item is deleted."""
        return EXPIRED_FOR * self._kernel.random.random()
