"""Everything about a month that its seed decides: who uses what when, and what happens besides."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any

from metering import times

TENANT = "demo"
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
MONTHS = ((2026, 11), (2026, 12), (2027, 1), (2027, 2))
LATENESS_HOURS = 48
EVENTS_A_DAY = 1.2
"""Of a customer and metric, on average."""
LATE, VERY_LATE = 0.08, 0.03
"""Parts of the events that come hours late, and later than the metrics' lateness."""
AGAIN, CONFLICTING = 0.1, 0.03
SEND_WITHIN = timedelta(minutes=20)
REPRICED = "api_calls"
"""The metric whose price changes. None of its usage is late: Stripe has billed what came before the
change by then, and puts what comes late for that time on no invoice."""
STEP = timedelta(hours=6)


@dataclass(frozen=True, slots=True)
class DrawnMetric:
    """A metric with its price."""

    name: str
    aggregation: str
    scale: int
    digits: int
    """How many decimals its quantities have."""
    price: dict[str, Any]
    counts_late: bool = False
    """Late events count like others; otherwise they wait for approval."""

    @property
    def formula(self) -> str:
        """Of its meter at Stripe."""
        return "last" if self.aggregation == "last" else "sum"


_TIERS = [
    {"up_to": 50_000, "unit_amount_decimal": "0.4"},
    {"up_to": "inf", "unit_amount_decimal": "0.3"},
]
METRICS = (
    DrawnMetric("api_calls", "sum", 0, 0, {"unit_amount_decimal": "0.1"}),
    DrawnMetric(
        "egress_gb",
        "sum",
        3,
        3,
        {"billing_scheme": "tiered", "tiers_mode": "graduated", "tiers": _TIERS},
    ),
    DrawnMetric(
        "jobs",
        "count",
        0,
        0,
        {"unit_amount": 5, "transform_quantity": {"divide_by": 10, "round": "up"}},
    ),
    DrawnMetric("peak_users", "max", 0, 0, {"unit_amount": 20}, counts_late=True),
    DrawnMetric("seats", "last", 0, 0, {"unit_amount": 900}, counts_late=True),
    DrawnMetric("cpu_hours", "sum", 2, 4, {"unit_amount_decimal": "0.05"}),
)


class Billing(StrEnum):
    """How a customer is billed."""

    ANCHORED = "anchored"
    """By a subscription of some day, hour, minute and second."""
    LAST_DAY = "last_day"
    """By one that began on a 31st."""
    CALENDAR = "calendar"
    """By one that began at midnight of a first."""
    NONE = "none"
    """Not at all: there is no subscription."""
    TEST_CLOCK = "test_clock"
    """By a subscription that lives on a test clock."""


_BILLINGS = (
    Billing.ANCHORED,
    Billing.LAST_DAY,
    Billing.TEST_CLOCK,
    Billing.CALENDAR,
    Billing.NONE,
    Billing.ANCHORED,
)


@dataclass(frozen=True, slots=True)
class DrawnCustomer:
    """A customer and when its subscription began."""

    ref: str
    billing: Billing
    anchor: datetime | None


# --- what happens ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Send:
    """A client sends an event, perhaps again."""

    at: datetime
    event: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Adjust:
    """Somebody corrects a counter, and another approves, or takes it back as well."""

    at: datetime
    customer: str
    metric: str
    delta: Decimal
    in_former_period: bool
    is_reverted: bool


@dataclass(frozen=True, slots=True)
class ApproveLate:
    """Somebody approves all late events that wait."""

    at: datetime


@dataclass(frozen=True, slots=True)
class Cancel:
    """A subscription is ended with its period (at Stripe), or at once (by our API)."""

    at: datetime
    customer: str
    at_once: bool


@dataclass(frozen=True, slots=True)
class Reprice:
    """All subscriptions get another price for a metric, and its mapping does."""

    at: datetime
    metric: str


@dataclass(frozen=True, slots=True)
class MoveAnchor:
    """A plan change bills at once and begins a new period."""

    at: datetime
    customer: str


