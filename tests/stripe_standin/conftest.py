"""A stand-in per test process, fresh for each test, its clock standing on a Friday noon."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, cast

import pytest
import stripe

from local.stripe.control import StandIn
from local.stripe.server import running
from local.stripe.state import Settings
from tests.stripe_standin.description import CheckedClient

if TYPE_CHECKING:
    from stripe.params.billing import MeterEventCreateParams

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
DEFAULTS = asdict(Settings(summary_delay_s=60)) | {"asynchronous": []}
_numbers = itertools.count(1)

type Send = Callable[..., stripe.billing.MeterEvent]


@pytest.fixture(scope="session")
def server() -> Iterator[StandIn]:
    with running() as stand_in:
        yield stand_in


@pytest.fixture
def stand_in(server: StandIn) -> StandIn:
    server.reset()
    server.set(**DEFAULTS)
    server.stand_at(NOON)
    return server


@pytest.fixture
def transport() -> Iterator[CheckedClient]:
    client = CheckedClient()
    yield client
    client.close()  # type: ignore[no-untyped-call]


@pytest.fixture
def client(stand_in: StandIn, transport: CheckedClient) -> stripe.StripeClient:
    return stripe.StripeClient(
        "sk_test_x", base_addresses=stand_in.base_addresses(), http_client=transport
    )


@pytest.fixture
def meter(client: stripe.StripeClient) -> stripe.billing.Meter:
    return client.v1.billing.meters.create(
        {
            "display_name": "API calls",
            "event_name": "api_calls",
            "default_aggregation": {"formula": "sum"},
        }
    )


@pytest.fixture
def customer(client: stripe.StripeClient) -> stripe.Customer:
    return client.v1.customers.create({"name": "Ada"})


@pytest.fixture
def send(
    client: stripe.StripeClient, meter: stripe.billing.Meter, customer: stripe.Customer
) -> Send:
    """Send a meter event of the test's customer; what is not given does not matter."""

    def send_one(
        value: str = "1",
        *,
        idempotency_key: str | None = None,
        customer: str = customer.id,
        event_name: str = meter.event_name,
        **more: object,
    ) -> stripe.billing.MeterEvent:
        payload = {"stripe_customer_id": customer, "value": value}
        params = cast(
            "MeterEventCreateParams", {"event_name": event_name, "payload": payload, **more}
        )
        key = idempotency_key or f"key-{next(_numbers)}"
        return client.v1.billing.meter_events.create(params, {"idempotency_key": key})

    return send_one
