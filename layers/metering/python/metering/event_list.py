"""A page of the ledger's events: by time across many counters, opening only the counters it needs.

The ledger lists events counter by counter. The directory says how new each counter's newest event
can be, so a page of the newest events is merged from few counters, however many a tenant has.
"""

import heapq
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import islice
from typing import NamedTuple

from metering.counter import CounterKey
from metering.errors import BadRequestError
from metering.event import LedgerEntry, Source
from metering.names import CustomerRef, Metric, TenantId
from metering.period import Span
from metering.ports import Counters, KnownCounter, Ledger

ENTRIES_MAX = 10_000
"""How many entries one listing may read; a few seconds' work."""
COUNTERS_MAX = 500
"""How many counters one listing may open; each costs a read per shard of the index."""
LISTED_MAX = 20_000
"""How many lines of the directory one listing may look at."""
CUSTOMERS_MAX = 100
"""Of how many customers a listing adds up the counters to know its total."""

ALL_TIME = Span(datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC))
_TICK = timedelta(microseconds=1)


class Order(StrEnum):
    """What a listing is sorted by; within equal values the newest come first."""

    TIME = "ts"
    METRIC = "metric"
    CUSTOMER = "customerRef"
    SOURCE = "source"


@dataclass(frozen=True, slots=True)
class EventQuery:
    """Which of a tenant's events, in which order, and which part of them."""

    tenant: TenantId
    metric: Metric | None
    customer: CustomerRef | None
    source: Source | None
    first: datetime | None
    """The earliest event time, itself included."""
    last: datetime | None
    """The latest event time, itself included."""
    order: Order
    is_descending: bool
    offset: int
    limit: int

    @property
    def span(self) -> Span:
        """The event times asked for."""
        end = min(self.last, ALL_TIME.end - _TICK) + _TICK if self.last else ALL_TIME.end
        return Span(self.first or ALL_TIME.start, end)


@dataclass(frozen=True, slots=True)
class EventPage:
    """The entries asked for, and how many there are in all."""

    entries: tuple[LedgerEntry, ...]
    total: int
    is_total_exact: bool
    """False when counting on would have read too much; there are at least `total`."""


class TooMuchToReadError(BadRequestError):
    """The listing would read too much; its message says how to ask for less. HTTP 422."""

    def __init__(self) -> None:
        super().__init__(
            "This listing would read too many events. Name a customerRef and a metric, give"
            " startTime and endTime, lower the offset, or sort by ts descending.",
            status=422,
            error="Too much to read",
        )


class EventList:
    """Lists a tenant's events."""

    def __init__(self, ledger: Ledger, counters: Counters) -> None:
        self._ledger = ledger
        self._counters = counters

    def page(self, query: EventQuery) -> EventPage:
        """The page that a query asks for.

        Raises:
            TooMuchToReadError: it cannot be found within the limits.
            IndexOffError: events cannot be listed in this deployment.
        """
        known = self._known(query)
        budget = Budget(ENTRIES_MAX, COUNTERS_MAX)
        entries = self._matching(query, known, budget)
        skipped = sum(1 for _ in islice(entries, query.offset))
        page = tuple(islice(entries, query.limit))
        if len(page) < query.limit:
            budget.must_not_be_spent()
            return EventPage(page, skipped + len(page), is_total_exact=True)
        counted = self._counted(query, known)
        if counted is not None:
            return EventPage(page, max(counted, skipped + len(page)), is_total_exact=True)
        rest = sum(1 for _ in entries)
        return EventPage(page, skipped + len(page) + rest, is_total_exact=not budget.is_spent)

    def _known(self, query: EventQuery) -> list[KnownCounter]:
        lines = self._counters.known(query.tenant, customer=query.customer)
        known = list(islice(lines, LISTED_MAX + 1))
        if len(known) > LISTED_MAX:
            raise TooMuchToReadError
        return [
            line
            for line in known
            if query.metric in {None, line.counter.metric} and line.newest >= query.span.start
        ]

    # --- the entries in order ---------------------------------------------------------------------

    def _matching(
        self, query: EventQuery, known: list[KnownCounter], budget: "Budget"
    ) -> Iterator[LedgerEntry]:
        def entries_of(counter: CounterKey) -> Iterator[LedgerEntry]:
            if not budget.take_counter():
                return iter(())
            entries = self._ledger.of_counter(
                counter,
                query.span,
                newest_first=query.order is not Order.TIME or query.is_descending,
                page_size=min(query.offset + query.limit + 1, 1000),
            )
            return budget.metered(entries)

        for entry in _in_order(query, known, entries_of):
            if budget.is_spent:
                return  # an entry that was not read may belong before this one
            if query.source in {None, entry.event.source}:
                yield entry

    # --- how many ---------------------------------------------------------------------------------

    def _counted(self, query: EventQuery, known: list[KnownCounter]) -> int | None:
        """How many events the counters hold; None when they cannot tell or are too many to ask."""
        customers = {line.counter.customer for line in known}
        if query.first or query.last or query.source or len(customers) > CUSTOMERS_MAX:
            return None
        wanted = {line.counter for line in known}
        total = 0
        for customer in customers:
            usage = self._counters.usage(query.tenant, customer, ALL_TIME)
            for (metric, _), held in usage.items():
                if CounterKey(query.tenant, customer, metric) in wanted:
                    total += held.entries
        return total


