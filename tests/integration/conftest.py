"""Fixtures of the integration tests."""

from collections.abc import Iterator
from dataclasses import asdict

import pytest

from local.stripe.control import StandIn
from local.stripe.server import running
from local.stripe.state import Settings
from metering.wiring import Wiring, using
from tests.billing_world import BillingWorld, connected
from tests.conftest import SetClock

STRIPE_DEFAULTS = asdict(Settings(summary_delay_s=0)) | {"asynchronous": []}


@pytest.fixture(scope="session")
def stripe_server() -> Iterator[StandIn]:
    """A Stripe stand-in per test process."""
    with running() as stand_in:
        yield stand_in


@pytest.fixture
def billing(stripe_server: StandIn, wiring: Wiring, clock: SetClock) -> Iterator[BillingWorld]:
    """Writer and reconciler over real tables and a fresh stand-in, all at the clock's time."""
    stripe_server.reset()
    stripe_server.set(**STRIPE_DEFAULTS)
    stripe_server.stand_at(clock.now())
    with using(connected(wiring, stripe_server)) as wired:
        yield BillingWorld(wired, clock, stripe_server)
    stripe_server.clear_faults()
