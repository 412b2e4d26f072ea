"""Prices of the stand-in, read through the real SDK, as what we price by."""

from decimal import Decimal
from typing import Any

import pytest
import stripe

from local.stripe.control import StandIn
from metering.adapters.stripe_client import StripeConnection
from metering.adapters.stripe_invoice_items import StripePrices
from metering.adapters.stripe_key import own_key
from metering.config import Config
from metering.errors import NotFoundError
from metering.pricing import Package, Rate, Rounding, Tier, TiersMode, UnpriceableError


@pytest.fixture
def prices(stripe_config: Config) -> StripePrices:
    return StripePrices(StripeConnection(own_key(stripe_config)))


def made(client: stripe.StripeClient, **about: Any) -> str:
    params: Any = {"currency": "usd", "product_data": {"name": "Calls"}} | about
    return client.v1.prices.create(params).id


@pytest.mark.parametrize(
    ("about", "rate"),
    [
        ({"unit_amount": 3}, {"unit_amount": Decimal(3)}),
        (
            {"unit_amount_decimal": "0.000000000001"},
            {"unit_amount": Decimal("0.000000000001")},
        ),
        (
            {"unit_amount": 5, "transform_quantity": {"divide_by": 100, "round": "up"}},
            {"unit_amount": Decimal(5), "package": Package(100, Rounding.UP)},
        ),
        ({"unit_amount": 5, "currency": "jpy"}, {"unit_amount": Decimal(5), "currency": "jpy"}),
        (
            {
                "billing_scheme": "tiered",
                "tiers_mode": "volume",
                "tiers": [
                    {"up_to": 5, "unit_amount": 700},
                    {"up_to": "inf", "unit_amount_decimal": "0.5", "flat_amount": 100},
                ],
            },
            {
                "tiers_mode": TiersMode.VOLUME,
                "tiers": (
                    Tier(Decimal(5), Decimal(700)),
                    Tier(None, Decimal("0.5"), Decimal(100)),
                ),
            },
        ),
    ],
)
def test_a_price_is_read_whole(
    client: stripe.StripeClient, prices: StripePrices, about: dict[str, Any], rate: dict[str, Any]
) -> None:
    price = made(client, **about)

    assert prices.rate(price) == Rate(**({"price_id": price, "currency": "usd"} | rate))


def test_a_price_is_read_once(
    client: stripe.StripeClient, prices: StripePrices, stand_in: StandIn
) -> None:
    price = made(client, unit_amount=3)
    before = len(stand_in.requests())

    assert prices.rate(price) == prices.rate(price)

    assert len(stand_in.requests()) == before + 1


def test_a_price_that_is_not_there_is_named(prices: StripePrices) -> None:
    with pytest.raises(NotFoundError, match="no price price_x at Stripe"):
        prices.rate("price_x")


@pytest.mark.parametrize(
    ("about", "why"),
    [
        ({"custom_unit_amount": {"minimum": 1}}, "lets the customer choose the amount"),
        (
            {"transform_quantity": {"divide_by": 2, "round": "nearest"}},
            "says 'nearest', which we do not know",
        ),
        ({"billing_scheme": "tiered", "tiers_mode": None}, "says None, which we do not know"),
    ],
)
def test_a_price_that_stripe_may_say_and_we_do_not_know_is_refused(
    prices: StripePrices, monkeypatch: pytest.MonkeyPatch, about: dict[str, Any], why: str
) -> None:
    values: Any = {
        "id": "price_1",
        "billing_scheme": "per_unit",
        "currency": "usd",
        "custom_unit_amount": None,
        "tiers_mode": None,
        "transform_quantity": None,
        "unit_amount": 1,
        "unit_amount_decimal": None,
    }
    price = stripe.Price.construct_from(values | about, "sk_test_x")
    monkeypatch.setattr(StripePrices, "_read", lambda *_: price)

    with pytest.raises(UnpriceableError, match=f"price price_1 {why}"):
        prices.rate("price_1")
