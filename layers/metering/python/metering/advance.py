"""Takes the counters of some Stripe customers further: settle what is open, tell what is new."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from metering.counter import Usage, total
from metering.mapping import Customer, Mapping
from metering.names import CustomerRef, Metric, TenantId
from metering.period import Span
from metering.ports import Billing, Clock, Counters, Pushes, Settings
from metering.push import Held, Mode, PushStream, wanted
from metering.pusher import Happenings, Pauses, Pusher, minding
from metering.route import conflict, fresh_stream, no_route, told_elsewhere
from metering.work import Group, Work


class World(NamedTuple):
    """The ports that a writer works on."""

    counters: Counters
    settings: Settings
    pushes: Pushes
    billing: Billing
    clock: Clock


class Life(NamedTuple):
    """What a run finds and does not change."""

    mode: Mode
    """The world that our key opens."""
    incarnation: int
    """Of our store."""


class Advance:
    """One thread's work on some groups, with one request to Stripe at a time."""

    def __init__(
        self, world: World, life: Life, pauses: Pauses, has_time: Callable[[], bool]
    ) -> None:
        self._world = world
        self._life = life
        self._has_time = has_time
        self._pusher = Pusher(
            world.pushes, world.billing, world.clock, pauses, life.incarnation, has_time
        )

    def run(self, groups: Sequence[Group]) -> Happenings:
        """Take each counter a step; whatever goes wrong with one leaves the others alone."""
        happenings = self._pusher.happenings
        for (customer, period), work in _by_period(groups).items():
            with minding(happenings, customer, len(work)):
                self._deal_with(customer, period, work)
        with minding(happenings, [group.order for group in groups]):
            self._pusher.send_planned()
        return happenings

    def _deal_with(self, customer: "_CustomerKey", period: Span, work: list[Work]) -> None:
        """All metrics of a customer and period, over one reading of its usage."""
        # Streams before totals: so a total is never older than what was accepted of it.
        streams = self._streams(customer, period, work)
        usage = self._world.counters.usage(*customer, period)
        for one in work:
            if not self._has_time():
                self._pusher.happenings.must_return = True
                return
            own = (part for (metric, _), part in usage.items() if metric == one.counter.metric)
            self._take_further(one, streams.get(one.counter.metric, []), total(own))

    def _streams(
        self, customer: "_CustomerKey", period: Span, work: list[Work]
    ) -> dict[Metric, list[PushStream]]:
        """By metric. One reading for several; for one alone no more is read than its own."""
        if len(work) > 1:
            return self._world.pushes.of_customer(*customer, period)
        (one,) = work
        return {one.counter.metric: self._world.pushes.streams(*one)}

    def _take_further(self, work: Work, streams: list[PushStream], usage: Usage) -> None:
        self._pusher.happenings.looked_at += 1
        settled = [self._pusher.settle(stream) for stream in streams]
        ours = [stream for stream in settled if stream is not None]
        if len(ours) < len(settled) or not (usage.counted.count or ours):
            return
        mapping = self._world.settings.active_mapping(work.counter.tenant, work.counter.metric)
        customer = self._world.settings.customer(work.counter.tenant, work.counter.customer)
        reason = no_route(mapping, customer)
        if reason is None and mapping is not None:
            self._tell(work, ours, usage, mapping, customer)
        else:
            self._pusher.happenings.held[str(reason)] += 1

    def _tell(
        self,
        work: Work,
        streams: list[PushStream],
        usage: Usage,
        mapping: Mapping,
        customer: Customer,
    ) -> None:
        fresh = fresh_stream(*work, mapping, customer, self._life)
        own = next((one for one in streams if one.key.id == fresh.key.id), fresh)
        others = [one for one in streams if one is not own]
        reason = conflict(own, others, mapping)
        if reason is None and not own.version and self._is_replanned(work, customer):
            reason = Held.PERIOD_CHANGED
        if reason is not None:
            self._pusher.happenings.held[reason] += 1
            return
        own = self._pusher.begin(own)
        quantity = usage.counted.value(mapping.aggregation)
        desired = wanted(quantity, own.scale, told_elsewhere=told_elsewhere(own, others))
        used_at = usage.counted.watermark or work.period.start
        self._pusher.tell(own, desired, used_at, customer)

    def _is_replanned(self, work: Work, customer: Customer) -> bool:
        """Whether usage of the period was told under another cut of periods.

        Of a customer whose calendar never changed there is no other cut, and nothing is asked. What
        we know of the customer may be older than a change; but then its new stream is not stored,
        because the write that begins it holds only while the calendar is the one we know
        (`Change.customer`). And whoever comes after the change knows of it, asks, and finds every
        stream that began before.
        """
        if customer.calendar.period_of(work.period.start) != work.period:
            return True  # The work was listed just before the change.
        overlapping = self._world.pushes.overlapping(*work) if customer.recuts else []
        return any(one.accepted or one.open for one in overlapping)


type _CustomerKey = tuple[TenantId, CustomerRef]


def _by_period(groups: Sequence[Group]) -> dict[tuple[_CustomerKey, Span], list[Work]]:
    parts: dict[tuple[_CustomerKey, Span], list[Work]] = {}
    for work in (work for group in groups for work in group.work):
        customer = (work.counter.tenant, work.counter.customer)
        parts.setdefault((customer, work.period), []).append(work)
    return parts
