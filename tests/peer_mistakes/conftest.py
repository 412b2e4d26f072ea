"""Fixtures of the tests that answer the peer's mistakes."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from metering.config import Config
from metering.wiring import Wiring, using
from tests.billing_world import BillingWorld
from tests.conftest import SetClock
from tests.integration.conftest import billing, stripe_server
from tests.peer_mistakes.pipeline import Pipeline

__all__ = ["billing", "guarded", "pipeline", "stripe_server"]


@pytest.fixture
def pipeline(billing: BillingWorld) -> Pipeline:
    """`api_calls` goes to a Stripe meter, in whole units; two customers exist."""
    billing.map()
    for customer in ("cus_A", "cus_B"):
        billing.customer(customer)
    return Pipeline(billing)


@pytest.fixture
def guarded(config: Config, clock: SetClock) -> Iterator[Wiring]:
    """A deployment that asks for API keys."""
    with using(Wiring(replace(config, auth=True), clock=clock)) as wired:
        yield wired
