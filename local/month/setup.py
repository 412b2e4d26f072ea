"""Setting a month's world up: meters, prices, customers, subscriptions, as people would do it."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import stripe

from local.month.draw import LATENESS_HOURS, METRICS, TENANT, Billing, DrawnCustomer, DrawnMetric
from local.month.world import World

CLOCK_CUSTOMERS_MAX = 3
_OK = (200, 201)


@dataclass(slots=True)
class Account:
    """What there is at Stripe, by our own names."""

    meters: dict[str, str] = field(default_factory=dict)
    prices: dict[str, str] = field(default_factory=dict)
    customers: dict[str, str] = field(default_factory=dict)
    subscriptions: dict[str, str] = field(default_factory=dict)
    clocks: dict[str, int] = field(default_factory=dict)
    """Test clocks, and how many customers live on each."""


class SetUpError(Exception):
    """Our API refused a part of the set-up."""


def call(world: World, method: str, path: str, body: object = None) -> Any:
    """A request to the API that must be answered well.

    Raises:
        SetUpError: it was not.
    """
    status, answer = world.http(method, path, body)
    if status not in _OK:
        raise SetUpError(f"{method} {path} was answered {status}: {answer}")
    return answer


def set_up(world: World, customers: tuple[DrawnCustomer, ...], start: datetime) -> Account:
    """Make everything; subscriptions in the order in which they began. Ends at `start`."""
    account = Account()
    for metric in METRICS:
        account.meters[metric.name] = _meter(world, metric)
        account.prices[metric.name] = make_price(world, account, metric)
        _map(world, account, metric)
    for customer in sorted(customers, key=lambda one: one.anchor or start):
        move_to(world, account, customer.anchor or start)
        _customer(world, account, customer)
    move_to(world, account, start)
    return account


def move_to(world: World, account: Account, now: datetime) -> None:
    """It is that instant now, on test clocks as well."""
    world.clock.set(now)
    for clock in account.clocks:
        standing = world.stripe.v1.test_helpers.test_clocks.retrieve(clock)
        if standing.frozen_time < int(now.timestamp()):
            to: Any = {"frozen_time": int(now.timestamp())}
            world.stripe.v1.test_helpers.test_clocks.advance(clock, to)
            world.stripe.v1.test_helpers.test_clocks.retrieve(clock)


# --- metrics --------------------------------------------------------------------------------------


def _meter(world: World, metric: DrawnMetric) -> str:
    about: Any = {
        "display_name": metric.name,
        "event_name": metric.name,
        "default_aggregation": {"formula": metric.formula},
    }
    return world.stripe.v1.billing.meters.create(about).id


def make_price(world: World, account: Account, metric: DrawnMetric) -> str:
    """A price of a metric."""
    product = world.stripe.v1.products.create({"name": metric.name})
    recurring = {
        "interval": "month",
        "usage_type": "metered",
        "meter": account.meters[metric.name],
    }
    about: Any = {"product": product.id, "currency": "usd", "recurring": recurring} | metric.price
    return world.stripe.v1.prices.create(about).id


def _map(world: World, account: Account, metric: DrawnMetric) -> None:
    settings = {
        "tenantId": TENANT,
        "aggregation": metric.aggregation,
        "latePolicy": "count" if metric.counts_late else "adjust",
        "latenessHours": LATENESS_HOURS,
    }
    call(world, "PUT", f"/v1/metrics/{metric.name}", settings)
    mapping = {
        "tenantId": TENANT,
        "metric": metric.name,
        "aggregation": metric.aggregation,
        "priceId": account.prices[metric.name],
        "scale": metric.scale,
    }
    call(world, "POST", "/v1/mappings", mapping)


# --- customers ------------------------------------------------------------------------------------


def _customer(world: World, account: Account, customer: DrawnCustomer) -> None:
    about: Any = {"name": customer.ref}
    if customer.billing is Billing.TEST_CLOCK:
        about["test_clock"] = _test_clock(world, account)
    made = world.stripe.v1.customers.create(about)
    account.customers[customer.ref] = made.id
    change = {"tenantId": TENANT, "stripeCustomer": made.id}
    if customer.anchor is not None:
        made_now = _subscription(world, account, made)
        account.subscriptions[customer.ref] = made_now.id
        change["subscription"] = made_now.id
    call(world, "PUT", f"/v1/customers/{customer.ref}", change)


def _test_clock(world: World, account: Account) -> str:
    for clock, customers in account.clocks.items():
        if customers < CLOCK_CUSTOMERS_MAX:
            account.clocks[clock] += 1
            return clock
    now: Any = {"frozen_time": int(world.clock.now().timestamp())}
    made = world.stripe.v1.test_helpers.test_clocks.create(now)
    account.clocks[made.id] = 1
    return made.id


def _subscription(world: World, account: Account, customer: stripe.Customer) -> stripe.Subscription:
    items = [{"price": price} for price in account.prices.values()]
    about: Any = {"customer": customer.id, "items": items}
    return world.stripe.v1.subscriptions.create(about)
