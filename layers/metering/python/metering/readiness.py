"""Whether everything that is needed answers: asked, not assumed."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from metering.cache import ShortCache
from metering.errors import RetryableError
from metering.ports import Billing, Clock, SetupError, Tables, WriterDesk

WRITER_SILENT_MAX = timedelta(minutes=15)
"""After this long without a finished pass, nobody tells Stripe anything."""
ANSWER_KEPT_FOR = timedelta(seconds=2)
"""Anyone may ask; asking often must not cost much."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was asked."""

    name: str
    is_passed: bool
    detail: str


@dataclass(frozen=True, slots=True)
class Ready:
    """What all checks came to."""

    checks: tuple[Check, ...]
    writer_lag: timedelta | None
    """How long ago the writer had dealt with all changes; None when it has not run yet."""
    closer_lag: timedelta | None = None
    """How long ago it was looked for billing periods that have ended; None when it never was."""

    @property
    def is_ready(self) -> bool:
        """Whether requests should be sent here."""
        return all(check.is_passed for check in self.checks)


class Readiness:
    """Asks tables, Stripe and the writer's desk; `billing` is None where no Stripe is set up.

    `closing_seen_at` is when it was last looked for billing periods that have ended.
    """

    def __init__(
        self,
        tables: Tables,
        billing: Billing | None,
        desk: WriterDesk,
        closing_seen_at: Callable[[], datetime | None],
        clock: Clock,
    ) -> None:
        self._tables = tables
        self._billing = billing
        self._desk = desk
        self._closing_seen_at = closing_seen_at
        self._clock = clock
        self._kept: ShortCache[str, Ready] = ShortCache(clock, ANSWER_KEPT_FOR)

    def now(self) -> Ready:
        """What the checks say, at most two seconds ago."""
        return self._kept.get("ready", self._ask)

    def _ask(self) -> Ready:
        tables = self._ask_tables()
        stripe = self._ask_stripe()
        if not tables.is_passed:
            unknown = Check("workers", is_passed=False, detail="their state cannot be read")
            return Ready((tables, stripe, unknown), None)
        lag = self._since(self._writer_seen_at())
        closer_lag = self._since(self._closing_seen_at())
        return Ready((tables, stripe, self._writer_check(lag)), lag, closer_lag)

    def _since(self, instant: datetime | None) -> timedelta | None:
        return self._clock.now() - instant if instant else None

    def _ask_tables(self) -> Check:
        unreadable = self._tables.unreadable()
        return Check("database", not unreadable, "; ".join(unreadable) or "all tables answer")

    def _ask_stripe(self) -> Check:
        if self._billing is None:
            return Check("stripe", is_passed=True, detail="not set up: usage is counted, not told")
        try:
            self._billing.reach()
        except (RetryableError, SetupError) as trouble:
            return Check("stripe", is_passed=False, detail=str(trouble))
        return Check("stripe", is_passed=True, detail="answers")

    def _writer_seen_at(self) -> datetime | None:
        cursor = self._desk.cursor()
        return cursor.looked_from if cursor else None

    def _writer_check(self, lag: timedelta | None) -> Check:
        if self._billing is None:
            return Check("workers", is_passed=True, detail="no writer is needed without Stripe")
        if lag is None:
            return Check("workers", is_passed=True, detail="the writer has not run yet")
        detail = f"the writer had dealt with all changes {lag.total_seconds():.0f} s ago"
        return Check("workers", lag <= WRITER_SILENT_MAX, detail)
