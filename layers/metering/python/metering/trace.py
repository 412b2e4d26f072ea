"""What became of one event: received, counted or held back, refused, and what Stripe was told."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from itertools import islice

from metering.counter import CounterKey, Usage, counter_of, total
from metering.errors import NotFoundError
from metering.event import LedgerEntry, approval_key, approval_revert_key
from metering.names import IdempotencyKey, TenantId
from metering.period import Span
from metering.ports import (
    Counters,
    IndexOffError,
    Ledger,
    Pushes,
    PushHistory,
    Quarantine,
    Quarantined,
    Settings,
)
from metering.push import Push

RECOUNTED_MAX = 5_000
"""Of how many entries a trace recounts the bucket to know whether this one is in the counter."""


class Outcome(StrEnum):
    """How far an event has come."""

    COUNTED = "counted"
    """In its counter."""
    HELD_AS_LATE = "held_as_late"
    """In its counter's late part, which is in no total until it is approved."""
    REVERTED = "reverted"
    """A late event whose approval was taken back: in no total."""
    ACCEPTED = "accepted"
    """In the ledger; not in its counter yet, or too much would have to be read to know."""
    REFUSED = "refused"
    """Not in the ledger; what was set aside says why."""


@dataclass(frozen=True, slots=True)
class InCounter:
    """Where an accepted event counts."""

    counter: CounterKey
    bucket: Span
    period: Span
    usage: Usage
    """What the counter holds in the bucket."""


@dataclass(frozen=True, slots=True)
class Told:
    """A stream that carries the counter's total to Stripe, with the pushes since the receipt."""

    history: PushHistory
    pushes: tuple[Push, ...]
    """Those that can have carried the event, oldest first; none planned before the receipt can."""


@dataclass(frozen=True, slots=True)
class Trace:
    """All that is known of a tenant's idempotency key."""

    key: IdempotencyKey
    outcome: Outcome
    entry: LedgerEntry | None
    place: InCounter | None
    told: tuple[Told, ...]
    set_aside: tuple[Quarantined, ...]


class Tracer:
    """Follows an event through ledger, counter, pushes and quarantine."""

    def __init__(
        self,
        ledger: Ledger,
        counters: Counters,
        settings: Settings,
        pushes: Pushes,
        quarantine: Quarantine,
    ) -> None:
        self._ledger = ledger
        self._counters = counters
        self._settings = settings
        self._pushes = pushes
        self._quarantine = quarantine

    def trace(self, tenant: TenantId, key: IdempotencyKey) -> Trace:
        """What became of the event with this key.

        Raises:
            NotFoundError: the key was never seen.
        """
        entry = self._ledger.get(tenant, key)
        set_aside = tuple(self._quarantine.of_key(tenant, key))
        if entry is None:
            if not set_aside:
                raise NotFoundError(
                    f"No event with the idempotency key {key!r} was accepted or refused"
                )
            return Trace(key, Outcome.REFUSED, None, None, (), set_aside)
        place = self._place(entry)
        outcome = self._outcome(entry, place)
        return Trace(key, outcome, entry, place, self._told(entry, place), set_aside)

    def _place(self, entry: LedgerEntry) -> InCounter:
        counter = counter_of(entry.event)
        calendar = self._settings.customer(counter.tenant, counter.customer).calendar
        bucket = calendar.bucket_of(entry.event.occurred_at)
        held = self._counters.usage(counter.tenant, counter.customer, bucket)
        # Of a metric that is counted by hours, or was for a part of the day, all of the day.
        usage = total(part for (metric, _), part in held.items() if metric == counter.metric)
        return InCounter(counter, bucket, calendar.period_of(entry.event.occurred_at), usage)

    # --- is it in its counter ---------------------------------------------------------------------

    def _outcome(self, entry: LedgerEntry, place: InCounter) -> Outcome:
        """Counters keep numbers, not events: one is surely in when all of its bucket's are in."""
        entries = self._in_ledger(place, place.usage.entries)
        if entries is None or place.usage.entries < _with(entry, entries):
            return Outcome.ACCEPTED
        return self._decided(entry) if entry.is_late else Outcome.COUNTED

    def _decided(self, held: LedgerEntry) -> Outcome:
        """What became of a late event that was held back."""
        key = held.event.key
        keys = (approval_key(key), approval_revert_key(key))
        decisions = self._ledger.get_many(held.event.tenant, keys)
        return (Outcome.HELD_AS_LATE, Outcome.COUNTED, Outcome.REVERTED)[len(decisions)]

    def _in_ledger(self, place: InCounter, counted: int) -> list[LedgerEntry] | None:
        """All of the bucket's entries; None when they cannot be read, or are too many."""
        if counted == 0 or counted > RECOUNTED_MAX:
            return None
        try:
            entries = list(
                islice(self._ledger.of_counter(place.counter, place.bucket), RECOUNTED_MAX + 1)
            )
        except IndexOffError:
            return None
        return entries if len(entries) <= RECOUNTED_MAX else None

    # --- what Stripe was told ---------------------------------------------------------------------

    def _told(self, entry: LedgerEntry, place: InCounter) -> tuple[Told, ...]:
        histories = self._pushes.of_period(place.counter, place.period)
        return tuple(Told(history, _since(history, entry.received_at)) for history in histories)


def _with(entry: LedgerEntry, entries: list[LedgerEntry]) -> int:
    """How many entries there are; this one always among them, whatever the index knows."""
    return 1 + sum(other.event.key != entry.event.key for other in entries)


def _since(history: PushHistory, received_at: datetime) -> tuple[Push, ...]:
    return tuple(push for push in history.pushes if push.planned_at >= received_at)
