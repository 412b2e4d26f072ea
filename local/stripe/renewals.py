"""What happens by itself as time goes by.

Periods roll on, trials and subscriptions end, drafts are finalized, test clocks arrive. Before each
request the account catches up with the clock, in the order of time.
"""

from collections.abc import Callable, Mapping
from datetime import datetime

from local.stripe import (
    invoice_life,
    subscription_billing,
    subscription_items,
    subscriptions,
    test_clocks,
)
from local.stripe.billing_cycle import moment
from local.stripe.call import Call
from local.stripe.state import INVOICE, SUBSCRIPTION, TEST_CLOCK, Account, World, schedule
from local.stripe.wire import Json


def catch_up(world: World, account: Account, now: int) -> None:
    """Let everything happen that is due on the stand-in's own clock."""
    if account.agendas:
        _run(world, account, None, now)


def _run(
    world: World, account: Account, clock: str | None, until: int, seen_at: datetime | None = None
) -> None:
    """Let everything happen that is due on one clock, each thing at its own instant.

    Usage counts as far as it was aggregated then; for a test clock, by `seen_at`.
    """
    for instant, identity in account.agenda(clock).due(until):
        kind, attend = _ATTENDED[identity.partition("_")[0]]
        found = account.get(kind, identity)
        if found is not None:
            call = Call(world, account, moment(instant), {}, path="", seen_at=seen_at)
            attend(call, found)
            schedule(account, kind, identity)


def _attend_subscription(call: Call, subscription: Json) -> None:
    """One subscription at one instant; there may be nothing to do yet."""
    if subscription["status"] == "canceled":
        return
    if subscription["cancel_at"] and subscription["cancel_at"] <= call.now:
        subscription_billing.last(call, subscription, waits=True)
        subscriptions.end(call, call.account.all(SUBSCRIPTION)[subscription["id"]])
        return
    was_trial = subscription["status"] == "trialing"
    if was_trial and subscription["trial_end"] <= call.now:
        subscription = call.put(subscription | {"status": "active"})
    items = call.account.items(subscription["id"])
    ended = [item for item in items if item["current_period_end"] <= call.now]
    if ended:
        subscription_billing.renew(call, subscription, ended, was_trial=was_trial)
        renewed = call.account.all(SUBSCRIPTION)[subscription["id"]]
        subscription_items.told(call, "updated", renewed)


def _attend_clock(call: Call, clock: Json) -> None:
    """Let a test clock arrive, once everything on its way has happened."""
    if clock["arrives_at"] is None or clock["arrives_at"] > call.now:
        return
    to = clock["status_details"]["advancing"]["target_frozen_time"]
    _run(call.world, call.account, clock["id"], to, seen_at=call.at)
    test_clocks.arrived(call, clock)


_ATTENDED: Mapping[str, tuple[str, Callable[[Call, Json], None]]] = {
    "sub": (SUBSCRIPTION, _attend_subscription),
    "in": (INVOICE, invoice_life.attend),
    "clock": (TEST_CLOCK, _attend_clock),
}
