"""What quantities cost; each amount here was worked by hand."""

from decimal import Decimal
from typing import Any

import pytest

from metering.pricing import (
    Package,
    Rate,
    Rounding,
    Tier,
    TiersMode,
    UnpriceableError,
    cost,
    cost_of_more,
    exact_cost,
)

CENT = Rate("price_1", "usd", unit_amount=Decimal(1))
# 7.00, 6.50 and 6.00 USD for the first 5, up to 10, and all further ones.
FONTS = (
    Tier(Decimal(5), Decimal(700)),
    Tier(Decimal(10), Decimal(650)),
    Tier(None, Decimal(600)),
)


def tiered(mode: TiersMode, *tiers: Tier) -> Rate:
    return Rate("price_1", "usd", tiers_mode=mode, tiers=tiers)


def per_unit(amount: str, package: Package | None = None) -> Rate:
    return Rate("price_1", "usd", unit_amount=Decimal(amount), package=package)


# --- per unit and per package ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("unit", "quantity", "amount"),
    [
        ("3", "7", 21),
        ("3", "0", 0),
        ("0.1", "4", 0),  # 0.4
        ("0.1", "5", 1),  # 0.5: half a cent rounds up
        ("0.1", "25", 3),  # 2.5: up, not to even
        ("2.5", "0.2", 1),  # 0.5
        ("0.000000000001", "999999999999999", 1000),  # 999.999999999999
        ("0.333333333333", "3", 1),  # 0.999999999999
    ],
)
def test_units_cost_their_exact_amount_rounded_once(unit: str, quantity: str, amount: int) -> None:
    assert cost(per_unit(unit), Decimal(quantity)) == amount


def test_nothing_is_rounded_before_the_end() -> None:
    greatest = Decimal("999999999999999.999999999999")

    assert exact_cost(per_unit("0.000000000001"), greatest) == Decimal(
        "999.999999999999999999999999"
    )


@pytest.mark.parametrize(
    ("rounding", "quantity", "amount"),
    [
        (Rounding.UP, "0", 0),
        (Rounding.UP, "1", 500),
        (Rounding.UP, "100", 500),
        (Rounding.UP, "100.5", 1000),
        (Rounding.UP, "101", 1000),
        (Rounding.DOWN, "99", 0),
        (Rounding.DOWN, "100", 500),
        (Rounding.DOWN, "199.9", 500),
    ],
)
def test_packages_are_counted_whole(rounding: Rounding, quantity: str, amount: int) -> None:
    assert cost(per_unit("500", Package(100, rounding)), Decimal(quantity)) == amount


def test_whole_yen_are_the_smallest_unit_of_their_currency() -> None:
    yen = Rate("price_1", "jpy", unit_amount=Decimal("2.5"))

    assert cost(yen, Decimal(3)) == 8  # 7.5 yen, not 750


# --- tiers ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("quantity", "graduated", "volume"),
    [
        ("0", 0, 0),
        ("5", 3500, 3500),
        ("6", 3500 + 650, 6 * 650),
        ("10", 3500 + 3250, 6500),  # the bound itself belongs to its tier
        ("10.5", 3500 + 3250 + 300, 6300),
        ("20", 3500 + 3250 + 6000, 12000),
    ],
)
def test_tiers_are_read_by_slices_or_by_the_whole(
    quantity: str, graduated: int, volume: int
) -> None:
    assert cost(tiered(TiersMode.GRADUATED, *FONTS), Decimal(quantity)) == graduated
    assert cost(tiered(TiersMode.VOLUME, *FONTS), Decimal(quantity)) == volume


@pytest.mark.parametrize(
    ("quantity", "graduated", "volume"),
    [
        ("0", 1000, 1000),  # Stripe bills the first flat amount for nothing, too
        ("100", 1000, 1000),
        ("101", 1503, 753),  # 1000 + 2.5 + 500; all 101 at 2.5, and 500
        ("200", 1750, 1000),
        ("201", 1751, 201),
    ],
)
def test_flat_amounts_are_due_for_every_tier_that_is_reached(
    quantity: str, graduated: int, volume: int
) -> None:
    tiers = (
        Tier(Decimal(100), flat_amount=Decimal(1000)),
        Tier(Decimal(200), Decimal("2.5"), Decimal(500)),
        Tier(None, Decimal(1)),
    )

    assert cost(tiered(TiersMode.GRADUATED, *tiers), Decimal(quantity)) == graduated
    assert cost(tiered(TiersMode.VOLUME, *tiers), Decimal(quantity)) == volume


