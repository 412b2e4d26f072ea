"""Gathering what reconciliation compares, in the order Stripe, pushes, counters, ledger."""

import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import NamedTuple

from metering.comparison import SUMMARY_LAG, Facts, Reading, Recount, recount
from metering.counter import CounterKey, Usage, total
from metering.errors import RetryableError
from metering.names import CustomerRef, Metric, TenantId
from metering.period import Span, month_named
from metering.ports import (
    Billing,
    Clock,
    Counters,
    IndexOffError,
    Ledger,
    Pushes,
    Settings,
    SetupError,
)
from metering.push import (
    CLOSE_GRACE,
    ONE_MINUTE,
    Held,
    Mode,
    Push,
    PushState,
    PushStream,
    Target,
    ceil_minute,
    floor_minute,
    quantity_of,
)
from metering.quantity import floor_scaled
from metering.reconciliation import Row, Status
from metering.route import conflict, fresh_stream, no_route
from metering.work import Customers, Work, customers_of

log = logging.getLogger("metering.reconciler")

READS_MAX = 1_000
"""Summaries asked of Stripe in one run."""
READING_LASTS = timedelta(hours=23)
"""How long a row that agrees keeps its reading while nothing is pushed."""
CHECKED_AFTER_CLOSE = timedelta(days=1)
"""How long the rows of a closed period are still compared anew."""
THREADS = 8
MOMENT = timedelta(microseconds=1)


class Sources(NamedTuple):
    """The ports that a reconciler reads."""

    ledger: Ledger
    counters: Counters
    settings: Settings
    pushes: Pushes
    billing: Billing
    clock: Clock


class Total(NamedTuple):
    """One running total at Stripe in one billing period."""

    target: Target
    meter_id: str
    period: Span


@dataclass(frozen=True, slots=True)
class _Read:
    """What Stripe said of a total, in scaled units."""

    scaled: int
    at: datetime


type Streams = dict[Work, list[PushStream]]


