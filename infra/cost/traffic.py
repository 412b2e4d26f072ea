"""How usage spreads over counters, and with that how many counters a batch of events touches.

Each counter that a batch touches is one write, so this number decides what counting costs.
"""

from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache

type Shares = tuple[tuple[Decimal, int], ...]
"""Counters of equal share: the share of one, and how many there are."""

_REAL = ((Decimal("0.35"), 1), (Decimal("0.43"), 4), (Decimal("0.12"), 5))
"""The first customer has 35 % of all traffic, five have 78 %, ten 90 % (`make bench`)."""
REST = Decimal("0.10")
TOP = 10


@dataclass(frozen=True, slots=True)
class Spread:
    """Customers, each with some metrics that it uses alike."""

    customers: int
    metrics: int = 1
    even: bool = False
    """Whether all customers use as much; else the skew is that of real traffic."""

    @property
    def counters(self) -> int:
        """Of all customers and metrics."""
        return self.customers * self.metrics

    @property
    def shares(self) -> Shares:
        """What part of all events each counter gets."""
        if self.even or self.customers <= TOP:
            return ((Decimal(1) / self.counters, self.counters),)
        rest = self.customers - TOP
        groups = [*((share / many, many) for share, many in _REAL), (REST / rest, rest)]
        return tuple((share / self.metrics, many * self.metrics) for share, many in groups)

    def touched(self, events: Decimal) -> Decimal:
        """How many counters so many events are expected to be of.

        A counter with share p is missed by all n events with probability (1-p)^n. `events` may be
        a fraction: it is the mean of many stretches of time.
        """
        return touched(self.shares, events)


@lru_cache(maxsize=4096)
def touched(shares: Shares, events: Decimal) -> Decimal:
    """See `Spread.touched`."""
    return sum((many * (1 - (1 - share) ** events) for share, many in shares), Decimal(0))