# --- more of it -----------------------------------------------------------------------------------


def test_more_costs_what_the_invoice_would_have_been_higher_by() -> None:
    fonts = tiered(TiersMode.GRADUATED, *FONTS)

    assert cost_of_more(fonts, Decimal(4), Decimal(3)) == 700 + 2 * 650
    assert cost_of_more(fonts, Decimal(7), Decimal(-3)) == -(700 + 2 * 650)


def test_volume_tiers_can_make_more_usage_cheaper() -> None:
    assert cost_of_more(tiered(TiersMode.VOLUME, *FONTS), Decimal(5), Decimal(0)) == 0
    assert cost_of_more(tiered(TiersMode.VOLUME, *FONTS), Decimal(10), Decimal(1)) == 6600 - 6500
    cheaper = tiered(TiersMode.VOLUME, Tier(Decimal(10), Decimal(100)), Tier(None, Decimal(50)))
    assert cost_of_more(cheaper, Decimal(10), Decimal(1)) == 550 - 1000


def test_many_small_steps_add_up_to_the_cost_of_the_whole() -> None:
    rate = per_unit("0.4")

    steps = [cost_of_more(rate, Decimal(n), Decimal(1)) for n in range(5)]

    assert (steps, sum(steps)) == ([0, 1, 0, 1, 0], cost(rate, Decimal(5)))


def test_what_lies_below_nothing_is_billed_as_nothing() -> None:
    assert cost(CENT, Decimal(-3)) == 0
    assert cost_of_more(CENT, Decimal(-3), Decimal(5)) == 2
    assert cost_of_more(CENT, Decimal(2), Decimal(-5)) == -2


# --- what has no price ----------------------------------------------------------------------------

NO_END = "has no last tier without a bound: what lies above has no price"
NO_ROW = "has tiers whose bounds do not ascend from above 0"


@pytest.mark.parametrize(
    ("about", "why"),
    [
        ({}, "has neither a unit amount nor tiers, or both"),
        ({"currency": "", "unit_amount": Decimal(1)}, "has no currency"),
        ({"unit_amount": Decimal(-1)}, "has a negative amount"),
        ({"unit_amount": Decimal(1), "tiers": FONTS}, "has tiers beside its unit amount"),
        (
            {"unit_amount": Decimal(1), "package": Package(0, Rounding.UP)},
            "has packages of 0 units",
        ),
        ({"tiers_mode": TiersMode.VOLUME}, NO_END),
        ({"tiers_mode": TiersMode.VOLUME, "tiers": FONTS[:2]}, NO_END),
        ({"tiers_mode": TiersMode.VOLUME, "tiers": (FONTS[2], FONTS[2])}, NO_ROW),
        (
            {"tiers_mode": TiersMode.GRADUATED, "tiers": (FONTS[1], FONTS[0], FONTS[2])},
            NO_ROW,
        ),
        (
            {
                "tiers_mode": TiersMode.GRADUATED,
                "tiers": (Tier(Decimal(0), Decimal(1)), FONTS[2]),
            },
            NO_ROW,
        ),
        (
            {"tiers_mode": TiersMode.VOLUME, "tiers": (Tier(None, Decimal(-1)),)},
            "has a negative amount",
        ),
        (
            {
                "tiers_mode": TiersMode.VOLUME,
                "tiers": FONTS,
                "package": Package(10, Rounding.UP),
            },
            "has packages and tiers; Stripe allows one of them",
        ),
    ],
)
def test_a_price_that_does_not_say_one_thing_is_refused(about: dict[str, Any], why: str) -> None:
    with pytest.raises(UnpriceableError, match=f"^price price_1 {why}$"):
        Rate(**({"price_id": "price_1", "currency": "usd"} | about))


@pytest.mark.parametrize("quantity", ["-1", "NaN", "Infinity"])
def test_a_quantity_that_is_none_has_no_price(quantity: str) -> None:
    with pytest.raises(UnpriceableError, match=f"a quantity of {quantity} has no price"):
        exact_cost(CENT, Decimal(quantity))


def test_an_amount_of_thirty_eight_digits_is_rounded_to_the_unit() -> None:
    assert cost(per_unit("999999999999.5"), Decimal(10**25 + 1)) == 9999999999995 * 10**24 + 10**12
    assert cost(per_unit("0.5"), Decimal(2**61 + 1)) == 2**60 + 1