class Budget:
    """What a listing may still read; it ends entries rather than overrun."""

    def __init__(self, entries: int, counters: int) -> None:
        self._entries = entries
        self._counters = counters
        self.is_spent = False

    def take_counter(self) -> bool:
        """Whether one more counter may be opened."""
        self._counters -= 1
        self.is_spent = self.is_spent or self._counters < 0
        return self._counters >= 0

    def metered(self, entries: Iterator[LedgerEntry]) -> Iterator[LedgerEntry]:
        """The entries, as far as the budget goes."""
        for entry in entries:
            if self._entries == 0:
                self.is_spent = True
                return
            self._entries -= 1
            yield entry

    def must_not_be_spent(self) -> None:
        """Pass when nothing was left out.

        Raises:
            TooMuchToReadError: something was.
        """
        if self.is_spent:
            raise TooMuchToReadError


type Open = Callable[[CounterKey], Iterator[LedgerEntry]]


def _in_order(
    query: EventQuery, known: list[KnownCounter], entries_of: Open
) -> Iterable[LedgerEntry]:
    match query.order:
        case Order.TIME if query.is_descending:
            return newest_first(known, entries_of)
        case Order.TIME:
            return oldest_first(known, entries_of)
        case Order.SOURCE:
            found = list(newest_first(known, entries_of))
            return sorted(found, key=_source, reverse=query.is_descending)
        case Order.METRIC:
            return _by_counter(known, entries_of, _metric_first, reverse=query.is_descending)
        case Order.CUSTOMER:
            return _by_counter(known, entries_of, _customer_first, reverse=query.is_descending)


def _source(entry: LedgerEntry) -> str:
    return entry.event.source


def _metric_first(line: KnownCounter) -> tuple[str, str]:
    return line.counter.metric, line.counter.customer


def _customer_first(line: KnownCounter) -> tuple[str, str]:
    return line.counter.customer, line.counter.metric


def _by_counter(
    known: list[KnownCounter],
    entries_of: Open,
    key: Callable[[KnownCounter], tuple[str, str]],
    *,
    reverse: bool,
) -> Iterator[LedgerEntry]:
    for line in sorted(known, key=key, reverse=reverse):
        yield from entries_of(line.counter)


class _Head(NamedTuple):
    """The next entry of an open counter; sorts newest first, equal times by customer and metric."""

    age: timedelta
    counter: CounterKey
    entry: LedgerEntry
    rest: Iterator[LedgerEntry]


def newest_first(known: Iterable[KnownCounter], entries_of: Open) -> Iterator[LedgerEntry]:
    """The counters' entries, newest first; a counter is opened once it may hold the next one."""
    closed = deque(sorted(known, key=lambda line: (line.newest, line.counter), reverse=True))
    heads: list[_Head] = []
    while closed or heads:
        while closed and (not heads or closed[0].newest >= heads[0].entry.event.occurred_at):
            counter = closed.popleft().counter
            _push(heads, counter, entries_of(counter))
        if heads:
            head = heapq.heappop(heads)
            yield head.entry
            _push(heads, head.counter, head.rest)


def _push(heads: list[_Head], counter: CounterKey, entries: Iterator[LedgerEntry]) -> None:
    entry = next(entries, None)
    if entry is not None:
        age = ALL_TIME.end - entry.event.occurred_at
        heapq.heappush(heads, _Head(age, counter, entry, entries))


def oldest_first(known: Iterable[KnownCounter], entries_of: Open) -> Iterator[LedgerEntry]:
    """The counters' entries, oldest first; every counter is opened, for any may hold the oldest."""
    counters = sorted(line.counter for line in known)
    streams = [entries_of(counter) for counter in counters]
    return heapq.merge(*streams, key=lambda entry: entry.event.occurred_at)
