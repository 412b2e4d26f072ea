"""Customers, products and prices."""

from datetime import timedelta
from decimal import Decimal
from typing import Any, cast

import pytest
import stripe
from stripe.billing import Meter

from local.stripe.control import StandIn
from tests.stripe_standin.description import CheckedClient


@pytest.fixture
def product(client: stripe.StripeClient) -> stripe.Product:
    return client.v1.products.create({"name": "API"})


class Prices:
    """Metered monthly prices in dollars; what is not given does not matter."""

    def __init__(self, client: stripe.StripeClient, product: str, meter: str) -> None:
        self._client = client
        self._product = product
        self._meter = meter

    def create(self, *, version: str | None = None, **given: Any) -> stripe.Price:
        recurring = {"interval": "month", "usage_type": "metered", "meter": self._meter}
        params = {"currency": "usd", "product": self._product, "recurring": recurring} | given
        options: stripe.RequestOptions = {"stripe_version": version} if version else {}
        return self._client.v1.prices.create(cast("Any", params), options)


@pytest.fixture
def prices(client: stripe.StripeClient, product: stripe.Product, meter: Meter) -> Prices:
    return Prices(client, product.id, meter.id)


# --- customers ----------------------------------------------------------------------------------


def test_a_customer_is_kept_as_told(client: stripe.StripeClient) -> None:
    made = client.v1.customers.create(
        {"name": "Ada", "email": "ada@example.com", "address": {"city": "London"}}
    )
    found = client.v1.customers.retrieve(made.id)

    assert found.to_dict() == made.to_dict()
    assert made.id.startswith("cus_")
    assert made.address
    assert (made.address.city, made.address.country) == ("London", None)


def test_a_customers_fields_are_changed_and_emptied_one_by_one(
    client: stripe.StripeClient,
) -> None:
    made = client.v1.customers.create({"name": "Ada", "email": "ada@example.com"})
    changed = client.v1.customers.update(made.id, {"email": ""})

    assert (changed.name, changed.email) == ("Ada", None)


def test_customers_are_found_by_email_and_creation(
    client: stripe.StripeClient, stand_in: StandIn
) -> None:
    early = client.v1.customers.create({"email": "a@example.com"})
    stand_in.advance(timedelta(seconds=10))
    late = client.v1.customers.create({"email": "b@example.com"})

    def found(**params: Any) -> list[str]:
        return [one.id for one in client.v1.customers.list(cast("Any", params)).data]

    assert found(email="a@example.com") == [early.id]
    assert found(created={"gt": early.created}) == [late.id]
    assert found(created={"gte": early.created, "lt": late.created}) == [early.id]
    assert found(created=late.created) == [late.id]


def test_a_deleted_customer_leaves_a_stub_and_no_place_in_lists(
    client: stripe.StripeClient, customer: stripe.Customer
) -> None:
    client.v1.customers.delete(customer.id)

    assert client.v1.customers.retrieve(customer.id).to_dict() == {
        "id": customer.id,
        "object": "customer",
        "deleted": True,
    }
    assert client.v1.customers.list().data == []
    with pytest.raises(stripe.InvalidRequestError, match="No such customer"):
        client.v1.customers.update(customer.id, {"name": "Eve"})


def test_customers_can_be_put_under_chosen_ids(
    client: stripe.StripeClient, stand_in: StandIn
) -> None:
    assert stand_in.add_customers(["cus_A", "cus_B"]) == 2
    assert stand_in.add_customers(["cus_B", "cus_C"]) == 1

    assert client.v1.customers.retrieve("cus_C").id == "cus_C"


# --- products -----------------------------------------------------------------------------------


def test_a_product_may_choose_its_id_once(client: stripe.StripeClient) -> None:
    client.v1.products.create({"name": "API", "id": "api"})

    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v1.products.create({"name": "API", "id": "api"})
    assert refused.value.code == "resource_already_exists"


def test_a_product_with_prices_stays(
    client: stripe.StripeClient, product: stripe.Product, prices: Prices
) -> None:
    other = client.v1.products.create({"name": "other"})
    prices.create(unit_amount=1)

    with pytest.raises(stripe.InvalidRequestError, match="one or more user-created prices"):
        client.v1.products.delete(product.id)
    assert client.v1.products.delete(other.id).deleted


def test_products_are_listed_by_activity(
    client: stripe.StripeClient, product: stripe.Product
) -> None:
    client.v1.products.update(product.id, {"active": False})
    other = client.v1.products.create({"name": "other"})

    assert [one.id for one in client.v1.products.list({"active": True}).data] == [other.id]
    assert [one.id for one in client.v1.products.list({"ids": [product.id]}).data] == [product.id]


# --- prices -------------------------------------------------------------------------------------


def test_a_metered_price_names_its_meter(prices: Prices, meter: Meter) -> None:
    price = prices.create(unit_amount=5)

    assert price.recurring
    assert (price.recurring.usage_type, price.recurring.meter) == ("metered", meter.id)
    assert (price.unit_amount, price.unit_amount_decimal) == (5, Decimal(5))
    assert price.type == "recurring"


def test_a_fraction_of_a_cent_is_kept_exactly(prices: Prices) -> None:
    price = prices.create(unit_amount_decimal="0.000000000001")

    assert price.unit_amount is None
    assert price.unit_amount_decimal == Decimal("0.000000000001")


