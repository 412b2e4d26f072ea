"""A world as its seed draws it: who is there, how much happens, and what may go wrong.

Every fault is wholly off in about a third of the worlds, so that no fault hides what another one
would show.
"""

import random
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
OFF = 0.35
"""How likely a fault is wholly off."""


class Kind(StrEnum):
    """How far the way of an event goes in a world; the shorter, the more worlds a second."""

    COUNTING = "counting"
    """To the counters: ingest, queue, aggregator, lane folder, rebuilds, late events."""
    BILLING = "billing"
    """To Stripe: also writer, reconciler, adjustments, all within a billing period."""
    CLOSING = "closing"
    """To the invoice: also subscriptions, webhooks, the end of a billing period and its close."""


@dataclass(frozen=True, slots=True)
class Faults:
    """How often what goes wrong; a rate of a call unless told otherwise. All zero: a good day."""

    crash: float = 0.0
    """F3: before a call, and after it has had its effect."""
    throttle: float = 0.0
    """F4: refused, or a transaction that collides."""
    unanswered: float = 0.0
    """F5: lost, answer lost, or taking effect long after."""
    slow: float = 0.0
    """F6: an invocation stands still for longer than its function's timeout, then goes on."""
    api_lost: float = 0.0
    """F5 between a client and us: its request or our answer is lost; of a request."""
    redelivered: float = 0.0
    """F7: a stream's batch comes again after success, re-cut; of a batch."""
    overlapping: float = 0.0
    """F7: two pollers hold the same shard; of a batch."""
    reshards: float = 0.0
    """F7: shards split or roll; of a poll."""
    poison: float = 0.0
    """F7: a record that nobody can read is in the ledger's stream; of an event."""
    queue_repeats: float = 0.0
    """F8: a message comes twice, late, or out of order; of a message."""
    stripe_refuses: float = 0.0
    """F9: 429, 500 with and without effect, 503; of a request."""
    stripe_unanswered: float = 0.0
    """F9: lost, answer lost, taking effect long after; of a request."""
    outage: float = 0.0
    """F9: how likely the world has an outage, in which half of what is sent lands."""
    summaries_lag_s: float = 0.0
    """F10: Stripe's summaries are that old."""
    refused_later: float = 0.0
    """F10: how likely a meter is switched off for a while, and Stripe says so only afterwards."""
    webhooks: float = 0.0
    """F11: lost, late, double, overtaken, of the wrong signature; of a delivery."""
    skew_s: float = 0.0
    """F12: machines' clocks differ by so much."""
    schedules: float = 0.0
    """F13: a schedule fires twice, late or not at all; of a firing."""
    stale: float = 0.0
    """F14: indexes and eventually consistent reads show the past; of a read."""
    partial: float = 0.0
    """F4: batches are done in part, pages end early; of a call."""
    drift: float = 0.0
    """F16: how likely Stripe silently loses or doubles one event in the world."""
    latency_ms: float = 20.0
    """Of a call, at most."""


NO_FAULTS = Faults()
_MOST = Faults(
    crash=0.02,
    throttle=0.08,
    unanswered=0.05,
    slow=0.004,
    api_lost=0.15,
    redelivered=0.1,
    overlapping=0.05,
    reshards=0.08,
    poison=0.02,
    queue_repeats=0.15,
    stripe_refuses=0.1,
    stripe_unanswered=0.1,
    outage=0.6,
    summaries_lag_s=3600.0,
    refused_later=0.5,
    webhooks=0.15,
    skew_s=280.0,
    schedules=0.1,
    stale=0.5,
    partial=0.2,
    drift=0.3,
)
"""The most that worlds draw of each."""
_STYLE = frozenset({"latency_ms"})


@dataclass(frozen=True, slots=True)
class Drawn:
    """A world's make-up; shrinking makes another with less in it."""

    seed: int
    kind: Kind
    start: datetime
    span: timedelta
    """How long clients send and things go wrong."""
    tenants: int
    customers: int
    """Of each tenant."""
    metrics: int
    """Of each tenant: the first of `METRICS`."""
    events: int
    shards: int
    late: float
    """Part of the events that come late: F2."""
    again: float
    """Part of the events that are sent again, in this or another spelling: F1."""
    conflicting: float
    """Part of the events whose key is used again for something else: F1."""
    queued: float
    """Part of the requests that go through SQS."""
    adjustments: int
    rebuilds: int
    approvals: int
    """How often somebody approves all late events that wait, while things go wrong."""
    changes: int
    """How often somebody changes or ends a subscription."""
    deploys: int
    """F15: how often all warm environments are replaced."""
    partitions: int | None
    """Over how many partitions hot lists are spread; None: as the product does it."""
    faults: Faults
    restores: int = 0
    """How often the billing table is restored from a backup: at most once."""
    left_out: tuple[int, ...] = ()
    """Places of events that are not sent after all: shrinking finds which ones matter."""


