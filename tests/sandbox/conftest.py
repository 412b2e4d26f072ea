"""Each scenario runs on the stand-in, and with a key in a sandbox of Stripe's own."""

from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime

import pytest
import stripe

from local.stripe.control import StandIn
from local.stripe.server import running
from local.stripe.state import Settings
from metering.adapters.stripe_client import StripeConnection
from tests.sandbox.place import REPORT, WITHOUT_KEY, Place, sandbox_key, write_page

DEFAULTS = asdict(Settings(summary_delay_s=0)) | {"asynchronous": []}


@pytest.fixture(scope="session")
def server() -> Iterator[StandIn]:
    with running() as stand_in:
        yield stand_in


@pytest.fixture(params=["stand-in", pytest.param("sandbox", marks=pytest.mark.sandbox)])
def place(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    if request.param == "sandbox":
        yield from _in_the_sandbox()
        return
    server: StandIn = request.getfixturevalue("server")
    server.reset()
    server.set(**DEFAULTS)
    server.stand_at(datetime(2026, 11, 20, 12, 30, 20, tzinfo=UTC))
    client = stripe.StripeClient("sk_test_x", base_addresses=server.base_addresses())
    report = tmp_path_factory.mktemp("sandbox-report")
    place = Place(client, report, server)
    yield place
    place.leave()
    write_page(report)


def _in_the_sandbox() -> Iterator[Place]:
    key = sandbox_key()
    if not key.is_set:
        pytest.skip(WITHOUT_KEY)
    place = Place(StripeConnection(key).client, REPORT)
    yield place
    place.leave()
    write_page(REPORT)
