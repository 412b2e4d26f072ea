"""Gathering what reconciliation compares, in the order Stripe, pushes, counters, ledger.

Reads are kept few. A row that agreed keeps its reading of Stripe for a day (`stripe_totals`). A
counter of an open period whose ledger was read and agreed is recounted when it has changed, as far
as a run's bound goes, and after a day at the latest. So an event that never reached its counter is
noticed within a day; at once when its period closes, or by a run that verifies.
"""

import logging
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import NamedTuple

from metering.counter import NO_USAGE, CounterKey, Usage, total
from metering.drill_down import DrillDown, Histories, Reads, Total
from metering.errors import RetryableError
from metering.evidence import Evidence, together
from metering.facts import (
    SUMMARY_LAG,
    ZERO,
    Facts,
    Reading,
    Recount,
    Recounted,
    mark_of,
    recount,
    recount_kept,
    recounted,
)
from metering.inventory import Inventory
from metering.invoice_numbers import Billed, InvoiceNumbers
from metering.last_value import last_before
from metering.mapping import Mapping as MeterMapping
from metering.names import CustomerRef, Identifier, Metric, TenantId
from metering.newest_value import NewestValue
from metering.period import Span, month_named
from metering.period_close import PeriodClose, PeriodState, takes_usage_until
from metering.ports import (
    Billing,
    Clock,
    Counters,
    IndexOffError,
    InvoiceLines,
    Ledger,
    LedgerTooLargeError,
    PeriodCloses,
    Pushes,
    Settings,
    SetupError,
    StripeCustomers,
)
from metering.push import Held, Mode, Push, PushState, PushStream, Role, StreamKind, Target
from metering.reconciliation import Cause, InvoiceNumber, Row
from metering.route import conflict, fresh_stream, is_even, no_route, stream_kind
from metering.stripe_findings import WITHOUT_MINUTES, needs_search
from metering.stripe_totals import (
    Due,
    Seen,
    Streams,
    Totals,
    Wish,
    due_for,
    in_order,
    kept_reading,
    total_of,
    totals_of,
)
from metering.threads import Threads
from metering.work import Customers, Work, customers_of

log = logging.getLogger("metering.reconciler")

CHECKED_AFTER_CLOSE = timedelta(hours=60)
"""How long the rows of a closed period are still compared anew: longer than usage may be late by
default."""
RECOUNT_LASTS = timedelta(hours=23)
"""How long a counter that has not changed is taken to agree with the ledger."""
RECOUNTS_MAX = 4_000
"""Counters that have changed since they agreed, less than a day ago, and are recounted in one run;
the rest of them follow in later runs."""
PASS_FROM = 1_000
"""From so many counters on, one pass over the ledger is tried before they are asked for singly."""
COUNTERS_A_PAGE = 100
"""A page of the ledger costs as much, in read units and CPU, as so many counters' queries."""
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
    closes: PeriodCloses
    invoice_lines: InvoiceLines
    stripe_customers: StripeCustomers


class Asked(NamedTuple):
    """What a survey is about, and how closely it looks."""

    tenant: TenantId
    month: str
    verify: bool = False
    """Read everything anew: no row keeps an earlier reading or recount."""
    only: CounterKey | None = None
    """One counter alone, whose hours are looked at even when its totals agree."""
    customers: Collection[CustomerRef] | None = None
    """These customers' counters alone; None for everybody's."""


type _ByMetric = dict[Metric, Usage]
type _Usage = Mapping[tuple[CustomerRef, Span], _ByMetric]