class Survey:
    """All facts about a tenant's counters in the billing periods that begin in one month.

    `former` are the rows of the latest report: what they still answer is not asked again.
    """

    def __init__(
        self,
        sources: Sources,
        tenant: TenantId,
        month: str,
        former: Mapping[Work, Row],
        reads_max: int = READS_MAX,
    ) -> None:
        self.now = sources.clock.now()
        self.reads = 0
        self._sources = sources
        self._tenant = tenant
        self._month = month
        self._former = former
        self._reads_max = reads_max
        self._life = self._find_life()

    def facts(self) -> list[Facts]:
        """The facts of every counter that must be compared anew, in no order."""
        with ThreadPoolExecutor(THREADS, "survey") as pool:
            streams = self._streams()
            work = self._work(streams)
            read = dict(pool.map(self._read, self._to_read(streams, work)))
            streams = self._streams()
            parts = {(one.counter.customer, one.period) for one in work}
            usage = dict(pool.map(self._usage, parts))
            ledger = self._recounts(work, usage, pool)
            readings = self._readings(streams, read)
            return [
                self._facts_of(one, streams.get(one, []), usage, ledger[one], readings.get(one))
                for one in work
            ]

    # --- what to look at ---

    def _work(self, streams: Streams) -> list[Work]:
        month = month_named(self._month)
        known = list(self._sources.counters.known(self._tenant))
        customers = self._customers([line.counter for line in known])
        found = set(streams)
        for line in known:
            customer = customers[self._tenant, line.counter.customer]
            # Periods are a month long, so exactly one begins in each month.
            period = customer.calendar.period_of(month.end - MOMENT)
            if line.newest >= period.start and period.start <= self.now:
                found.add(Work(line.counter, period))
        return [one for one in found if not self._is_settled(one)]

    def _is_settled(self, work: Work) -> bool:
        closed_at = work.period.end + CLOSE_GRACE
        return work in self._former and self.now >= closed_at + CHECKED_AFTER_CLOSE

    def _customers(self, counters: Iterable[CounterKey]) -> Customers:
        return customers_of(counters, self._sources.settings)

    # --- pushes ---

    def _streams(self) -> Streams:
        found: Streams = defaultdict(list)
        for stream in self._sources.pushes.of_month(self._tenant, self._month):
            found[Work(stream.key.counter, stream.key.period)].append(stream)
        return {work: self._of_this_life(streams) for work, streams in found.items()}

    def _of_this_life(self, streams: list[PushStream]) -> list[PushStream]:
        """Those of our key's mode, less the ones that a later life of the store has begun anew."""
        newest: dict[Target, PushStream] = {}
        for stream in sorted(streams, key=lambda one: one.key.incarnation):
            if self._life is None or stream.key.target.mode is self._life[0]:
                newest[stream.key.target] = stream
        return sorted(newest.values(), key=lambda one: one.key.id)

    def _find_life(self) -> tuple[Mode, int] | None:
        """Our key's mode and the store's incarnation; None while there is no key."""
        try:
            return self._sources.billing.mode, self._sources.pushes.incarnation()
        except SetupError as error:
            log.warning("Stripe is not read: %s", error)
            return None

    # --- Stripe ---

    def _to_read(self, streams: Streams, work: Iterable[Work]) -> list[Total]:
        if self._life is None:
            return []
        wanted = {
            _total_of(stream)
            for one in work
            if self._kept_reading(one, streams.get(one, [])) is None
            for stream in streams.get(one, [])
        }
        chosen = sorted(wanted)[: self._reads_max]
        if len(chosen) < len(wanted):
            log.warning(
                "%d of %d totals are not read: budget", len(wanted) - len(chosen), len(wanted)
            )
        self.reads = len(chosen)
        return chosen

    def _read(self, wanted: Total) -> tuple[Total, _Read | None]:
        target, meter_id, period = wanted
        end = min(floor_minute(period.end), floor_minute(self.now) + ONE_MINUTE)
        span = Span(ceil_minute(period.start), end)
        if span.start >= span.end:
            return wanted, _Read(0, self.now)
        try:
            seen = self._sources.billing.total(meter_id, target.customer, span, target.account)
        except (RetryableError, SetupError) as error:
            log.warning("%s of %s is not read: %s", target.event_name, target.customer, error)
            return wanted, None
        return wanted, _Read(floor_scaled(seen, 0), self.now)

    def _kept_reading(self, work: Work, streams: list[PushStream]) -> Reading | None:
        """The latest report's reading, where nothing was pushed since and all agreed."""
        row = self._former.get(work)
        if row is None or row.stripe is None or row.stripe_read_at is None:
            return None
        is_fresh = self.now - row.stripe_read_at < READING_LASTS
        pushed = sum((stream.accepted_quantity for stream in streams), Decimal(0))
        is_same = row.status is Status.OK and row.pushed == row.stripe == pushed
        is_quiet = not any(stream.open for stream in streams)
        return (
            Reading(row.stripe, row.stripe_read_at) if is_fresh and is_same and is_quiet else None
        )

    def _readings(
        self, streams: Streams, read: Mapping[Total, _Read | None]
    ) -> dict[Work, Reading | None]:
        """Each counter's part of what Stripe said.

        Where several counters feed one total, each is given what it pushed, and the first of them
        what is over or missing: Stripe cannot say whose that is.
        """
        parts = _parts(streams, read)
        readings: dict[Work, Reading | None] = {}
        for work, own in streams.items():
            kept = self._kept_reading(work, own)
            found = [parts.get(stream.key.id) for stream in own]
            known = [part for part in found if part is not None]
            if kept is not None and not known:
                readings[work] = kept
            elif known and len(known) == len(found):
                told = sum((part.total for part in known), Decimal(0))
                readings[work] = Reading(told, min(part.read_at for part in known))
        return readings

    # --- counters and ledger ---

    def _usage(
        self, part: tuple[CustomerRef, Span]
    ) -> tuple[tuple[CustomerRef, Span], "_ByMetric"]:
        customer, period = part
        buckets = self._sources.counters.usage(self._tenant, customer, period)
        by_metric: dict[Metric, list[Usage]] = defaultdict(list)
        for (metric, _), usage in buckets.items():
            by_metric[metric].append(usage)
        return part, {metric: total(usages) for metric, usages in by_metric.items()}

    def _recounts(
        self,
        work: list[Work],
        usage: Mapping[tuple[CustomerRef, Span], "_ByMetric"],
        pool: ThreadPoolExecutor,
    ) -> dict[Work, Recount]:
        """The ledger of each counter, by its index; where that cannot serve, by one pass."""
        try:
            counts = dict(zip(work, pool.map(self._recount, work), strict=True))
        except IndexOffError:
            return self._recount_all(work)
        # The index follows the ledger. Where it is behind the counter, the ledger itself is asked.
        behind = [one for one in work if counts[one].counted.count < _counted(one, usage)]
        return counts | self._recount_all(behind)

    def _recount(self, work: Work) -> Recount:
        return recount(self._sources.ledger.of_counter(*work), self.now)

    def _recount_all(self, work: list[Work]) -> dict[Work, Recount]:
        counts = {one: Recount() for one in work}
        if not work:
            return counts
        periods: dict[CounterKey, list[Span]] = defaultdict(list)
        for one in work:
            periods[one.counter].append(one.period)
        for entry in self._sources.ledger.of_tenant(self._tenant):
            event = entry.event
            counter = CounterKey(event.tenant, event.customer, event.metric)
            for period in periods.get(counter, ()):
                if event.occurred_at in period:
                    counts[Work(counter, period)].add(entry, self.now)
        return counts

    # --- all of it ---

    def _facts_of(
        self,
        work: Work,
        streams: list[PushStream],
        usage: Mapping[tuple[CustomerRef, Span], "_ByMetric"],
        ledger: Recount,
        reading: Reading | None,
    ) -> Facts:
        settings = self._sources.settings
        mapping = settings.active_mapping(self._tenant, work.counter.metric)
        metric = settings.metric(self._tenant, work.counter.metric)
        customer = settings.customer(self._tenant, work.counter.customer)
        return Facts(
            counter=work.counter,
            period=work.period,
            aggregation=mapping.aggregation if mapping else metric.aggregation,
            ledger=ledger,
            usage=usage[work.counter.customer, work.period].get(work.counter.metric, Usage()),
            scale=mapping.scale if mapping else 0,
            streams=streams,
            no_route=no_route(mapping, customer) or "",
            held=self._held(work, streams),
            stripe=reading,
            recent=self._recent(streams, reading),
            subscription_item_id=mapping.subscription_item_id if mapping else "",
        )

    def _held(self, work: Work, streams: list[PushStream]) -> str:
        """Why the writer holds the counter's usage back, if its settings are why."""
        mapping = self._sources.settings.active_mapping(self._tenant, work.counter.metric)
        customer = self._sources.settings.customer(self._tenant, work.counter.customer)
        if mapping is None or self._life is None or no_route(mapping, customer):
            return ""
        fresh = fresh_stream(*work, mapping, customer, self._life)
        own = next((one for one in streams if one.key.id == fresh.key.id), fresh)
        if not own.version and customer.recuts and self._was_told_otherwise(work):
            return Held.PERIOD_CHANGED
        return conflict(own, [one for one in streams if one is not own], mapping) or ""

    def _was_told_otherwise(self, work: Work) -> bool:
        """Whether usage of the period was told under another cut of periods."""
        return any(one.accepted for one in self._sources.pushes.overlapping(*work))

    def _recent(self, streams: list[PushStream], reading: Reading | None) -> list[Push]:
        """The pushes that Stripe's summary may not hold yet; read only where it differs."""
        pushed = sum((stream.accepted_quantity for stream in streams), Decimal(0))
        if reading is None or reading.total == pushed:
            return []
        return [
            push
            for stream in streams
            for push in self._sources.pushes.history(stream)
            if push.state is PushState.ACCEPTED
            and push.closed_at is not None
            and push.closed_at > reading.read_at - SUMMARY_LAG
        ]


type _ByMetric = dict[Metric, Usage]


def _counted(work: Work, usage: Mapping[tuple[CustomerRef, Span], _ByMetric]) -> int:
    own = usage[work.counter.customer, work.period].get(work.counter.metric, Usage())
    return own.counted.count


def _total_of(stream: PushStream) -> Total:
    return Total(stream.key.target, stream.meter_id, stream.key.period)


def _parts(streams: Streams, read: Mapping[Total, _Read | None]) -> dict[str, Reading]:
    """By stream id: the stream's part of its total at Stripe."""
    feeders: dict[Total, list[PushStream]] = defaultdict(list)
    for own in streams.values():
        for stream in own:
            feeders[_total_of(stream)].append(stream)
    parts = {}
    for wanted, feeding in feeders.items():
        seen = read.get(wanted)
        if seen is None:
            continue
        over = seen.scaled - sum(stream.accepted for stream in feeding)
        for stream in sorted(feeding, key=lambda one: one.key.id):
            told = quantity_of(stream.accepted + over, stream.scale)
            parts[stream.key.id] = Reading(told, seen.at)
            over = 0
    return parts
