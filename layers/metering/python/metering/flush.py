"""Telling Stripe all usage of one customer's period, and checking that Stripe has it."""

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from metering.advance import Advance, Life, World
from metering.counter import CounterKey
from metering.errors import NotFoundError
from metering.mapping import Customer
from metering.names import Metric
from metering.period import Span
from metering.push import (
    PushStream,
    Target,
    is_stopped,
)
from metering.pusher import Happenings, Pauses
from metering.route import NoRoute
from metering.stripe_totals import summed_up
from metering.work import Group, Work

log = logging.getLogger("metering.closing")

PASSES_MAX = 3
"""One tells, one finds nothing left; a third serves usage that came in between."""
TELLS_NOTHING = frozenset({NoRoute.UNMAPPED, NoRoute.NO_STRIPE_CUSTOMER, NoRoute.NO_METER})
"""Usage that goes nowhere by what was set up: no invoice waits for it."""


@dataclass(frozen=True, slots=True)
class Told:
    """What Stripe was told of a customer's period; `trouble` says what it was not told, and why."""

    trouble: str
    streams: tuple[PushStream, ...]


class _Total(NamedTuple):
    """A running total at Stripe that the customer's counters feed."""

    target: Target
    meter_id: str


class Flush:
    """Tells one customer's usage at a time; each thread has its own."""

    def __init__(
        self, world: World, life: Life, pauses: Pauses, has_time: Callable[[], bool]
    ) -> None:
        self._world = world
        self._life = life
        self._pauses = pauses
        self._has_time = has_time

    def tell(self, customer: Customer, period: Span) -> Told:
        """Tell all that was counted for a period by now.

        Raises:
            RetryableError: a table cannot answer now.
        """
        work = self._work(customer, period)
        happenings = Happenings()
        if work:
            happenings = self._until_quiet(Group(customer.stripe_customer, work))
        streams = self._streams(customer, period)
        troubles = (
            *_open_or_stopped(streams, self._world.clock.now()),
            *_held(happenings),
            *self._cut_otherwise(customer, period),
        )
        return Told("; ".join(troubles), streams)

    def _work(self, customer: Customer, period: Span) -> tuple[Work, ...]:
        """Every counter that the customer ever had: a last value stands without new usage too."""
        known = self._world.counters.known(customer.tenant, customer=customer.ref)
        metrics = {line.counter.metric for line in known}
        metrics |= set(self._world.pushes.of_customer(customer.tenant, customer.ref, period))
        return tuple(
            Work(CounterKey(customer.tenant, customer.ref, metric), period)
            for metric in sorted(metrics)
        )

    def _until_quiet(self, group: Group) -> Happenings:
        """What the last pass met; it is the first that found nothing to do, if there was one."""
        for _ in range(PASSES_MAX):
            advance = Advance(self._world, self._life, self._pauses, self._has_time)
            happenings = advance.run([group])
            is_moving = happenings.planned or happenings.sent or happenings.carried
            if not (is_moving or happenings.recut):
                break
        return happenings

    def _streams(self, customer: Customer, period: Span) -> tuple[PushStream, ...]:
        """Those of our key's world; of a target's several lives the present one."""
        found = self._world.pushes.of_customer(customer.tenant, customer.ref, period)
        newest: dict[tuple[Metric, Target, datetime | None], PushStream] = {}
        own = [stream for streams in found.values() for stream in streams]
        for stream in sorted(own, key=lambda one: one.key.incarnation):
            target = stream.key.target
            if target.mode is self._life.mode:
                newest[stream.key.counter.metric, target, stream.key.hour] = stream
        return tuple(newest.values())

    def _cut_otherwise(self, customer: Customer, period: Span) -> list[str]:
        """Usage from after the period's end in its buckets: the calendar was changed too late.

        A bucket is cut by the calendar that is known when an event is counted.
        """
        usage = self._world.counters.usage(customer.tenant, customer.ref, period)
        newest = [one.counted.watermark for one in usage.values() if one.counted.watermark]
        if not newest or max(newest) < period.end:
            return []
        text = (
            f"some usage after {period.end.isoformat()} was counted for the period before, when its"
            " end was not known yet: rebuild the tenant's counters"
        )
        return [text]

    # --- what Stripe has counted ---

    def check(self, told: Told, period: Span, agreed_at: datetime | None) -> str:
        """Why Stripe's summaries do not hold what it was told; empty when they do.

        Totals that were told nothing since `agreed_at`, when all agreed, are not read again.

        Raises:
            RetryableError: Stripe or a table cannot answer now.
            SetupError: Stripe refuses our key.
        """
        by_total: dict[_Total, list[PushStream]] = defaultdict(list)
        for stream in told.streams:
            by_total[_Total(stream.key.target, stream.meter_id)].append(stream)
        found = [
            self._compare(total, period, streams)
            for total, streams in by_total.items()
            if not _is_as_agreed(streams, agreed_at)
        ]
        return "; ".join(text for text in found if text)

    def _compare(self, total: _Total, period: Span, streams: Sequence[PushStream]) -> str:
        now = self._world.clock.now()
        try:
            seen = summed_up(self._world.billing, *total, period, now)
        except NotFoundError as error:
            log.warning("closed as it was told, for it cannot be read: %s", error)
            return ""
        told = _accepted(streams)
        if seen == told or seen == _accepted(self.sharing(streams)):
            return ""
        name = total.target.event_name or total.target.subscription_item
        return f"Stripe's summary of {name} holds {seen} of the {told} it was told"

    def sharing(self, streams: Sequence[PushStream]) -> list[PushStream]:
        """All that feed the totals of some of a customer's streams, these among them.

        Several customers of ours may be one at Stripe.
        """
        totals = {_shared(stream) for stream in streams}
        months = {(one.key.counter.tenant, f"{one.key.period.start:%Y-%m}") for one in streams}
        return [
            one
            for tenant, month in sorted(months)
            for one in self._world.pushes.of_month(tenant, month)
            if _shared(one) in totals
        ]


def _shared(stream: PushStream) -> tuple[Target, str, datetime, int]:
    """What streams have in common whose usage is added up together."""
    key = stream.key
    return key.target, stream.meter_id, key.period.start, key.incarnation


def _accepted(streams: Iterable[PushStream]) -> int:
    return sum(stream.accepted for stream in streams)


def _is_as_agreed(streams: Sequence[PushStream], agreed_at: datetime | None) -> bool:
    return agreed_at is not None and all(
        stream.accepted_at is None or stream.accepted_at < agreed_at for stream in streams
    )


def _open_or_stopped(streams: Iterable[PushStream], now: datetime) -> list[str]:
    troubles = []
    for stream in streams:
        if stream.open is not None:
            error = f" ({stream.open.last_error})" if stream.open.last_error else ""
            troubles.append(f"push {stream.open.identifier} is {stream.open.state}{error}")
        elif stream.stopped is not None and is_stopped(stream, now):
            troubles.append(f"Stripe was not told all: {stream.stopped.message}")
    return troubles


def _held(happenings: Happenings) -> list[str]:
    """Why the last pass did not tell all; what waits stands at its open push."""
    met = {str(reason) for reason, counters in happenings.held.items() if counters}
    reasons = sorted(met - TELLS_NOTHING - {"waiting"})
    troubles = [f"the writer holds usage back: {', '.join(reasons)}"] if reasons else []
    if happenings.failed:
        troubles.append("a bug of ours kept usage back; see the log")
    is_unfinished = happenings.must_return or happenings.planned or happenings.sent
    if is_unfinished and not troubles:
        troubles.append("usage is still being told")
    return troubles