class Survey:
    """All facts about a tenant's counters in the billing periods that begin in one month.

    `former` are the rows of the latest report: what they still answer is not asked again.
    `reported` is what Stripe's error reports say of our pushes.
    """

    def __init__(
        self,
        sources: Sources,
        asked: Asked,
        former: Mapping[Work, Row],
        reads: Reads,
        reported: Mapping[Identifier, str] | None = None,
        threads: Threads = ThreadPoolExecutor,
    ) -> None:
        self.now = sources.clock.now()
        self._sources = sources
        self._threads = threads
        self._asked = asked
        self._former = former
        self._reads = reads
        self._reported = reported or {}
        self._totals = Totals(sources.billing, reads, self.now)
        self._evidence: dict[Total, Evidence] = {}
        self._inventory = Inventory(sources.billing, sources.stripe_customers, reads)
        self._life = self._find_life()
        self._past_lives: Streams = {}
        self._closes = {
            (close.customer, close.period.start): close
            for close in sources.closes.of_month(asked.tenant, asked.month)
        }

    @property
    def seen(self) -> Mapping[Total, Seen]:
        """The totals that were read."""
        return self._totals.seen

    def facts(self) -> list[Facts]:
        """The facts of every counter that must be compared anew, in no order."""
        with self._threads(THREADS, "survey") as pool:
            streams = self._streams()
            work = self._work(streams, pool)
            self._totals.read(self._wishes(streams, work), pool)
            streams = self._streams()
            parts = dict.fromkeys((one.counter.customer, one.period) for one in work)
            usage = dict(pool.map(self._usage, parts))
            ledger = self._recounts(work, usage, pool)
            readings = self._readings(streams)
            facts = {
                one: self._facts_of(one, streams.get(one, []), usage, ledger[one], readings)
                for one in work
            }
        self._search(facts, streams)
        self._look_up_invoices(facts)
        return [self._with_inventory(one) for one in facts.values()]

    # --- what to look at ---

    def _work(self, streams: Streams, pool: Executor) -> list[Work]:
        asked = self._asked
        month = month_named(asked.month)
        customer = asked.only.customer if asked.only else None
        known = list(self._sources.counters.known(asked.tenant, customer=customer))
        customers = self._customers([line.counter for line in known])
        found = set(streams)
        for line in known:
            who = customers[asked.tenant, line.counter.customer]
            for period in who.calendar.periods_beginning_in(month):
                if period.start <= min(line.newest, self.now):
                    found.add(Work(line.counter, period))
        if asked.only:
            return sorted(one for one in found if one.counter == asked.only)
        if asked.customers is not None:
            return sorted(one for one in found if one.counter.customer in asked.customers)
        settled = sorted(one for one in found if self._is_settled(one, streams.get(one, [])))
        return [*sorted(found.difference(settled)), *self._counted_since(settled, pool)]

    def _counted_since(self, settled: Collection[Work], pool: Executor) -> list[Work]:
        """Those whose counters hold another number than their rows: something came very late.

        Whatever the tenant's policy makes of it, the next report shows it.
        """
        parts = dict.fromkeys((one.counter.customer, one.period) for one in settled)
        usage = dict(pool.map(self._usage, parts))
        return [one for one in settled if self._value(one, usage) != self._former[one].counted]

    def _value(self, work: Work, usage: _Usage) -> Decimal:
        tenant, _, metric = work.counter
        mapping = self._sources.settings.active_mapping(tenant, metric)
        default = self._sources.settings.metric(tenant, metric).aggregation
        return _usage_of(work, usage).value(mapping.aggregation if mapping else default)

    def _is_settled(self, work: Work, streams: Sequence[PushStream]) -> bool:
        row, close = self._former.get(work), self._close_of(work)
        if row is None or (close is not None and close.state is not PeriodState.CLOSED):
            return False
        told_later = _carried_out([*streams, *self._past_lives.get(work, [])])
        if self._asked.verify or told_later != _named_as_carried(row):
            return False
        if due_for(row, streams, close, self.now) is Due.CLOSING:
            return False
        if close is not None and close.invoice and not (row.invoice and row.invoice.is_final):
            return False
        return self.now >= takes_usage_until(work.period, close) + CHECKED_AFTER_CLOSE

    def _close_of(self, work: Work) -> PeriodClose | None:
        return self._closes.get((work.counter.customer, work.period.start))

    def _customers(self, counters: Iterable[CounterKey]) -> Customers:
        return customers_of(counters, self._sources.settings)

    # --- pushes ---

    def _streams(self) -> Streams:
        found: dict[tuple[CounterKey, datetime], list[PushStream]] = defaultdict(list)
        for stream in self._sources.pushes.of_month(self._asked.tenant, self._asked.month):
            if not stream.is_given_up:
                found[stream.key.counter, stream.key.period.start].append(stream)
        customers = self._customers(counter for counter, _ in found)
        by_work = {
            _work_of(counter, streams, customers): streams
            for (counter, _), streams in found.items()
        }
        present = {work: self._of_this_life(streams) for work, streams in by_work.items()}
        self._past_lives = {
            work: self._of_former_lives(streams, present[work]) for work, streams in by_work.items()
        }
        return present

    def _of_this_life(self, streams: list[PushStream]) -> list[PushStream]:
        """Those of our key's mode, less the ones that a later life of the store has begun anew."""
        newest: dict[tuple[Target, datetime | None], PushStream] = {}
        for stream in sorted(streams, key=lambda one: one.key.incarnation):
            if self._life is None or stream.key.target.mode is self._life[0]:
                newest[stream.key.target, stream.key.hour] = stream
        return sorted(newest.values(), key=lambda one: one.key.id)

    def _of_former_lives(
        self, streams: list[PushStream], present: Collection[PushStream]
    ) -> list[PushStream]:
        mode = self._life[0] if self._life else None
        of_mode = (one for one in streams if mode in {None, one.key.target.mode})
        return [one for one in of_mode if one not in present]

    def _find_life(self) -> tuple[Mode, int, Role] | None:
        """Our key's mode, the store's incarnation, and whose; None while there is no key."""
        try:
            pushes = self._sources.pushes
            return self._sources.billing.mode, pushes.incarnation(), pushes.role
        except SetupError as error:
            log.warning("Stripe is not read: %s", error)
            return None

    # --- Stripe ---

    def _wishes(self, streams: Streams, work: Iterable[Work]) -> Iterator[Wish]:
        if self._life is None:
            return
        for one in work:
            own = streams.get(one, [])
            due = self._due(one, own)
            if due is not None:
                row = self._former.get(one)
                read_at = row.stripe_read_at if row else None
                for total_ in totals_of(own):
                    yield Wish(due, read_at or one.period.start, total_)

    def _due(self, work: Work, streams: Sequence[PushStream]) -> Due | None:
        row = self._former.get(work)
        due = due_for(row, streams, self._close_of(work), self.now)
        if due in {Due.CLOSING, Due.IN_DOUBT} or not streams:
            return due
        is_doubted = any(self._is_reported(stream) for stream in streams)
        return Due.IN_DOUBT if self._asked.verify or self._asked.only or is_doubted else due

    def _is_reported(self, stream: PushStream) -> bool:
        return any(sender in name for name in self._reported for sender in stream.sources)

    def _readings(self, streams: Streams) -> dict[Work, Reading]:
        readings = self._totals.readings(streams, self._evidence)
        for work, own in streams.items():
            row = self._former.get(work)
            if work in readings or self._asked.verify or row is None:
                continue
            if due_for(row, own, self._close_of(work), self.now) in {None, Due.SPARE}:
                readings[work] = kept_reading(row)
        return readings

    def _search(self, facts: dict[Work, Facts], streams: Streams) -> None:
        """Look into the totals that differ, and tell the counters' facts what was found."""
        doubted = [one for one in facts.values() if self._asked.only or needs_search(one)]
        wanted = {
            total_
            for one in doubted
            for total_ in totals_of(_with_minutes(one.streams))
            if total_ in self.seen
        }
        for total_ in sorted(wanted):
            self._search_one(total_, streams)
        for one in doubted:
            if one.streams and one.stripe and not _with_minutes(one.streams):
                work = Work(one.counter, one.period)
                facts[work] = replace(facts[work], evidence=Evidence())
        if not self._evidence:
            return
        readings = self._readings(streams)
        for work, one in facts.items():
            if self._evidence.keys() & totals_of(one.streams):
                found = self._evidence_for(one, streams)
                facts[work] = replace(one, stripe=readings.get(work), evidence=found)

    def _search_one(self, wanted: Total, streams: Streams) -> None:
        search = self._search_of(wanted, _feeding(wanted, streams))
        try:
            self._evidence[wanted] = search.search(self._first_looks())
        except (RetryableError, SetupError) as error:
            log.warning("%s is not looked into: %s", wanted, error)

    def _search_of(self, wanted: Total, feeding: list[PushStream]) -> DrillDown | NewestValue:
        billing, reads, now = self._sources.billing, self._reads, self.now
        if all(one.kind is StreamKind.LAST for one in feeding):
            seen = self.seen[wanted].scaled
            return NewestValue(
                billing, reads, wanted, seen, own=lambda: self._histories(feeding), now=now
            )
        return DrillDown(
            billing=billing,
            reads=reads,
            total=wanted,
            own=lambda: self._histories(feeding),
            neighbours=lambda: self._neighbours(feeding, wanted),
            now=now,
        )

    def _histories(self, streams: Iterable[PushStream]) -> Histories:
        return [(one, self._sources.pushes.history(one)) for one in streams]

    def _neighbours(self, streams: Iterable[PushStream], wanted: Total) -> Histories:
        """What the same counters told in the periods before and after."""
        found = []
        for counter in sorted({stream.key.counter for stream in streams}):
            customer = self._sources.settings.customer(counter.tenant, counter.customer)
            for instant in (wanted.period.start - MOMENT, wanted.period.end):
                period = customer.calendar.period_of(instant)
                found += self._sources.pushes.of_period(counter, period)
        return [(one, pushes) for one, pushes in found if one.key.target == wanted.target]

    def _first_looks(self) -> dict[Identifier, datetime]:
        """When the former report's pushes were first found missing."""
        return {
            Identifier(look.identifier): look.first_seen_at
            for row in self._former.values()
            for finding in row.findings
            for look in finding.looks
            if look.first_seen_at is not None
        }

    def _evidence_for(self, facts: Facts, streams: Streams) -> Evidence:
        """What was found of a counter's own pushes; and of nobody's here, if it comes first."""
        own = {stream.key.id for stream in facts.streams}
        found = []
        for total_ in sorted(totals_of(facts.streams) & self._evidence.keys()):
            one, feeding = self._evidence[total_], in_order(_feeding(total_, streams))
            others = {stream.key.id for stream in feeding} - own
            found.append(one.part_of(own, others, is_first=feeding[0].key.id in own))
        return together(found)

    # --- counters and ledger ---

    def _usage(self, part: tuple[CustomerRef, Span]) -> tuple[tuple[CustomerRef, Span], _ByMetric]:
        customer, period = part
        buckets = self._sources.counters.usage(self._asked.tenant, customer, period)
        by_metric: dict[Metric, list[Usage]] = defaultdict(list)
        for (metric, _), usage in buckets.items():
            by_metric[metric].append(usage)
        return part, {metric: total(usages) for metric, usages in by_metric.items()}

    def _recounts(self, work: list[Work], usage: _Usage, pool: Executor) -> dict[Work, Recounted]:
        """The ledger of each counter; of some, that it agreed when it was last read."""
        kept = self._kept_recounts(work, usage)
        wanted = [one for one in work if one not in kept]
        counts = self._count(wanted, usage, pool)
        return kept | {
            one: recounted(count, _usage_of(one, usage), self.now) for one, count in counts.items()
        }

    def _kept_recounts(self, work: Iterable[Work], usage: _Usage) -> dict[Work, Recounted]:
        """Of counters that need not be recounted, or not in this run as too many come first."""
        agreed = {one: row for one in work if (row := self._agreed(one)) is not None}
        changed = [
            one for one, row in agreed.items() if row.usage_mark != mark_of(_usage_of(one, usage))
        ]
        changed.sort(key=lambda one: agreed[one].recounted_at or self.now)
        now = set(changed[:RECOUNTS_MAX])
        return {
            one: Recounted(recount_kept(_usage_of(one, usage)), row.recounted_at, row.usage_mark)
            for one, row in agreed.items()
            if one not in now
        }

    def _agreed(self, work: Work) -> Row | None:
        """The former row of a counter whose ledger was read and agreed less than a day ago."""
        row = self._former.get(work)
        if self._asked.verify or row is None or row.recounted_at is None:
            return None
        is_fresh = self.now - row.recounted_at < RECOUNT_LASTS
        return row if is_fresh and (self.now < work.period.end) else None

    def _count(self, work: list[Work], usage: _Usage, pool: Executor) -> dict[Work, Recount]:
        """By the ledger's index; where that cannot serve, or costs more, by one pass over all."""
        try:
            if len(work) >= PASS_FROM:
                return self._recount_all(work, pages_max=len(work) // COUNTERS_A_PAGE)
        except LedgerTooLargeError:
            log.info("%d counters are recounted one by one: the ledger is large", len(work))
        try:
            counts = dict(zip(work, pool.map(self._recount, work), strict=True))
        except IndexOffError:
            return self._recount_all(work)
        # The index follows the ledger. Where it is behind the counter, the ledger itself is asked.
        behind = [one for one in work if counts[one].usage.entries < _usage_of(one, usage).entries]
        return counts | self._recount_all(behind)

    def _recount(self, work: Work) -> Recount:
        return recount(self._sources.ledger.of_counter(*work), self.now)

    def _recount_all(
        self, work: list[Work], *, pages_max: int | None = None
    ) -> dict[Work, Recount]:
        counts = {one: Recount() for one in work}
        if not work:
            return counts
        periods: dict[CounterKey, list[Span]] = defaultdict(list)
        for one in work:
            periods[one.counter].append(one.period)
        for entry in self._sources.ledger.to_recount(self._asked.tenant, pages_max=pages_max):
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
        usage: _Usage,
        ledger: Recounted,
        readings: Mapping[Work, Reading],
    ) -> Facts:
        settings = self._sources.settings
        tenant, ref, metric = work.counter
        mapping = settings.active_mapping(tenant, metric)
        customer = settings.customer(tenant, ref)
        default = settings.metric(tenant, metric).aggregation
        return Facts(
            counter=work.counter,
            period=work.period,
            aggregation=mapping.aggregation if mapping else default,
            ledger=ledger.recount,
            usage=_usage_of(work, usage),
            standing=self._standing(work, mapping, _usage_of(work, usage)),
            scale=mapping.scale if mapping else 0,
            streams=streams,
            former=self._past_lives.get(work, []),
            no_route=no_route(mapping, customer) or "",
            held=self._held(work, streams),
            stripe=readings.get(work),
            recent=self._recent(streams, readings.get(work)),
            subscription_item_id=mapping.subscription_item_id if mapping else "",
            close=self._close_of(work),
            after_close=settings.tenant(tenant).after_close,
            reported=self._reported,
            recounted_at=ledger.agreed_at,
            recount_mark=ledger.mark,
        )

    def _standing(self, work: Work, mapping: MeterMapping | None, usage: Usage) -> Decimal:
        """The last value before a period that has none of its own yet."""
        if mapping is None or stream_kind(mapping) is not StreamKind.LAST or usage.counted.count:
            return ZERO
        before = last_before(self._sources.counters, work)
        return before.quantity if before else ZERO

    def _held(self, work: Work, streams: list[PushStream]) -> str:
        """Why the writer holds the counter's usage back, if its settings are why."""
        mapping = self._sources.settings.active_mapping(work.counter.tenant, work.counter.metric)
        customer = self._sources.settings.customer(work.counter.tenant, work.counter.customer)
        if mapping is None or self._life is None or no_route(mapping, customer):
            return ""
        if mapping.meter_window and not is_even(work.period, mapping.meter_window):
            return Held.UNEVEN_PERIOD
        # Windows, and a legacy price's item, are what was told; any stands for all of them.
        told = streams[0].key if streams and stream_kind(mapping) is streams[0].kind else None
        fresh = fresh_stream(
            *work,
            mapping,
            customer,
            self._life,
            hour=told.hour if told else None,
            subscription_item=told.target.subscription_item if told else "",
        )
        own = next((one for one in streams if one.key.id == fresh.key.id), fresh)
        if not own.version and customer.recuts and self._was_told_otherwise(work):
            return Held.PERIOD_CHANGED
        return conflict(own, [one for one in streams if one is not own], mapping) or ""

    def _was_told_otherwise(self, work: Work) -> bool:
        """Whether usage of the period was told under another cut of periods."""
        return any(one.accepted for one in self._sources.pushes.overlapping(*work))

    def _recent(self, streams: list[PushStream], reading: Reading | None) -> list[Push]:
        """The pushes that Stripe's summary may not hold yet; read only where it differs."""
        facts_told = sum((stream.accepted_quantity for stream in streams), start=ZERO)
        if reading is None or reading.told is not None or reading.total == facts_told:
            return []
        return [
            push
            for stream in streams
            for push in self._sources.pushes.history(stream)
            if push.state is PushState.ACCEPTED
            and push.closed_at is not None
            and push.closed_at > reading.read_at - SUMMARY_LAG
        ]

    # --- invoices and what stands behind them ---

    def _look_up_invoices(self, facts: dict[Work, Facts]) -> None:
        numbers = InvoiceNumbers(self._sources.invoice_lines, self._reads)
        billed = [one for work, every in facts.items() for one in self._billed(work, every)]
        for work, number in numbers.of(billed, self._former).items():
            facts[work] = replace(facts[work], invoice=number)

    def _billed(self, work: Work, facts: Facts) -> Iterator[Billed]:
        mapping = self._mapping_of(facts)
        if self._life is None or mapping is None or facts.close is None or not facts.close.invoice:
            return
        yield Billed(work, mapping, facts.close, facts.pushed)

    def _with_inventory(self, facts: Facts) -> Facts:
        """With what is wrong with the meter and price, and where something differs the customer."""
        mapping = self._mapping_of(facts)
        if mapping is None or not self.seen.keys() & totals_of(facts.streams):
            return facts
        findings = self._inventory.of_mapping(mapping)
        if _differs(facts):
            for customer in sorted({stream.key.target.customer for stream in facts.streams}):
                findings += self._inventory.of_customer(customer, mapping)
        return replace(facts, inventory=findings)

    def _mapping_of(self, facts: Facts) -> MeterMapping | None:
        tenant, _, metric = facts.counter
        return None if facts.no_route else self._sources.settings.active_mapping(tenant, metric)