@dataclass(frozen=True, slots=True)
class SwitchMeter:
    """Somebody deactivates a meter at Stripe, or activates it again."""

    at: datetime
    metric: str
    on: bool
    asynchronous: bool
    """Stripe takes the events meanwhile, and tells later that they do not count."""


@dataclass(frozen=True, slots=True)
class Outage:
    """Stripe is not there any more, or is again."""

    at: datetime
    begins: bool


type Happening = Send | Adjust | ApproveLate | Cancel | Reprice | MoveAnchor | SwitchMeter | Outage


@dataclass(frozen=True, slots=True)
class Rates:
    """How often what goes wrong."""

    stripe: float = 0.0
    death: float = 0.0
    """Of a run of a function."""
    webhook: float = 0.0
    """Of a webhook, to be lost, late or sent twice."""
    finalized_early: float = 0.0
    """Of a draft, at each look at it."""
    skew_s: int = 0
    """How much two machines' clocks differ at most."""


@dataclass(frozen=True, slots=True)
class Month:
    """A drawn month."""

    seed: int
    start: datetime
    days: int
    customers: tuple[DrawnCustomer, ...]
    happenings: tuple[Happening, ...]
    rates: Rates
    is_disordered: bool
    """Whether webhooks arrive in no order."""
    step: timedelta
    """How far time jumps where nothing is about to happen."""

    @property
    def end(self) -> datetime:
        """When the last of it is sent."""
        return self.start + self.days * DAY


def draw(seed: int, *, days: int, customers: int, faults: bool, step: timedelta = STEP) -> Month:
    """The month of a seed; without faults nothing of Stripe or AWS goes wrong in it."""
    random_ = random.Random(f"{seed} {days} {customers}")  # noqa: S311 (a replay, no secret)
    year, month = random_.choice(MONTHS)
    start = datetime(year, month, 1, tzinfo=UTC)
    who = tuple(_customer(number, start, random_) for number in range(customers))
    happenings = [*_usage(who, start, days, random_), *_decisions(who, start, days, random_)]
    if faults:
        happenings += _troubles(start, days, random_)
    return Month(
        seed=seed,
        start=start,
        days=days,
        customers=who,
        happenings=tuple(sorted(happenings, key=lambda one: one.at)),
        rates=_rates(random_) if faults else Rates(),
        is_disordered=faults,
        step=step,
    )


def _rates(random_: random.Random) -> Rates:
    return Rates(
        stripe=random_.choice((0.05, 0.15, 0.3)),
        death=random_.choice((0.05, 0.15)),
        webhook=random_.choice((0.2, 0.5)),
        finalized_early=random_.choice((0.0, 0.02)),
        skew_s=random_.choice((0, 20, 300)),
    )


def _customer(number: int, start: datetime, random_: random.Random) -> DrawnCustomer:
    billing = _BILLINGS[number % len(_BILLINGS)]
    return DrawnCustomer(f"customer-{number + 1:02}", billing, _anchor(billing, start, random_))


def _anchor(billing: Billing, start: datetime, random_: random.Random) -> datetime | None:
    second = timedelta(seconds=random_.randrange(86_400))
    match billing:
        case Billing.NONE:
            return None
        case Billing.CALENDAR:
            return (start - DAY).replace(day=1)
        case Billing.LAST_DAY:
            return _a_31st_before(start) + second
        case _:
            return start - random_.randint(1, 26) * DAY + second


def _a_31st_before(start: datetime) -> datetime:
    day = start - DAY
    while day.day != 31:  # noqa: PLR2004 (the one day that short months lack)
        day -= DAY
    return day


# --- usage ----------------------------------------------------------------------------------------


def _usage(
    who: tuple[DrawnCustomer, ...], start: datetime, days: int, random_: random.Random
) -> Iterator[Send]:
    for customer in who:
        for metric in METRICS:
            count = round(days * EVENTS_A_DAY * random_.uniform(0.3, 1.7))
            for number in range(count):
                yield from _sends(customer, metric, number, start, days, random_)


