"""The canary: a customer of known usage that shows whether events still come through, and exactly.

Time is cut into slots of five minutes, and each slot has one event: its key, its time and its
quantity follow from the slot alone. So a repeated run sends a duplicate, what a counter must hold
is known without keeping anything, and a difference tells by its digits which slots made it.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import combinations
from typing import TYPE_CHECKING, Any, NamedTuple

from metering.names import TenantId

if TYPE_CHECKING:
    from metering.ports import CanaryApi, Clock, Machine, Metrics

log = logging.getLogger(__name__)

TENANT = TenantId("stripemeter-canary")
"""Nobody's but the canary's, so that it can never bill a customer."""
METRIC = "canary"
CUSTOMER = "canary"
"""Unless the deployment names one that Stripe knows."""

SLOT = timedelta(minutes=5)
DAY = timedelta(days=1)
YOUNG_SLOTS = 4
"""So many of the newest slots may still be on their way; older ones must be counted."""
WAIT = timedelta(seconds=45)
"""For the newest event to be counted; the stream gathers for 5 s before it hands over."""
LOOK_EVERY_S = 1.0


class Slot(NamedTuple):
    """Five minutes of UTC time, which have one event."""

    start: datetime

    @classmethod
    def at(cls, instant: datetime) -> "Slot":
        """The slot that an instant lies in."""
        return cls(instant - (instant - _midnight(instant.date())) % SLOT)

    @property
    def key(self) -> str:
        """What its event's idempotency key begins with."""
        return f"canary-{self.start:%Y-%m-%dT%H:%M}"

    @property
    def quantity(self) -> Decimal:
        """1 and the slot's number in its day, in ten-thousandths: 1.0137 is the 137th."""
        number = (self.start - _midnight(self.start.date())) // SLOT
        return 1 + Decimal(number).scaleb(-4)

    @property
    def day(self) -> date:
        """The UTC day that it counts in."""
        return self.start.date()


class Taken(NamedTuple):
    """What ingest answered about one slot's event."""

    slot: Slot
    status: str
    """`accepted`, `duplicate`, or what must never be answered here."""
    is_late: bool = False
    """Held back from its counter."""


class CanaryBrokenError(Exception):
    """An event that nobody else could have sent was refused, or answered as another's."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one look at the counters shows."""

    difference: Decimal
    """Counted less sent; 0 while only young slots are missing."""
    missing: tuple[Slot, ...] = ()
    """Young slots that are not counted yet, oldest first."""
    days: tuple[date, ...] = ()
    """Those that differ."""

    @property
    def is_whole(self) -> bool:
        """Whether all that was sent is counted, once."""
        return not self.difference and not self.missing


