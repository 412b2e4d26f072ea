"""Our adapters of Stripe through the real SDK, on a fresh stand-in whose clock stands."""

from collections.abc import Iterator
from dataclasses import asdict

import pytest
import stripe

from local.stripe.control import StandIn
from local.stripe.server import running
from local.stripe.state import Settings
from metering.config import Config
from tests.conftest import SetClock

DEFAULTS = asdict(Settings(summary_delay_s=0)) | {"asynchronous": []}


@pytest.fixture(scope="session")
def server() -> Iterator[StandIn]:
    with running() as stand_in:
        yield stand_in


@pytest.fixture
def stand_in(server: StandIn, clock: SetClock) -> Iterator[StandIn]:
    server.reset()
    server.set(**DEFAULTS)
    server.stand_at(clock.now())
    yield server
    server.clear_faults()


@pytest.fixture
def stripe_config(stand_in: StandIn) -> Config:
    return Config(stripe_secret_key="sk_test_x", stripe_api_base=stand_in.url)


@pytest.fixture
def client(stand_in: StandIn) -> stripe.StripeClient:
    """The SDK, as anybody would use it on this Stripe."""
    return stripe.StripeClient("sk_test_x", base_addresses=stand_in.base_addresses())
