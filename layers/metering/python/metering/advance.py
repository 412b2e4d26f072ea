"""Takes the counters of some Stripe customers further: settle what is open, tell what is new."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

from metering.apart import Apart, ApartPorts, Late
from metering.carry import carried_in, carry, rest_of
from metering.counter import Usage, total
from metering.errors import NotFoundError
from metering.last_value import last_before
from metering.mapping import Customer, Mapping
from metering.names import CustomerRef, Metric, TenantId
from metering.period import Span
from metering.period_close import (
    CLOSE_GRACE,
    PeriodClose,
    PeriodState,
    deadline_of,
    takes_usage_until,
)
from metering.ports import Billing, Clock, Counters, PeriodCloses, Pushes, Settings
from metering.push import (
    Held,
    Mode,
    PushStream,
    Role,
    StreamKey,
    StreamKind,
    quantity_of,
    wanted,
    whole_units,
)
from metering.pusher import Happenings, Pauses, Pusher, minding
from metering.quantity import EXACT
from metering.recut import Recut
from metering.route import (
    NoRoute,
    beside,
    conflict,
    fresh_stream,
    is_even,
    no_route,
    stream_kind,
    told_elsewhere,
    window_of,
)
from metering.tenant_settings import AfterClose
from metering.work import Group, Work


class World(NamedTuple):
    """The ports that a writer works on."""

    counters: Counters
    settings: Settings
    pushes: Pushes
    billing: Billing
    clock: Clock
    closes: PeriodCloses
    apart: ApartPorts


class Life(NamedTuple):
    """What a run finds and does not change."""

    mode: Mode
    """The world that our key opens."""
    incarnation: int
    """Of our store."""
    role: Role = Role.PRIMARY
    """Whom the run tells."""


type _Buckets = dict[datetime, Usage]


class _Case(NamedTuple):
    """A counter's usage of a period, and what is known of where it goes."""

    work: Work
    streams: list[PushStream]
    buckets: _Buckets
    mapping: Mapping
    customer: Customer
    close: PeriodClose | None
    """How far the end of the period has come; None while it goes on, or where nothing is known."""

    @property
    def closes_at(self) -> datetime:
        """From when on the period takes no usage."""
        return takes_usage_until(self.work.period, self.close)

    def awaits_invoice(self, now: datetime) -> bool:
        """Whether nobody has looked for the period's invoice yet, which may be final by now.

        What is told then may be on no invoice, what is carried may be on two. Of a period that was
        cut short Stripe bills at once; of any other it makes a draft, which is told nothing more
        from its deadline on. A close is begun when usage is counted, so this lasts some minutes.
        """
        close = self.close
        is_known = close is not None and (
            close.state is PeriodState.CLOSED or close.is_held or close.finalizes_at is not None
        )
        calendar, period = self.customer.calendar, self.work.period
        if is_known or not calendar.era_of(period.start).subscription:
            return False
        deadline = deadline_of(period, period.end + CLOSE_GRACE)
        return now >= deadline or calendar.is_cut_short(period)