def _work_of(counter: CounterKey, streams: Sequence[PushStream], customers: Customers) -> Work:
    """A counter and its streams' present period, whose end may have moved since they began."""
    told, customer = streams[0].key.period, customers[counter.tenant, counter.customer]
    present = customer.calendar.period_of(told.start)
    return Work(counter, present if present.start == told.start else told)


def _carried_out(streams: Iterable[PushStream]) -> Decimal:
    """What later periods tell for a counter's period."""
    return sum((one.carried_out for one in streams), ZERO)


def _named_as_carried(row: Row) -> Decimal:
    """What a former row says that later periods tell."""
    named = (one for one in row.findings if one.cause is Cause.LATE_AFTER_CLOSE and one.is_settled)
    return sum((one.amount for one in named), ZERO)


def _with_minutes(streams: Iterable[PushStream]) -> list[PushStream]:
    """The streams of whose totals single minutes can be looked into."""
    return [stream for stream in streams if stream.kind not in WITHOUT_MINUTES]


def _feeding(wanted: Total, streams: Streams) -> list[PushStream]:
    """The streams whose pushes go into a total."""
    return [one for every in streams.values() for one in every if total_of(one) == wanted]


def _usage_of(work: Work, usage: _Usage) -> Usage:
    return usage[work.counter.customer, work.period].get(work.counter.metric, NO_USAGE)


def _differs(facts: Facts) -> bool:
    """Whether what Stripe does with what it is told may be why numbers differ."""
    is_stopped = any(stream.stopped for stream in facts.streams)
    is_billed_otherwise = _bills_otherwise(facts.invoice, facts)
    return is_stopped or is_billed_otherwise or needs_search(facts)


def _bills_otherwise(invoice: InvoiceNumber | None, facts: Facts) -> bool:
    return invoice is not None and invoice.quantity != max(facts.pushed, ZERO)
