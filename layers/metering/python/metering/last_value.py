"""The last value of a metric before a billing period: what stands until the period has its own.

Stripe knows no "last ever": a period in which nothing was told bills 0.
"""

from datetime import timedelta

from metering.counter import Last, total
from metering.period import FIRST, Span
from metering.ports import Counters
from metering.work import MOMENT, Work

FIRST_LOOK = timedelta(days=2)
LOOKS_MAX = 10
"""Each twice as far back as the one before: together some five years."""


def last_before(counters: Counters, work: Work) -> Last | None:
    """A counter's newest counted event before a period; None when there is none.

    The directory says where to begin: for a counter that has rested, its newest event.
    """
    counter = work.counter
    known = counters.known(counter.tenant, customer=counter.customer)
    newest = next((line.newest for line in known if line.counter == counter), None)
    if newest is None:
        return None
    end, look = min(newest + MOMENT, work.period.start), FIRST_LOOK
    for _ in range(LOOKS_MAX):
        start = end - min(look, end - FIRST)
        found = _last_in(counters, work, Span(start, end))
        if found is not None or start == FIRST:
            return found
        end, look = start, 2 * look
    return None


def _last_in(counters: Counters, work: Work, span: Span) -> Last | None:
    """The newest event of the buckets that start within a span."""
    usage = counters.usage(work.counter.tenant, work.counter.customer, span)
    own = (part for (metric, _), part in usage.items() if metric == work.counter.metric)
    return total(own).counted.last