class _Value(NamedTuple):
    """The usage that one stream tells."""

    fresh: PushStream
    """The stream as it begins."""
    quantity: Decimal
    used_at: datetime
    """The time of the newest of it."""


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
        happenings = self._pusher.happenings
        self._apart = Apart(world.apart, world.pushes, world.clock, life.mode, pauses, happenings)

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
        close = self._close_of(customer, period)
        for one in work:
            if not self._has_time():
                self._pusher.happenings.must_return = True
                return
            own = {at: part for (metric, at), part in usage.items() if metric == one.counter.metric}
            self._take_further(one, streams.get(one.counter.metric, []), own, close)

    def _streams(
        self, customer: "_CustomerKey", period: Span, work: list[Work]
    ) -> dict[Metric, list[PushStream]]:
        """By metric. One reading for several; for one alone no more is read than its own."""
        if len(work) > 1:
            return self._world.pushes.of_customer(*customer, period)
        (one,) = work
        return {one.counter.metric: self._world.pushes.streams(*one)}

    def _close_of(self, customer: "_CustomerKey", period: Span) -> PeriodClose | None:
        """How far a period's end has come; that is asked when it has ended."""
        is_over = self._world.clock.now() >= period.end
        return self._world.closes.of(*customer, period) if is_over else None

    def _take_further(
        self,
        work: Work,
        streams: list[PushStream],
        buckets: _Buckets,
        close: PeriodClose | None,
    ) -> None:
        self._pusher.happenings.looked_at += 1
        closes_at = takes_usage_until(work.period, close)
        settled = [self._settle(stream, closes_at) for stream in streams]
        ours = [stream for stream in settled if stream is not None]
        if len(ours) < len(settled):
            return
        mapping = self._world.settings.active_mapping(work.counter.tenant, work.counter.metric)
        customer = self._world.settings.customer(work.counter.tenant, work.counter.customer)
        self._pusher.happenings.shadowed += mapping is not None and mapping.shadow
        reason = no_route(mapping, customer)
        if reason is None and mapping is not None:
            self._tell(_Case(work, ours, buckets, mapping, customer, close))
        elif ours or _count(buckets):
            self._pusher.happenings.held[str(reason)] += 1

    def _settle(self, stream: PushStream, closes_at: datetime) -> PushStream | None:
        """The stream after what its open push and its open invoice item need now."""
        settled = self._pusher.settle(stream, closes_at)
        return self._apart.settle(settled) if settled is not None else None

    def _tell(self, case: _Case) -> None:
        """Tell what is new of each stream's usage, or note why not."""
        for value in self._values(case):
            reason = self._tell_value(case, value)
            if reason is Held.RECUT:
                self._pusher.happenings.recut += 1
            elif reason is not None:
                self._pusher.happenings.held[reason] += 1

    def _tell_value(self, case: _Case, value: _Value) -> Held | None:
        """Plan what Stripe was not told of one stream's usage; why nothing is done about it."""
        own = _own(value.fresh, case.streams)
        others = beside(own, case.streams)
        reason = conflict(own, others, case.mapping)
        reason = reason or self._why_not_as_cut(own, value.fresh.key, case)
        if reason is not None:
            return reason
        if value.used_at >= case.work.period.end:
            return Held.PERIOD_CHANGED  # Its buckets are still those of the former cut.
        begun = self._pusher.begin(own, others, case.customer)
        if begun is None:
            return None  # Somebody else goes on with it.
        own = begun
        self._pusher.end_former_lives(own, others)
        quantity = EXACT.add(value.quantity, carried_in([own, *others]))
        desired = wanted(quantity, own.scale, told_elsewhere=told_elsewhere(own, others))
        now = self._world.clock.now()
        is_over = now >= case.closes_at
        if own.kind is StreamKind.DELTA and is_over:
            return self._tell_late(case, own, others, desired)
        if desired != own.accepted and not is_over and case.awaits_invoice(now):
            self._pusher.happenings.must_return = True
            return Held.INVOICE_UNKNOWN
        self._pusher.tell(
            own,
            desired,
            used_at=value.used_at,
            closes_at=case.closes_at,
            customer=case.customer,
        )
        return None

    # --- what each stream tells ---

    def _values(self, case: _Case) -> Iterator[_Value]:
        """The usage of a period, by the streams that tell it; none where nothing was used."""
        match stream_kind(case.mapping):
            case StreamKind.HOURLY:
                yield from self._by_window(case)
            case StreamKind.LAST:
                yield from self._last(case)
            case StreamKind.LEGACY:
                yield from self._of_legacy(case)
            case StreamKind.DELTA if _count(case.buckets) or case.streams:
                yield self._whole(case, self._fresh(case))

    def _fresh(
        self, case: _Case, *, hour: datetime | None = None, subscription_item: str = ""
    ) -> PushStream:
        return fresh_stream(
            *case.work,
            case.mapping,
            case.customer,
            self._life,
            hour=hour,
            subscription_item=subscription_item,
        )

    def _whole(self, case: _Case, fresh: PushStream) -> _Value:
        usage = total(case.buckets.values())
        used_at = usage.counted.watermark or case.work.period.start
        return _Value(fresh, usage.value(case.mapping.aggregation), used_at)

    def _last(self, case: _Case) -> Iterator[_Value]:
        """The period's last value; until it has one, the last before it, told at its start."""
        usage = total(case.buckets.values())
        if usage.counted.count:
            yield self._whole(case, self._fresh(case))
            return
        before = last_before(self._world.counters, case.work)
        if before is not None or case.streams or usage.adjusted:
            quantity = EXACT.add(before.quantity if before else Decimal(0), usage.adjusted)
            yield _Value(self._fresh(case), quantity, case.work.period.start)

    def _by_window(self, case: _Case) -> Iterator[_Value]:
        """The usage of each window; of a former cut in two, the usage of both parts."""
        meter_window = case.mapping.meter_window
        if not is_even(case.work.period, meter_window):
            if _count(case.buckets):
                self._pusher.happenings.held[Held.UNEVEN_PERIOD] += 1
            return
        by_window: dict[datetime, list[Usage]] = defaultdict(list)
        for start, usage in case.buckets.items():
            by_window[window_of(start, meter_window)].append(usage)
        told = {one.key.hour for one in case.streams if one.key.hour and not _is_ceded(one)}
        hours = sorted(told | set(by_window))
        values = [total(by_window[hour]).value(case.mapping.aggregation) for hour in hours]
        for hour, units in zip(hours, whole_units(values, case.mapping.scale), strict=True):
            quantity = quantity_of(units, case.mapping.scale)
            yield _Value(self._fresh(case, hour=hour), quantity, hour)

    def _of_legacy(self, case: _Case) -> Iterator[_Value]:
        if not (_count(case.buckets) or case.streams):
            return
        item = self._subscription_item(case)
        if item:
            yield self._whole(case, self._fresh(case, subscription_item=item))
        else:
            self._pusher.happenings.held[NoRoute.SUBSCRIPTION_ITEM_MISSING] += 1

    def _subscription_item(self, case: _Case) -> str:
        """The item that takes usage records: the one that was told, or else of the subscription."""
        told = (one.key.target for one in case.streams)
        ours = (one for one in told if one.mode is self._life.mode and one.subscription_item)
        known = next(ours, None)
        if known is not None:
            return known.subscription_item
        try:
            subscription = self._world.billing.subscription(
                case.customer.subscription, case.mapping.stripe_account
            )
        except NotFoundError:
            return ""
        items = (item for item in subscription.items if item.price_id == case.mapping.price_id)
        return next((item.id for item in items), "")

    # --- usage after the close ---

    def _tell_late(
        self, case: _Case, own: PushStream, others: list[PushStream], desired: int
    ) -> Held | None:
        """What a closed period was not told goes where the tenant's policy says."""
        if own.open is not None or any(one.item for one in [own, *others]):
            return None  # What it comes to decides how much is left; `settle` has told of it.
        rest = rest_of(own, others, desired)
        policy = self._world.settings.tenant(case.work.counter.tenant).after_close
        reason = self._why_not_told_later(case, policy) if rest else None
        if rest and reason is None and policy is AfterClose.CARRY_FORWARD:
            return self._carry(case, own, rest)
        if rest and reason is None:
            reason = self._apart.bill(Late(own, others, rest, case.close, case.customer))
            if reason is not Held.NO_INVOICE:
                return reason
        self._pusher.let_go(own)
        return reason

    def _why_not_told_later(self, case: _Case, policy: AfterClose) -> Held | None:
        if policy is AfterClose.UNBILLED:
            return Held.LATE_AFTER_CLOSE
        if case.close is not None and case.close.is_trial:
            return Held.NO_INVOICE
        if not case.streams and case.mapping.created_at >= case.closes_at:
            return Held.BEFORE_MAPPING
        return None

    def _carry(self, case: _Case, closed: PushStream, rest: Decimal) -> Held | None:
        """Leave it to the period that is open now, whose stream then is in need of being told."""
        self._pusher.send_planned()  # The receiving stream may be among them.
        counter, now = case.work.counter, self._world.clock.now()
        period = case.customer.calendar.period_of(now)
        customer = (counter.tenant, counter.customer)
        closes_at = takes_usage_until(period, self._close_of(customer, period))
        if period.start == case.work.period.start or now >= closes_at:
            return Held.LATE_AFTER_CLOSE
        receiving_work = Work(counter, period)
        streams = self._world.pushes.streams(*receiving_work)
        fresh = fresh_stream(*receiving_work, case.mapping, case.customer, self._life)
        receiving = _own(fresh, streams)
        reason = conflict(receiving, streams, case.mapping)
        if reason in {None, Held.PUSH_OPEN}:
            receiving_case = case._replace(work=receiving_work)
            reason = self._why_not_as_cut(receiving, fresh.key, receiving_case)
        if reason is not None:
            self._pusher.happenings.must_return |= reason is Held.RECUT
            return reason
        begun = self._pusher.begin(receiving, beside(receiving, streams), case.customer)
        if begun is not None:
            self._pusher.carry(carry(closed, begun, rest), case.customer)
        return None

    def _why_not_as_cut(self, own: PushStream, present: StreamKey, case: _Case) -> Held | None:
        """Why a stream must not begin, or go on, by the periods as they are cut now.

        One that was never stored may find usage of its period told under another cut. Of a customer
        whose calendar never changed there is no other cut, and nothing is asked. What we know of
        the customer may be older than a change; but then nothing is stored, because the write that
        begins a stream, or changes its period, holds only while the calendar is the one we know
        (`Change.customer`). And whoever comes after the change knows of it, asks, and finds every
        stream that began before.
        """
        customer, period = case.customer, case.work.period
        is_there = customer.calendar.period_of(period.start) == period
        if not is_there and not own.version:
            return Held.PERIOD_CHANGED  # The work was listed just before the change.
        is_as_cut = is_there and own.key == present
        if not is_as_cut or (customer.recuts and not own.version):
            reason = self._recut(own, case)
            if reason is not None:
                return reason
        if not own.version and own.kind is not StreamKind.DELTA:
            return None if self._world.pushes.claim(own) else Held.SHARED_VALUE
        return None

    def _recut(self, own: PushStream, case: _Case) -> Held | None:
        """Leave what was told under another cut to the streams of the periods as they are now."""

        def begin(period: Span) -> PushStream:
            work = Work(own.key.counter, period)
            fresh = self._fresh(case._replace(work=work), hour=own.key.hour)
            return replace(fresh, key=fresh.key._replace(target=own.key.target))

        recut = Recut(self._world.pushes, self._world.counters, self._world.clock.now())
        return recut.settle(own, case.customer, begin)


type _CustomerKey = tuple[TenantId, CustomerRef]


def _own(fresh: PushStream, streams: Iterable[PushStream]) -> PushStream:
    """The stored stream of a fresh one; its period may be as it was cut before."""
    return next((one for one in streams if one.key.id == fresh.key.id), fresh)


def _is_ceded(stream: PushStream) -> bool:
    """Whether a window's stream has left it to the period that the window lies in now."""
    hour, since = stream.key.hour, stream.ceded_from
    return hour is not None and since is not None and hour >= since


def _count(buckets: _Buckets) -> int:
    return sum(usage.counted.count + (usage.adjusted != 0) for usage in buckets.values())


def _by_period(groups: Sequence[Group]) -> dict[tuple[_CustomerKey, Span], list[Work]]:
    parts: dict[tuple[_CustomerKey, Span], list[Work]] = {}
    for work in (work for group in groups for work in group.work):
        customer = (work.counter.tenant, work.counter.customer)
        parts.setdefault((customer, work.period), []).append(work)
    return parts
