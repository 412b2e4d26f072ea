"""What people do with subscriptions while a world lasts: they end them, and move their periods."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from local.stripe.state import SUBSCRIPTION
from metering.names import TenantId
from tests.simulation.people import People
from tests.simulation.stripe_side import Account
from tests.simulation.world import World

MINUTE = timedelta(minutes=1)
KINDS = ("cancel by us", "cancel at Stripe", "cancel with the period", "move the anchor")
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
