"""The writer on either endpoint of Stripe's, and at the rate that Stripe takes."""

from dataclasses import replace

import pytest

from local.stripe.faults import FaultKind
from metering.adapters.stripe_driver import StripeBillingDriver
from metering.adapters.stripe_rate import CallRates
from metering.push import PushState
from metering.wiring import Wiring, using
from tests.billing_world import BillingWorld


def with_transport(world: BillingWorld, transport: str) -> BillingWorld:
    config = replace(world.wiring.config, stripe_transport=transport)
    return replace(world, wiring=Wiring(config, clock=world.clock, dynamodb=world.wiring.dynamodb))


@pytest.mark.parametrize("transport", ["v1", "v2"])
@pytest.mark.parametrize("fault", [None, FaultKind.DROP_AFTER, FaultKind.ERROR_AFTER])
def test_usage_reaches_stripe_once_by_either_endpoint(
    billing: BillingWorld, transport: str, fault: FaultKind | None
) -> None:
    world = with_transport(billing, transport)
    with using(world.wiring):
        world.map()
        world.customer("cus_A")
        world.use("7")
        if fault:
            world.stand_in.plan(fault, times=1, method="POST")

        world.write_until_settled()

        assert world.told() == 7
        assert world.events() == 1
        assert world.stream().accepted == 7


def test_what_the_rate_leaves_over_is_told_by_the_next_run(billing: BillingWorld) -> None:
    wired = billing.wiring
    seconds = [0.0]
    rates = CallRates(lambda *_: 1, seconds=lambda: seconds[0], sleep=lambda _: None)
    driver = StripeBillingDriver.of(wired.config, wired.stripe_connection, rates, wired.clock)
    wired.billing = driver.own
    billing.map()
    for ref in ("cus_A", "cus_B"):
        billing.customer(ref)
        billing.use("5", customer=ref)

    run = billing.write()

    assert run["answers"] == {"accepted": 1, "rate_limited": 1}
    told = {ref: billing.told(ref) for ref in ("cus_A", "cus_B")}
    assert sorted(told.values()) == [0, 5]
    left = next(ref for ref, total in told.items() if not total)
    push = billing.stream(left).open
    assert push is not None
    assert (push.state, push.last_error) == (PushState.PLANNED, "429: own_budget")
    assert push.first_attempt_at is None
    seconds[0] = 100.0
    billing.write_until_settled()
    assert billing.told(left) == 5
