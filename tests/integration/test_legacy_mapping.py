"""A legacy metered price: mapped, told whole by usage records, and the plan to leave it."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from metering.wiring import Wiring, using
from tests.api_client import Api, api_of
from tests.billing_world import HOUR, BillingWorld

OLD: Any = {"stripe_version": "2025-02-24.acacia"}


@pytest.fixture
def world(billing: BillingWorld) -> Iterator[BillingWorld]:
    config = replace(billing.wiring.config, legacy_usage_records=True)
    wired = Wiring(config, clock=billing.clock, dynamodb=billing.wiring.dynamodb)
    with using(wired):
        yield replace(billing, wiring=wired)


@pytest.fixture
def api(world: BillingWorld) -> Api:
    return api_of(world.wiring, "demo")


def subscribe(world: BillingWorld, price: str) -> tuple[str, str]:
    """A subscription of cus_A that began a day ago: its id and its item's."""
    world.stand_in.add_customers(["cus_A"])
    world.stand_in.stand_at(world.clock.now() - timedelta(days=1))
    made = world.stripe.v1.subscriptions.create(
        {"customer": "cus_A", "items": [{"price": price}]}, OLD
    )
    world.stand_in.stand_at(world.clock.now())
    return made.id, made["items"].data[0].id


def used(world: BillingWorld, item: str) -> list[int]:
    path = f"/v1/subscription_items/{item}/usage_record_summaries"
    answer = world.stripe.raw_request("get", path, **OLD)
    return [row["total_usage"] for row in answer.data["data"]]


def test_usage_of_a_legacy_price_is_told_whole_and_once(world: BillingWorld, api: Api) -> None:
    price = world.stand_in.add_legacy_price(unit_amount_decimal="2.5")
    subscription, item = subscribe(world, price)
    mapped = api.post(
        "/v1/mappings", {"metric": "api_calls", "aggregation": "sum", "priceId": price}
    )
    assert mapped.status == 201, mapped.text
    assert mapped.body["isLegacy"]
    assert api.put("/v1/customers/cus_A", {"subscription": subscription}).status == 200

    world.use("5")
    world.write_until_settled()
    assert used(world, item) == [5]
    world.advance(HOUR)
    world.use("7")
    world.write_until_settled()

    assert used(world, item) == [12]


def test_the_plan_out_of_it_is_of_that_price(world: BillingWorld, api: Api) -> None:
    price = world.stand_in.add_legacy_price(unit_amount_decimal="2.5", currency="eur")

    plan = api.get("/v1/mappings/legacy-plan", priceId=price).body

    assert plan["isLegacy"]
    assert "currency=eur" in plan["steps"][1]
    assert "unit_amount_decimal=2.5" in plan["steps"][1]