def slots_until(now: datetime) -> list[Slot]:
    """Every slot of yesterday and of today until now."""
    first, last = _midnight(now.date()) - DAY, Slot.at(now)
    return [Slot(first + SLOT * number) for number in range((last.start - first) // SLOT + 1)]


def judge(slots: Sequence[Slot], counted: Mapping[date, Decimal]) -> Verdict:
    """Compare what the days' counters hold with what was sent for these slots.

    A sum that lacks nothing but some young slots is late and not wrong: quantities of slots add up
    to the same in no other way that a lost or a doubled event could bring about.
    """
    young = slots[-YOUNG_SLOTS:]
    of_days = [_judge_day(slots, young, day, counted) for day in sorted({one.day for one in slots})]
    return Verdict(
        sum((one.difference for one in of_days), Decimal(0)),
        tuple(slot for one in of_days for slot in one.missing),
        tuple(day for one in of_days for day in one.days),
    )


def _judge_day(
    slots: Sequence[Slot], young: Sequence[Slot], day: date, counted: Mapping[date, Decimal]
) -> Verdict:
    sent = sum((one.quantity for one in slots if one.day == day), Decimal(0))
    difference = counted.get(day, Decimal(0)) - sent
    for missing in _some_of([one for one in young if one.day == day]):
        if difference == -sum(one.quantity for one in missing):
            return Verdict(Decimal(0), missing)
    return Verdict(difference, days=(day,))


def _some_of(slots: Sequence[Slot]) -> Iterator[tuple[Slot, ...]]:
    """Every choice of some of them, the smallest first."""
    for number in range(len(slots) + 1):
        yield from combinations(slots, number)


class Canary:
    """Sends the present slot's event by the public API, and looks until it is counted."""

    def __init__(
        self, api: "CanaryApi", metrics: "Metrics", clock: "Clock", machine: "Machine"
    ) -> None:
        self._api = api
        self._metrics = metrics
        self._clock = clock
        self._machine = machine
        self._stood: set[Slot] = set()
        """What ingest has answered for in this process; it must stand there for ever."""

    def run(self, remaining: Callable[[], timedelta]) -> dict[str, Any]:
        """One check of the whole way; answers what it found, and sets the gauges.

        Raises:
            CanaryBrokenError: ingest refused an event, took another one for it, or has lost one
                that it had accepted.
            RetryableError: the API could not be reached, or cannot answer now.
            SetupError: the API does not know the canary's key.
        """
        slots = slots_until(self._clock.now())
        self._stood.intersection_update(slots)
        # The one before is sent again, so that every run also shows a duplicate to be one.
        was_absent = slots[-2] in self._send(slots[-2:])
        began = self._machine.seconds()
        filled = self._fill(slots, judge(slots, self._api.daily(slots[0].start, slots[-1].start)))
        verdict = self._look(slots, began, remaining)
        # What was filled in may itself be late: the next run judges it.
        verdict = verdict if not filled else replace(verdict, difference=Decimal(0), days=())
        lag = timedelta(seconds=self._machine.seconds() - began)
        if verdict.missing:
            lag += slots[-1].start - verdict.missing[0].start
        return self._tell(verdict, lag, filled + was_absent)

    def _send(self, slots: Sequence[Slot]) -> set[Slot]:
        """Those of them that the ledger did not hold."""
        taken = self._api.send(slots)
        for one in taken:
            _check(one)
        absent = {one.slot for one in taken if one.status == "accepted"}
        for lost in absent & self._stood:
            raise CanaryBrokenError(f"{lost.key} was accepted twice: the ledger has lost it")
        self._stood.update(slots)
        return absent

    def _fill(self, slots: Sequence[Slot], verdict: Verdict) -> int:
        """Send days that differ anew: a slot that no run had sent is not a loss.

        Whatever was there already is a duplicate, and counts no second time.
        """
        stood = [one for one in slots[:-1] if one.day in verdict.days]
        return len(self._send(stood)) if stood else 0

    def _look(
        self, slots: Sequence[Slot], began: float, remaining: Callable[[], timedelta]
    ) -> Verdict:
        """Until all is counted, or there is no time left to wait."""
        while True:
            verdict = judge(slots, self._api.daily(slots[0].start, slots[-1].start))
            waited = timedelta(seconds=self._machine.seconds() - began)
            if verdict.is_whole or waited >= WAIT or remaining() < WAIT / 3:
                return verdict
            self._machine.sleep(LOOK_EVERY_S)

    def _tell(self, verdict: Verdict, lag: timedelta, filled: int) -> dict[str, Any]:
        if filled:
            log.warning(
                "the ledger did not hold %d of the canary's events: runs were missed, or it lost"
                " them",
                filled,
            )
        at_stripe = self._api.stripe_difference(f"{self._clock.now():%Y-%m}")
        worst = max(verdict.difference, at_stripe or Decimal(0), key=abs)
        self._metrics.gauge("canary_lag_seconds", lag / timedelta(seconds=1))
        self._metrics.gauge("canary_difference", float(worst))
        told = {
            "difference": str(verdict.difference),
            "stripeDifference": None if at_stripe is None else str(at_stripe),
            "lagSeconds": round(lag / timedelta(seconds=1), 3),
            "missing": [one.key for one in verdict.missing],
            "filled": filled,
        }
        log.log(logging.ERROR if worst else logging.INFO, "canary: %s", told)
        return {"canary": "differs" if worst else "agrees"} | told


def _check(taken: Taken) -> None:
    """Pass when an event was answered as the canary's are."""
    if taken.status not in {"accepted", "duplicate"}:
        raise CanaryBrokenError(f"{taken.slot.key} was answered {taken.status!r}")
    if taken.is_late:
        raise CanaryBrokenError(
            f"{taken.slot.key} was held back as late: let the metric {METRIC} count late events"
            " (PUT /v1/metrics/canary, latePolicy count)"
        )


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