def _sends(
    customer: DrawnCustomer,
    metric: DrawnMetric,
    number: int,
    start: datetime,
    days: int,
    random_: random.Random,
) -> Iterator[Send]:
    at = start + timedelta(milliseconds=random_.randrange(days * 86_400_000))
    event = {
        "tenantId": TENANT,
        "metric": metric.name,
        "customerRef": customer.ref,
        "quantity": str(_quantity(metric, random_)),
        "ts": times.to_iso_ms(at),
        "idempotencyKey": f"{customer.ref}.{metric.name}.{number}",
    }
    delay = _delay(random_)
    sent_at = at + (min(delay, SEND_WITHIN) if metric.name == REPRICED else delay)
    yield Send(sent_at, event)
    if random_.random() < AGAIN:
        yield Send(sent_at + random_.uniform(0, 5) * DAY, event)
    if random_.random() < CONFLICTING:
        other = event | {"quantity": str(Decimal(event["quantity"]) + 7)}
        yield Send(sent_at + DAY + random_.uniform(0, 5) * DAY, other)


def _quantity(metric: DrawnMetric, random_: random.Random) -> Decimal:
    return Decimal(random_.randint(1, 20_000 if metric.digits else 500)).scaleb(-metric.digits)


def _delay(random_: random.Random) -> timedelta:
    kind = random_.random()
    if kind < VERY_LATE:
        return random_.uniform(60, 200) * HOUR
    if kind < VERY_LATE + LATE:
        return random_.uniform(1, 36) * HOUR
    return random_.random() * SEND_WITHIN


# --- what people do -------------------------------------------------------------------------------


def _decisions(
    who: tuple[DrawnCustomer, ...], start: datetime, days: int, random_: random.Random
) -> Iterator[Happening]:
    def some_time(first: float = 0.05, last: float = 0.95) -> datetime:
        return start + random_.uniform(first, last) * days * DAY

    billed = [one for one in who if one.anchor is not None]
    free = [one for one in billed if one.billing is not Billing.TEST_CLOCK]
    for customer in who:
        yield _adjustment(customer, some_time(), random_)
    yield ApproveLate(some_time(0.3, 0.5))
    yield ApproveLate(some_time(0.7, 0.9))
    yield Reprice(some_time(0.2, 0.6), REPRICED)
    if free:
        yield Cancel(some_time(0.3, 0.6), free[0].ref, at_once=False)
    if len(free) > 1:
        yield MoveAnchor(some_time(0.2, 0.6), free[1].ref)
    if len(free) > 2:  # noqa: PLR2004 (the third)
        yield Cancel(some_time(0.3, 0.8), free[2].ref, at_once=True)


def _adjustment(customer: DrawnCustomer, at: datetime, random_: random.Random) -> Adjust:
    metric = random_.choice([one for one in METRICS if one.aggregation != "last"])
    delta = _quantity(metric, random_).quantize(
        Decimal(1).scaleb(-min(metric.scale, metric.digits))
    )
    return Adjust(
        at,
        customer.ref,
        metric.name,
        (delta or Decimal(1)) * random_.choice((1, 1, -1)),
        in_former_period=random_.random() < 0.3,  # noqa: PLR2004 (less often than not)
        is_reverted=random_.random() < 0.3,  # noqa: PLR2004 (as above)
    )


# --- what goes wrong by the hour ------------------------------------------------------------------


def _troubles(start: datetime, days: int, random_: random.Random) -> Iterator[Happening]:
    out_at = start + random_.uniform(0.1, 0.8) * days * DAY
    yield Outage(out_at, begins=True)
    yield Outage(out_at + 30 * HOUR, begins=False)
    off_at = start + random_.uniform(0.1, 0.8) * days * DAY
    name = random_.choice(METRICS).name
    asynchronous = random_.random() < 0.7  # noqa: PLR2004 (mostly the harder one)
    yield SwitchMeter(off_at, name, on=False, asynchronous=asynchronous)
    yield SwitchMeter(off_at + random_.uniform(3, 20) * HOUR, name, on=True, asynchronous=False)
