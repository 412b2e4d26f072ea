"""What happens by itself as time goes by: periods roll on, trials and subscriptions end.

Before each request the account catches up with the clock, in the order of time.
"""

import heapq

from local.stripe import subscriptions
from local.stripe.billing_cycle import Cycle
from local.stripe.state import PRICE, SUBSCRIPTION, Account, Put, World, schedule
from local.stripe.wire import Json


def catch_up(world: World, account: Account, now: int) -> None:
    """Let everything happen that is due."""
    while account.due and account.due[0][0] <= now:
        instant, identity = heapq.heappop(account.due)
        if account.due_of.get(identity) != instant:
            continue
        del account.due_of[identity]
        subscription = account.all(SUBSCRIPTION).get(identity)
        if subscription is not None and subscription["status"] != "canceled":
            _attend(world, account, subscription, instant)
            schedule(account, identity)


def _attend(world: World, account: Account, subscription: Json, at: int) -> None:
    """One subscription at one instant; there may be nothing to do yet."""
    if subscription["cancel_at"] and subscription["cancel_at"] <= at:
        subscriptions.end(world, account, subscription, at=subscription["cancel_at"])
        return
    if subscription["status"] == "trialing" and subscription["trial_end"] <= at:
        subscription = subscription | {"status": "active"}
        world.record(Put(account.id, subscription))
    for item in account.items(subscription["id"]):
        if item["current_period_end"] <= at:
            _renew(world, account, subscription, item)


def _renew(world: World, account: Account, subscription: Json, item: Json) -> None:
    price = account.all(PRICE)[item["price"]]
    start = item["current_period_end"]
    end = Cycle.of(subscription, price).period_at(start)[1]
    period = {"current_period_start": start, "current_period_end": end}
    world.record(Put(account.id, item | period))
