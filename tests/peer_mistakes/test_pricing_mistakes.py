"""The peer's pricing, W16: for each mistake, the right amount.

Stripe prices usage and we do not, except usage that came after a closed period and is billed apart
(`metering.pricing`); there and in the Stripe stand-in the rules are Stripe's own. So these parts of
W16 have no counterpart here: commitments (the peer's over-applied one added cost), credits (its
could exceed the subtotal), tax, minimum and maximum charges. Stripe has them, on its own invoices.
Nor is it a mistake of ours, or of Stripe's, that under volume tiers 101 units may cost less than
100: it is what such a price says, and the test states it.

Amounts are in cents unless said otherwise.
"""

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
import stripe

from metering.names import Metric
from metering.pricing import (
    Package,
    Rate,
    Rounding,
    Tier,
    TiersMode,
    UnpriceableError,
    cost,
    exact_cost,
)
from tests.billing_world import HOUR, MINUTE, BillingWorld
from tests.builders import DEMO, NOON
from tests.closing_world import ClosingWorld
from tests.peer_mistakes.pipeline import Pipeline

D = Decimal


def tiers(mode: TiersMode, *given: tuple[str | None, str] | tuple[str | None, str, str]) -> Rate:
    """A price in tiers: up to, amount of a unit, flat amount; in dollars as the peer has them."""
    made = [
        Tier(D(up_to) if up_to else None, *(D(amount) * 100 for amount in amounts))
        for up_to, *amounts in given
    ]
    return Rate("price_1", "usd", tiers_mode=mode, tiers=tuple(made))


def per_unit(dollars: str, package: Package | None = None) -> Rate:
    return Rate("price_1", "usd", unit_amount=D(dollars) * 100, package=package)


SLICES = (("100", "1"), ("1000", "0.8"), (None, "0.6"))
GRADUATED, VOLUME = TiersMode.GRADUATED, TiersMode.VOLUME


# --- the vectors that the peer's library has right ------------------------------------------------


@pytest.mark.parametrize(
    ("quantity", "dollars"),
    [
        ("0", "0"),
        ("1", "1"),
        ("100", "100"),
        ("100.5", "100.4"),
        ("101", "100.8"),
        ("150.5", "140.4"),
        ("1000", "820"),
        ("1001", "820.6"),
        ("1500", "1120"),
    ],
)
def test_w16_slices_of_100_at_1_and_900_at_80_cents_cost_what_each_says(
    quantity: str, dollars: str
) -> None:
    assert cost(tiers(GRADUATED, *SLICES), D(quantity)) == D(dollars) * 100


@pytest.mark.parametrize(
    ("quantity", "dollars"),
    [("0", "0"), ("100", "100"), ("101", "80.8"), ("1000", "800"), ("1001", "600.6")],
)
def test_w16_under_volume_tiers_101_units_cost_80_dollars_80_and_100_cost_100(
    quantity: str, dollars: str
) -> None:
    """Less for more, as the price says; the peer promised otherwise and did the same."""
    assert cost(tiers(VOLUME, *SLICES), D(quantity)) == D(dollars) * 100


@pytest.mark.parametrize(
    ("quantity", "dollars"),
    [
        ("1", "10.5"),
        ("50", "35"),
        ("100", "60"),
        ("101", "110.3"),
        ("1000", "380"),
        ("1500", "580"),
    ],
)
def test_w16_flat_amounts_are_due_for_each_tier_that_is_entered(
    quantity: str, dollars: str
) -> None:
    with_flat = (("100", "0.5", "10"), ("1000", "0.3", "50"), (None, "0.2", "100"))

    assert cost(tiers(GRADUATED, *with_flat), D(quantity)) == D(dollars) * 100


def test_w16_13_bundles_of_4_at_5_dollars_cost_20() -> None:
    assert cost(per_unit("5", Package(4, Rounding.UP)), D(13)) == 2000


# --- and what it has wrong ------------------------------------------------------------------------


def test_w16_a_tier_up_to_0_is_refused_and_10_units_at_1_are_10() -> None:
    """The peer read `upTo: 0` as without end: 10 units cost 50."""
    with pytest.raises(UnpriceableError, match="bounds do not ascend from above 0"):
        tiers(GRADUATED, ("0", "5"), (None, "1"))

    assert cost(tiers(GRADUATED, (None, "1")), D(10)) == 1000


@pytest.mark.parametrize("mode", TiersMode)
def test_w16_100_at_1_with_no_tier_above_has_no_price_for_150(mode: TiersMode) -> None:
    """The peer gave the 50 above the last tier away: 100."""
    with pytest.raises(UnpriceableError, match="what lies above has no price"):
        tiers(mode, ("100", "1"))

    assert cost(tiers(mode, ("100", "1"), (None, "1")), D(150)) == 15_000


