"""Whether what was counted already can be told to Stripe at a mapping's scale."""

from collections.abc import Iterable, Iterator
from datetime import datetime
from decimal import Decimal
from itertools import islice
from typing import NamedTuple

from metering.counter import total
from metering.errors import BadRequestError
from metering.mapping import Mapping
from metering.names import CustomerRef
from metering.ports import Counters, Settings
from metering.push import VALUE_LIMIT
from metering.quantity import EXACT, canonical

LOOKED_AT_MAX = 1_000
"""Counters of a metric; a person waits for the answer."""
SCALE_MAX = 12


class Counted(NamedTuple):
    """What a customer has used in its latest billing period, in the metric's unit."""

    customer: CustomerRef
    total: Decimal


def counted(
    mapping: Mapping, counters: Counters, settings: Settings, now: datetime
) -> Iterator[Counted]:
    """What the metric's customers have used; of very many, some."""
    known = (one for one in counters.known(mapping.tenant) if one.counter.metric == mapping.metric)
    looked_at = list(islice(known, LOOKED_AT_MAX))
    customers = settings.customers(mapping.tenant, [one.counter.customer for one in looked_at])
    for one in looked_at:
        ref = one.counter.customer
        period = customers[ref].calendar.period_of(min(one.newest, now))
        usage = counters.usage(mapping.tenant, ref, period)
        parts = [part for (metric, _), part in usage.items() if metric == mapping.metric]
        yield Counted(ref, total(parts).value(mapping.aggregation))


def check_fits(mapping: Mapping, usage: Iterable[Counted]) -> None:
    """Pass when every total has at most 15 digits at the mapping's scale, as Stripe demands.

    Raises:
        BadRequestError: one has more; it names the customer and the greatest scale that fits.
    """
    greatest = max(usage, key=lambda one: abs(one.total), default=None)
    if greatest is None or _fits(greatest.total, mapping.scale):
        return
    fitting = [scale for scale in range(SCALE_MAX + 1) if _fits(greatest.total, scale)]
    advice = f"the greatest scale that fits is {fitting[-1]}" if fitting else "no scale fits"
    raise BadRequestError(
        f"scale: customer {greatest.customer} has used {canonical(greatest.total)} in its billing"
        f" period, which at scale {mapping.scale} has more than the 15 digits that Stripe takes;"
        f" {advice}",
        error="Validation Error",
    )


def _fits(quantity: Decimal, scale: int) -> bool:
    return abs(quantity).scaleb(scale, EXACT) < VALUE_LIMIT
