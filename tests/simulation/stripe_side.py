"""Setting a world up: metrics, and where it goes that far, all that there is at Stripe."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from local.stripe import customers
from local.stripe.call import Call
from local.stripe.state import DEFAULT_ACCOUNT, ITEM, Put
from metering.counter import Aggregation
from metering.mapping import Customer, LatePolicy, Mapping, MetricSettings
from metering.mapping_setup import with_subscription
from metering.names import CustomerRef, Metric, TenantId
from metering.tenant_settings import AfterClose, TenantSettings
from tests.simulation.clients import LATENESS, METRICS, DrawnMetric
from tests.simulation.draw import Drawn, Kind
from tests.simulation.world import World

MOMENT = timedelta(microseconds=1)
_CENTS = {"api_calls": "0.1", "cpu_hours": "0.05", "peak_users": "20", "seats": "900", "jobs": "5"}
"""What a unit of a metric costs."""
_FIRST_TIER = {
    "api_calls": 600_000,
    "cpu_hours": 600,
    "peak_users": 600_000,
    "seats": 600_000,
    "jobs": 3,
}
"""The last unit of it."""
TIERED = 0.5
"""How likely all prices of a world have tiers."""
BILLED_APART = 0.5
"""How likely a tenant whose usage would be carried forward has it billed apart: a third of all."""


@dataclass(slots=True)
class Account:
    """What there is at Stripe, by our own names."""

    product: str = ""
    meters: dict[str, str] = field(default_factory=dict)
    prices: dict[str, str] = field(default_factory=dict)
    customers: dict[tuple[TenantId, str], str] = field(default_factory=dict)
    subscriptions: dict[tuple[TenantId, str], str] = field(default_factory=dict)
    ends: list[datetime] = field(default_factory=list)
    """Where billing periods end while the world lasts, or just after."""


def set_up(world: World) -> Account:
    """Make what is there when a world begins."""
    account = Account()
    store = world.eye.settings_store
    for metric in METRICS[: world.drawn.metrics]:
        for tenant in world.tenants:
            store.put_metric(tenant, _settings(metric))
    if world.drawn.kind is not Kind.COUNTING:
        _connect(world, account)
        _decide(world)
    return account


def _settings(metric: DrawnMetric) -> MetricSettings:
    return MetricSettings(
        Metric(metric.name),
        Aggregation(metric.aggregation),
        LatePolicy.COUNT if metric.counts_late else LatePolicy.ADJUST,
        lateness=LATENESS,
    )


def _decide(world: World) -> None:
    """Often a tenant wants what comes after the close not to be carried forward."""
    chance = random.Random(f"tenants {world.drawn.seed}")
    apart = random.Random(f"billed apart {world.drawn.seed}")
    for tenant in world.tenants:
        choices = (AfterClose.CARRY_FORWARD, AfterClose.CARRY_FORWARD, AfterClose.UNBILLED)
        after_close = chance.choice(choices)
        is_apart = after_close is AfterClose.CARRY_FORWARD and apart.random() < BILLED_APART
        if is_apart and world.drawn.kind is Kind.CLOSING:
            after_close = AfterClose.INVOICE_ITEM
        if after_close is not AfterClose.CARRY_FORWARD:
            world.eye.settings_store.put_tenant(TenantSettings(tenant, after_close))


def _connect(world: World, account: Account) -> None:
    for metric in METRICS[: world.drawn.metrics]:
        account.meters[metric.name] = _meter(world, metric)
    if world.drawn.kind is Kind.CLOSING:
        _make_prices(world, account)
    for metric in METRICS[: world.drawn.metrics]:
        for tenant in world.tenants:
            world.eye.settings_store.add_mapping(_mapping(world, account, tenant, metric))
    for tenant in world.tenants:
        for number in range(world.drawn.customers):
            known = f"cus_{tenant.replace('-', '')}x{number}"
            _exists(world, known)
            account.customers[tenant, f"cus_{number}"] = known
    anchors = _anchors(world.drawn, account) if world.drawn.kind is Kind.CLOSING else {}
    _subscribe(world, account, anchors)
    _introduce(world, account)


def _meter(world: World, metric: DrawnMetric) -> str:
    about: Any = {
        "display_name": metric.name,
        "event_name": metric.name,
        "default_aggregation": {"formula": metric.formula},
    }
    return world.stripe.v1.billing.meters.create(about).id


def _make_prices(world: World, account: Account) -> None:
    account.product = world.stripe.v1.products.create({"name": "usage"}).id
    has_tiers = random.Random(f"tiers {world.drawn.seed}").random() < TIERED
    for name in account.meters:
        account.prices[name] = make_price(world, account, name, has_tiers=has_tiers)


def make_price(world: World, account: Account, metric: str, *, has_tiers: bool) -> str:
    """A price of a metric's unit, or of tiers of which the second begins amid what is used."""
    meter = account.meters[metric]
    recurring = {"interval": "month", "usage_type": "metered", "meter": meter}
    about: Any = {"product": account.product, "currency": "usd", "recurring": recurring}
    cents = {"unit_amount_decimal": _CENTS[metric]}
    if has_tiers:
        then = {"up_to": "inf", "unit_amount_decimal": "0.01", "flat_amount": 500}
        tiers = [{"up_to": _FIRST_TIER[metric], **cents}, then]
        about |= {"billing_scheme": "tiered", "tiers_mode": "graduated", "tiers": tiers}
    else:
        about |= cents
    return world.stripe.v1.prices.create(about).id


