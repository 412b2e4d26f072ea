"""What people do with subscriptions while a world lasts: they end them, move their periods, and
change what usage costs."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from local.stripe.state import METER, SUBSCRIPTION
from metering.names import TenantId
from metering.stripe_claims import name_of
from tests.simulation.people import People
from tests.simulation.stripe_side import Account, make_price
from tests.simulation.world import World

MINUTE = timedelta(minutes=1)
KINDS = ("cancel by us", "cancel at Stripe", "cancel with the period", "move the anchor")
REPRICED = 0.3
"""How likely a price is changed, where people change anything."""
_OK = 200


@dataclass(frozen=True, slots=True)
class Changed:
    """A subscription that somebody ended or moved."""

    kind: str
    tenant: TenantId
    customer: str
    subscription: str
    at: datetime


class Changes:
    """Has them happen at drawn moments, once Stripe is there."""

    def __init__(self, world: World, account: Account, people: People) -> None:
        self.done: list[Changed] = []
        self._world = world
        self._account = account
        self._people = people
        self._chance = random.Random(f"changes {world.drawn.seed}")

    def start(self) -> None:
        """Each comes in its time; a subscription is changed once."""
        owners = list(self._account.subscriptions)
        self._chance.shuffle(owners)
        for owner in owners[: self._world.drawn.changes]:
            kind = self._chance.choice(KINDS)
            at = self._world.drawn.start + self._world.drawn.span * self._chance.uniform(0.05, 0.9)
            self._people.come(f"{kind} of {owner[1]}", self._act(kind, *owner), at)
        if owners and self._world.drawn.changes:
            self._perhaps_reprice()

    def _perhaps_reprice(self) -> None:
        """Its own source of chance: what else is drawn stays as it was."""
        chance = random.Random(f"prices {self._world.drawn.seed}")
        if chance.random() < REPRICED:
            metric = chance.choice(list(self._account.prices))
            at = self._world.drawn.start + self._world.drawn.span * chance.uniform(0.05, 0.9)
            self._people.come(f"price of {metric}", partial(self._reprice, metric), at)

    def _act(self, kind: str, tenant: TenantId, customer: str) -> Callable[[], None]:
        def act() -> None:
            while self._world.stripe_network.is_out:
                self._world.kernel.pause(10 * MINUTE)
            subscription = self._account.subscriptions[tenant, customer]
            if kind == "cancel by us":
                self._cancel_by_us(tenant, customer)
            elif not self._is_ended(subscription):
                self._at_stripe(kind, subscription)
            now = self._world.kernel.now
            if kind != "cancel with the period":
                self._people.done.cut_short[tenant, customer] = now
            self.done.append(Changed(kind, tenant, customer, subscription, now))
            self._world.kernel.note(f"{kind}: {subscription}")
            self._world.kernel.saw(f"subscription: {kind}")

        return act

    # --- prices ---

    def _reprice(self, metric: str) -> None:
        """A metric costs more from now on: at Stripe for each subscription, then in our mappings.

        Stripe bills by the former price what it has heard of by now, and what it had not is on no
        invoice.
        """
        while self._world.stripe_network.is_out or self._is_switched_off(metric):
            self._world.kernel.pause(10 * MINUTE)
        before = self._account.prices[metric]
        price = make_price(self._world, self._account, metric, has_tiers=True)
        self._account.prices[metric] = price
        for owner, subscription in self._account.subscriptions.items():
            if not self._is_ended(subscription):
                self._move(subscription, before, price)
                self._people.done.repriced[*owner, metric] = self._world.kernel.now
        self._world.kernel.note(f"the price of {metric} is changed")
        self._world.kernel.saw("a price was changed within a period")
        for tenant in self._world.tenants:
            self._remap(tenant, metric, price)

    def _is_switched_off(self, metric: str) -> bool:
        meter = self._world.core.world.account().all(METER)[self._account.meters[metric]]
        return bool(meter["status"] != "active")

    def _move(self, subscription: str, before: str, price: str) -> None:
        standing = self._world.stripe.v1.subscriptions.retrieve(subscription)
        own = standing["items"].data
        items: Any = [{"id": one.id, "price": price} for one in own if one.price.id == before]
        self._world.stripe.v1.subscriptions.update(subscription, {"items": items})

    def _remap(self, tenant: TenantId, metric: str, price: str) -> None:
        """Until our API has taken it: in an outage it cannot look the price up."""
        for _ in range(30):
            self._let_share(metric, price)
            status, answer = self._people.ask(
                tenant, "PUT", f"/v1/mappings/map_{tenant}_{metric}", {"priceId": price}
            )
            if status == _OK:
                return
            self._world.kernel.pause(30 * MINUTE)
        raise AssertionError(f"{metric} of {tenant} cannot be mapped: {status} {answer}")

    def _let_share(self, metric: str, price: str) -> None:
        """The tenants of a world have one meter together, which is the operator's to allow."""
        for name in (price, self._account.meters[metric], metric):
            self._world.eye.stripe_claims.release(name_of(name))

    # --- subscriptions ---

    def _is_ended(self, subscription: str) -> bool:
        found = self._world.core.world.account().all(SUBSCRIPTION)[subscription]
        return bool(found["status"] == "canceled")

    def _cancel_by_us(self, tenant: TenantId, customer: str) -> None:
        """By our API, which first tells Stripe all usage; not while it cannot."""
        subscription = self._account.subscriptions[tenant, customer]
        path = f"/v1/customers/{customer}/cancel"
        for attempt in range(30):
            body = {"invoiceNow": True, "force": attempt > 15}
            self._people.ask(tenant, "POST", path, body)
            if self._is_ended(subscription):
                return
            self._world.kernel.pause(30 * MINUTE)
        raise AssertionError(f"{subscription} cannot be cancelled")

    def _at_stripe(self, kind: str, subscription: str) -> None:
        subscriptions = self._world.stripe.v1.subscriptions
        moved: Any = {"billing_cycle_anchor": {"type": "now"}, "proration_behavior": "none"}
        match kind:
            case "cancel at Stripe":
                subscriptions.cancel(subscription, {"invoice_now": True})
            case "cancel with the period":
                subscriptions.update(subscription, {"cancel_at_period_end": True})
            case _:
                subscriptions.update(subscription, moved)