FAULT_NAMES = tuple(one.name for one in fields(Faults) if one.name not in _STYLE)
_KINDS = (*(Kind.COUNTING,) * 35, *(Kind.BILLING,) * 4, Kind.CLOSING)
"""The cheap ones most: they reach more of what befalls a counter a second than the others."""
_STARTS = (
    datetime(2026, 11, 14, 9, tzinfo=UTC),
    datetime(2026, 11, 30, 21, tzinfo=UTC),  # The month ends meanwhile.
    datetime(2026, 12, 31, 22, tzinfo=UTC),  # So does the year.
    datetime(2027, 2, 28, 20, tzinfo=UTC),
    datetime(2028, 2, 28, 23, tzinfo=UTC),  # The next day is a leap day.
    datetime(2027, 3, 27, 23, tzinfo=UTC),  # Clocks in Europe change in the night after.
)


_AMID_A_MONTH = (_STARTS[0], _STARTS[-1])
LONG_OUTAGE = 36 * HOUR
"""How long a world is in which Stripe is out for longer than it remembers identifiers."""
LONG_COUNT = 4 * DAY
"""How long one is in which lanes come to rest and are folded."""
IS_RESTORED = 0.03
"""How likely the billing table is restored, where it is no matter of closing."""
IS_LONG = 0.1
"""How likely that is."""


def draw(seed: int) -> Drawn:
    """The world of a seed."""
    chance = random.Random(f"world {seed}")
    kind = chance.choice(_KINDS)
    size = chance.choice((0.2, 0.4, 0.7, 1.3))
    return Drawn(
        seed=seed,
        kind=kind,
        start=chance.choice(_AMID_A_MONTH if kind is Kind.BILLING else _STARTS)
        + timedelta(seconds=chance.randrange(3600)),
        span=_span(chance, kind),
        tenants=chance.choice((1, 1, 1, 1, 2) if kind is Kind.CLOSING else (1, 1, 2)),
        customers=chance.randint(1, 2 if kind is Kind.CLOSING else 3),
        metrics=chance.randint(1, 3 if kind is Kind.CLOSING else 4),
        events=round(chance.randint(8, 40) * size),
        shards=chance.choice((1, 2, 3)),
        late=_rate(chance, 0.3),
        again=_rate(chance, 0.4),
        conflicting=_rate(chance, 0.2),
        queued=_rate(chance, 0.6),
        adjustments=chance.choice((0, 0, 1, 3)),
        rebuilds=chance.choice((0, 0, 0, 1)),
        approvals=chance.choice((0, 0, 1)),
        changes=chance.choice((0, 1, 2)) if kind is Kind.CLOSING else 0,
        deploys=chance.choice((0, 0, 1, 3)),
        partitions=chance.choice((1, 1, 1, 1, 2, 2, 2, None)),
        faults=_faults(chance),
        restores=_restores(seed, kind),
    )


BUSY_FOR = timedelta(minutes=20)


def busy_from(drawn: Drawn) -> datetime:
    """When half of the events come of a world in which counters are rebuilt: just then."""
    at = random.Random(f"busy {drawn.seed}").uniform(0.1, 0.6)
    return drawn.start + drawn.span * at


def _restores(seed: int, kind: Kind) -> int:
    """By its own chance; somewhat more would be a pity, for such a world lasts hours longer."""
    return int(kind is Kind.BILLING and random.Random(f"restore {seed}").random() < IS_RESTORED)


def _span(chance: random.Random, kind: Kind) -> timedelta:
    """How long it lasts; in a long one of billing, Stripe is out for most of it."""
    if chance.random() < IS_LONG:
        return LONG_COUNT if kind is Kind.COUNTING else LONG_OUTAGE
    return chance.choice((HOUR, 3 * HOUR, 8 * HOUR))


def _rate(chance: random.Random, most: float) -> float:
    return 0.0 if chance.random() < OFF else chance.random() * most


def _faults(chance: random.Random) -> Faults:
    drawn = {name: _rate(chance, getattr(_MOST, name)) for name in FAULT_NAMES}
    latency = chance.choice((2.0, 20.0, 20.0, 400.0))
    return replace(NO_FAULTS, **drawn, latency_ms=latency)