def test_tiers_are_shown_only_when_expanded(client: stripe.StripeClient, prices: Prices) -> None:
    price = prices.create(
        billing_scheme="tiered",
        tiers_mode="graduated",
        tiers=[
            {"up_to": 100, "unit_amount": 0},
            {"up_to": "inf", "unit_amount_decimal": "0.25", "flat_amount": 500},
        ],
    )
    expanded = client.v1.prices.retrieve(price.id, {"expand": ["tiers", "product"]})

    assert "tiers" not in price
    assert expanded.tiers
    assert [
        (tier.up_to, tier.unit_amount_decimal, tier.flat_amount) for tier in expanded.tiers
    ] == [(100, Decimal(0), None), (None, Decimal("0.25"), 500)]
    assert isinstance(expanded.product, stripe.Product)
    assert expanded.product.name == "API"


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({}, "unit_amount"),
        ({"unit_amount": 1, "unit_amount_decimal": "1"}, "unit_amount"),
        ({"unit_amount_decimal": "0.0000000000001"}, "unit_amount_decimal"),
        ({"unit_amount": 1, "tiers_mode": "volume"}, "tiers_mode"),
        ({"billing_scheme": "tiered", "tiers": [{"up_to": "inf", "unit_amount": 1}]}, "tiers_mode"),
        (
            {
                "billing_scheme": "tiered",
                "tiers_mode": "volume",
                "tiers": [{"up_to": 10, "unit_amount": 1}],
            },
            "tiers[0][up_to]",
        ),
        (
            {
                "billing_scheme": "tiered",
                "tiers_mode": "volume",
                "tiers": [
                    {"up_to": 10, "unit_amount": 1},
                    {"up_to": 10, "unit_amount": 1},
                    {"up_to": "inf", "unit_amount": 1},
                ],
            },
            "tiers",
        ),
        (
            {
                "billing_scheme": "tiered",
                "tiers_mode": "volume",
                "tiers": [{"up_to": "inf"}],
            },
            "tiers[0][unit_amount]",
        ),
        (
            {
                "billing_scheme": "tiered",
                "tiers_mode": "volume",
                "tiers": [{"up_to": "inf", "unit_amount": 1}],
                "transform_quantity": {"divide_by": 10, "round": "up"},
            },
            "transform_quantity",
        ),
        ({"unit_amount": 1, "product": "prod_nobody"}, "product"),
        (
            {"unit_amount": 1, "recurring": {"interval": "month", "usage_type": "metered"}},
            "recurring[meter]",
        ),
        (
            {"unit_amount": 1, "recurring": {"interval": "month", "meter": "mtr_x"}},
            "recurring[meter]",
        ),
    ],
)
def test_prices_that_do_not_go_together_are_refused(
    prices: Prices, given: dict[str, Any], param: str
) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refused:
        prices.create(**given)

    assert refused.value.param == param


def test_packages_are_priced_by_transformed_quantity(prices: Prices) -> None:
    price = prices.create(unit_amount=100, transform_quantity={"divide_by": 1000, "round": "up"})

    assert price.transform_quantity
    assert (price.transform_quantity.divide_by, price.transform_quantity.round) == (1000, "up")


def test_an_inactive_meter_gets_no_price(
    client: stripe.StripeClient, prices: Prices, meter: Meter
) -> None:
    client.v1.billing.meters.deactivate(meter.id)

    with pytest.raises(stripe.InvalidRequestError, match="inactive"):
        prices.create(unit_amount=1)


def test_a_metered_price_without_a_meter_is_of_an_older_version(
    client: stripe.StripeClient, prices: Prices, customer: stripe.Customer
) -> None:
    legacy = prices.create(
        unit_amount=1,
        recurring={"interval": "month", "usage_type": "metered"},
        version="2025-02-24.acacia",
    )
    found = client.v1.prices.retrieve(legacy.id)

    assert found.recurring
    assert (found.recurring.usage_type, found.recurring.meter) == ("metered", None)
    with pytest.raises(stripe.InvalidRequestError, match="has no meter"):
        client.v1.subscriptions.create({"customer": customer.id, "items": [{"price": legacy.id}]})


def test_a_lookup_key_names_one_price_and_can_be_taken_over(
    client: stripe.StripeClient, prices: Prices
) -> None:
    first = prices.create(unit_amount=1, lookup_key="standard")
    with pytest.raises(stripe.InvalidRequestError, match="already uses"):
        prices.create(unit_amount=2, lookup_key="standard")
    second = prices.create(unit_amount=2, lookup_key="standard", transfer_lookup_key=True)

    assert client.v1.prices.retrieve(first.id).lookup_key is None
    found = client.v1.prices.list({"lookup_keys": ["standard"]})
    assert [one.id for one in found.data] == [second.id]


def test_prices_are_listed_by_their_meter(
    client: stripe.StripeClient, product: stripe.Product, prices: Prices, meter: Meter
) -> None:
    metered = prices.create(unit_amount=1)
    client.v1.prices.create({"currency": "usd", "product": product.id, "unit_amount": 900})

    found = client.v1.prices.list({"recurring": {"meter": meter.id, "usage_type": "metered"}})

    assert [one.id for one in found.data] == [metered.id]


def test_a_refused_price_leaves_no_product_behind(
    client: stripe.StripeClient, meter: Meter, transport: CheckedClient
) -> None:
    client.v1.prices.create(
        {
            "currency": "usd",
            "unit_amount": 1,
            "lookup_key": "taken",
            "product_data": {"name": "first"},
        }
    )
    with pytest.raises(stripe.InvalidRequestError, match="already uses"):
        client.v1.prices.create(
            {
                "currency": "usd",
                "unit_amount": 1,
                "lookup_key": "taken",
                "product_data": {"name": "second"},
            }
        )

    assert [one.name for one in client.v1.products.list().data] == ["first"]
