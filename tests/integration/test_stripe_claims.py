"""Tenants that share a Stripe account: what one has named at Stripe, another cannot."""

from dataclasses import replace

import pytest

from metering.errors import ConflictError
from metering.names import CustomerRef, TenantId
from metering.stripe_claims import StripeName, name_of, named_by_customer, named_by_mapping
from metering.wiring import Wiring
from tests.api_client import api_of
from tests.billing_world import BillingWorld
from tests.builders import A_MAPPING
from tests.conftest import SetClock

ACME, OTHER = TenantId("acme"), TenantId("other")


def test_what_one_tenant_has_claimed_another_cannot(wiring: Wiring, clock: SetClock) -> None:
    claims, now = wiring.stripe_claims, clock.now()
    claims.take(ACME, [name_of("price_1"), name_of("cus_1")], now)

    claims.take(ACME, [name_of("cus_1"), name_of("cus_1"), name_of("cus_2")], now)
    with pytest.raises(ConflictError, match="cus_2 at Stripe is another tenant's"):
        claims.take(OTHER, [name_of("cus_3"), name_of("cus_2")], now)

    claims.take(ACME, [name_of("cus_3")], now)  # nothing was claimed with what was refused


def test_what_was_released_is_whoevers_names_it_next(wiring: Wiring, clock: SetClock) -> None:
    claims, name = wiring.stripe_claims, name_of("price_1")
    claims.take(ACME, [name], clock.now())
    with pytest.raises(ConflictError):
        claims.take(OTHER, [name], clock.now())

    assert claims.release(name) == ACME
    assert claims.release(name) is None
    claims.take(OTHER, [name], clock.now())

    with pytest.raises(ConflictError):
        claims.take(ACME, [name], clock.now())


def test_an_event_name_is_one_of_its_account_and_an_id_is_one_everywhere() -> None:
    mapping = replace(
        A_MAPPING,
        stripe_account="acct_1",
        price_id="price_1",
        meter_id="mtr_1",
        meter_event_name="price_2",
        subscription_item_id="si_1",
    )
    elsewhere = replace(mapping, stripe_account="acct_2")

    own, others = named_by_mapping(mapping), named_by_mapping(elsewhere)

    assert own[:3] == others[:3] == [name_of("price_1"), name_of("mtr_1"), name_of("si_1")]
    assert own[3] != others[3]
    assert own[3] != name_of("price_2")
    assert own[3] == StripeName(own[3].space, "price_2")
    assert name_of("api_calls", "acct_1").space == own[3].space


def test_a_customer_that_nobody_described_at_stripe_names_nothing(wiring: Wiring) -> None:
    plain = wiring.settings.customer(ACME, CustomerRef("shop"))

    assert named_by_customer(plain) == []


def test_the_price_and_the_meter_of_a_tenant_are_refused_to_another(
    billing: BillingWorld,
) -> None:
    wired = billing.wiring
    owner, thief = api_of(wired, ACME), api_of(wired, OTHER)
    meter, price, second = priced(billing, "calls")
    wanted = {"metric": "calls", "aggregation": "sum", "priceId": price}
    assert owner.post("/v1/mappings", wanted).status == 201

    by_price = thief.post("/v1/mappings", wanted)
    by_another_price = thief.post("/v1/mappings", wanted | {"priceId": second})
    by_meter = thief.post(
        "/v1/mappings",
        {"metric": "calls", "aggregation": "sum", "meterId": meter, "meterEventName": "calls"},
    )

    assert (by_price.status, by_another_price.status, by_meter.status) == (409, 409, 409)
    assert f"{price} at Stripe is another tenant's" in by_price.body["message"]
    assert f"{meter} at Stripe is another tenant's" in by_another_price.body["message"]
    assert thief.get("/v1/mappings").body == []
    again = owner.post("/v1/mappings", wanted | {"metric": "more", "priceId": second})
    assert again.status == 201  # its own meter, by another price of it


def test_a_mapping_is_not_moved_onto_anothers_price(billing: BillingWorld) -> None:
    wired = billing.wiring
    owner, thief = api_of(wired, ACME), api_of(wired, OTHER)
    _, price, _ = priced(billing, "calls")
    _, own, _ = priced(billing, "pages")
    wanted = {"metric": "calls", "aggregation": "sum"}
    owner.post("/v1/mappings", wanted | {"priceId": price})
    made = thief.post("/v1/mappings", wanted | {"priceId": own}).body

    answer = thief.put(f"/v1/mappings/{made['id']}", {"priceId": price})

    assert answer.status == 409
    assert thief.get(f"/v1/mappings/{made['id']}").body["priceId"] == own


def test_a_tenants_stripe_customer_and_subscription_are_refused_to_another(
    billing: BillingWorld,
) -> None:
    wired = billing.wiring
    owner, thief = api_of(wired, ACME), api_of(wired, OTHER)
    billing.customer("cus_A")
    put = {"stripeCustomer": "cus_A"}
    assert owner.put("/v1/customers/shop", put).status == 200

    for path, body in (
        ("/v1/customers/mine", put),
        ("/v1/customers/cus_A", {}),  # a ref that is a Stripe customer, said aloud
    ):
        answer = thief.put(path, body)
        assert answer.status == 409, path
        assert "cus_A at Stripe is another tenant's" in answer.body["message"]
    assert thief.get("/v1/customers").body["customers"] == []
    assert owner.put("/v1/customers/branch", put).status == 200


def priced(billing: BillingWorld, event_name: str) -> tuple[str, str, str]:
    """A meter at Stripe and two prices that charge by it."""
    stripe = billing.stripe
    meter = stripe.v1.billing.meters.create(
        {
            "display_name": event_name,
            "event_name": event_name,
            "default_aggregation": {"formula": "sum"},
        }
    )
    product = stripe.v1.products.create({"name": event_name})
    prices = [
        stripe.v1.prices.create(
            {
                "product": product.id,
                "currency": "usd",
                "unit_amount": 1,
                "recurring": {"interval": "month", "usage_type": "metered", "meter": meter.id},
            }
        ).id
        for _ in range(2)
    ]
    return meter.id, prices[0], prices[1]
