"""How many reads Stripe still grants: it rations them over 30 days.

On average 500 reads a transaction, and never fewer than 10,000 a month and account. What is left is
kept for the reads that close a period; those go through even when nothing is left.
"""

import logging
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from threading import Lock

from metering.errors import RetryableError
from metering.ports import Clock, ReadCounts

log = logging.getLogger("metering.stripe")

ROLLING = timedelta(days=30)
PENDING_MAX = 100
"""So many reads are noted in memory before they are written down; a crash forgets no more."""
PENDING_FOR = timedelta(minutes=1)
"""Nor are they noted for longer, as long as more are made."""


class ReadBudget:
    """One deployment's reads per Stripe account: noted in memory, written down now and then."""

    def __init__(self, counts: ReadCounts, clock: Clock, a_month: int) -> None:
        self._counts = counts
        self._clock = clock
        self._a_month = a_month
        self._pending: Counter[tuple[str, date]] = Counter()
        self._written_at = clock.now()
        self._lock = Lock()

    def note(self, reads: int = 1, account: str = "") -> None:
        """So many reads were made of an account (empty: the key's own)."""
        now = self._clock.now()
        with self._lock:
            self._pending[account, _day(now)] += reads
            is_due = now - self._written_at >= PENDING_FOR
            is_due = is_due or self._pending.total() >= PENDING_MAX
        if is_due:
            self.flush()

    def left(self, now: datetime, account: str = "") -> int:
        """How many reads of an account are left of the 30 days that end now; never below 0.

        Raises:
            RetryableError: what was spent cannot be read for now.
        """
        self.flush()
        days = self._counts.since(account, _day(now - ROLLING) + timedelta(days=1))
        with self._lock:
            unwritten = sum(n for (whose, _), n in self._pending.items() if whose == account)
        return max(0, self._a_month - sum(days.values()) - unwritten)

    def flush(self) -> None:
        """Write down what was noted. What cannot be written now stays noted."""
        with self._lock:
            pending, self._pending = self._pending, Counter()
            self._written_at = self._clock.now()
        for (account, day), reads in pending.items():
            try:
                self._counts.add(account, day, reads)
            except RetryableError as error:
                log.warning("%d reads of Stripe are written down later: %s", reads, error)
                with self._lock:
                    self._pending[account, day] += reads


def _day(instant: datetime) -> date:
    return instant.astimezone(UTC).date()