def _exists(world: World, customer: str) -> None:
    """Let a customer exist at Stripe under an id of our choice."""
    state = world.core.world
    call = Call(
        world=state, account=state.account(DEFAULT_ACCOUNT), at=world.kernel.now, params={}, path=""
    )
    state.record(Put(DEFAULT_ACCOUNT, customers.blank(call, customer)))


def _mapping(world: World, account: Account, tenant: TenantId, metric: DrawnMetric) -> Mapping:
    now = world.kernel.now - timedelta(days=40)
    return Mapping(
        id=f"map_{tenant}_{metric.name}",
        tenant=tenant,
        metric=Metric(metric.name),
        aggregation=Aggregation(metric.aggregation),
        stripe_account="",
        price_id=account.prices.get(metric.name, ""),
        subscription_item_id="",
        currency="usd",
        meter_id=account.meters[metric.name],
        meter_event_name=metric.name,
        scale=metric.scale,
        active=True,
        shadow=False,
        shadow_stripe_account="",
        shadow_price_id="",
        shadow_subscription_item_id="",
        created_at=now,
        updated_at=now,
    )


# --- subscriptions --------------------------------------------------------------------------------


type _Anchors = dict[tuple[TenantId, str], datetime]


def _anchors(drawn: Drawn, account: Account) -> _Anchors:
    """When subscriptions began: so that most have a period that ends while clients still send."""
    chance = random.Random(f"anchors {drawn.seed}")
    anchors = {}
    for owner in account.customers:
        kind = chance.random()
        if kind < 0.25:
            continue
        end = drawn.start + drawn.span * chance.uniform(0.1, 0.7)
        end += timedelta(days=chance.randrange(2, 20) if kind < 0.4 else 0)
        anchors[owner] = _months_before(end.replace(microsecond=0))
    return anchors


def _months_before(end: datetime) -> datetime:
    """The same day and time of the last month before that has the day."""
    month = end
    while True:
        month = (month.replace(day=1) - timedelta(days=1)).replace(day=1)
        try:
            return month.replace(day=end.day)
        except ValueError:  # A shorter month.
            continue


def _subscribe(world: World, account: Account, anchors: _Anchors) -> None:
    """Each subscription begins in its own time, long before the world does."""
    begun = world.kernel.now
    items = [{"price": price} for price in account.prices.values()]
    for owner, anchor in sorted(anchors.items(), key=lambda one: one[1]):
        world.kernel.now = anchor
        about: Any = {"customer": account.customers[owner], "items": items}
        account.subscriptions[owner] = world.stripe.v1.subscriptions.create(about).id
    world.kernel.now = begun


def _introduce(world: World, account: Account) -> None:
    """Tell our own system who they are."""
    for (tenant, name), known in account.customers.items():
        customer = Customer(tenant, CustomerRef(name), known)
        subscription = account.subscriptions.get((tenant, name))
        if subscription is not None:
            customer = Customer(tenant, CustomerRef(name), known, subscription=subscription)
            customer = with_subscription(None, customer, world.eye.subscriptions)
        world.eye.settings_store.put_customer(customer)
        account.ends += _ends(world, customer)


def _ends(world: World, customer: Customer) -> Iterator[datetime]:
    """Of the present period, and of those after it while the world lasts."""
    end = customer.calendar.period_of(world.drawn.start).end
    while end <= world.drawn.start + world.drawn.span + timedelta(days=7):
        yield end
        end = customer.calendar.period_of(end).end


def period_starts(world: World, subscription: str) -> set[datetime]:
    """Where the present periods of a subscription's items begin."""
    account = world.core.world.account()
    items = [account.all(ITEM)[one] for one in account.items_of[subscription]]
    return {datetime.fromtimestamp(one["current_period_start"], UTC) for one in items}