def test_w16_a_negative_quantity_has_no_price_and_is_billed_as_0() -> None:
    """The peer made a line of -5."""
    with pytest.raises(UnpriceableError, match="a quantity of -5 has no price"):
        exact_cost(per_unit("1"), D(-5))

    assert cost(per_unit("1"), D(-5)) == 0


@pytest.mark.parametrize("about", [{}, {"tiers_mode": TiersMode.VOLUME}])
def test_w16_a_price_without_an_amount_or_tiers_is_refused_and_not_0(about: dict[str, Any]) -> None:
    """The peer priced what it did not know at 0."""
    with pytest.raises(UnpriceableError):
        Rate("price_1", "usd", **about)


@pytest.mark.parametrize(
    ("quantity", "dollars", "cents"),
    [("3", "0.335", 101), ("1", "1.005", 101), ("1000", "0.0012", 120), ("33.333", "0.03", 100)],
)
def test_w16_1000_units_at_0_point_0012_cost_1_dollar_20_rounded_once(
    quantity: str, dollars: str, cents: int
) -> None:
    """The peer showed the price of such a unit as 0, and rounded at every step."""
    assert cost(per_unit(dollars), D(quantity)) == cents


def test_w16_500_units_at_1_yen_cost_500_yen_and_not_50_000() -> None:
    """The peer knew no currency without decimals."""
    assert cost(Rate("price_1", "jpy", unit_amount=D(1)), D(500)) == 500


# --- on Stripe's invoice --------------------------------------------------------------------------


def a_price(billing: BillingWorld, tiers: list[dict[str, object]], **about: object) -> stripe.Price:
    """A price in tiers for a meter of its own."""
    mapping = billing.map() if not billing.wiring.settings_store.mappings(DEMO) else None
    mapping = mapping or billing.wiring.settings.active_mapping(DEMO, Metric("api_calls"))
    assert mapping is not None
    asked: Any = {
        "product_data": {"name": "Calls"},
        "currency": "usd",
        "billing_scheme": "tiered",
        "tiers_mode": "graduated",
        "tiers": tiers,
        "recurring": {"interval": "month", "usage_type": "metered", "meter": mapping.meter_id},
    }
    price = billing.stripe.v1.prices.create(asked | about)
    changed = replace(mapping, price_id=price.id)
    billing.wiring.settings_store.change_mapping(mapping, changed)
    return price


def billed(billing: BillingWorld, price: stripe.Price, quantity: int) -> stripe.Invoice:
    """The invoice of a period in which that much was used."""
    closing = ClosingWorld.over(billing)
    billing.customer("cus_A")
    closing.subscribe(price=price)
    closing.close()
    billing.advance(MINUTE)
    Pipeline(billing).use(quantity)
    billing.set_time(NOON.replace(month=12) + 2 * HOUR)
    (newest, *_) = billing.stripe.v1.invoices.list({"customer": "cus_A"}).data
    return newest


def test_w16_350_calls_in_three_tiers_are_billed_30_dollars(billing: BillingWorld) -> None:
    """The peer's own example; its getting-started page says 28."""
    price = a_price(
        billing,
        [
            {"up_to": 100, "unit_amount": 10},
            {"up_to": 500, "unit_amount": 8},
            {"up_to": "inf", "unit_amount": 5},
        ],
    )

    invoice = billed(billing, price, 350)

    assert (invoice.total, invoice.currency) == (3000, "usd")
    rate = billing.wiring.apart.prices.rate(price.id)
    assert cost(rate, D(350)) == 3000


def test_w16_500_calls_at_1_yen_are_billed_500_yen(billing: BillingWorld) -> None:
    price = a_price(billing, [{"up_to": "inf", "unit_amount": 1}], currency="jpy")

    invoice = billed(billing, price, 500)

    assert (invoice.total, invoice.currency) == (500, "jpy")


@pytest.mark.parametrize(
    "given",
    [
        [{"up_to": 100, "unit_amount": 1}],
        [{"up_to": 0, "unit_amount": 5}, {"up_to": "inf", "unit_amount": 1}],
    ],
)
def test_w16_neither_does_stripe_take_a_bounded_last_tier_or_one_up_to_0(
    billing: BillingWorld, given: list[dict[str, object]]
) -> None:
    with pytest.raises(stripe.InvalidRequestError, match=r"must have up_to=inf|or equal to 1\."):
        a_price(billing, given)


def test_w16_dollars_and_yen_are_never_on_one_invoice(billing: BillingWorld) -> None:
    """The peer summed them and called it the first line's currency."""
    dollars = a_price(billing, [{"up_to": "inf", "unit_amount": 1}])
    yen = a_price(billing, [{"up_to": "inf", "unit_amount": 1}], currency="jpy")
    billing.customer("cus_A")

    both: Any = {"customer": "cus_A", "items": [{"price": dollars.id}, {"price": yen.id}]}
    with pytest.raises(stripe.InvalidRequestError, match="currenc"):
        billing.stripe.v1.subscriptions.create(both)
