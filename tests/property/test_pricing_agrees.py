"""Our arithmetic of prices and the stand-in's, which share no code, agree to the last unit."""

from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from local.stripe.charges import charge, rounded
from metering.pricing import (
    Package,
    Rate,
    Rounding,
    Tier,
    TiersMode,
    cost,
    cost_of_more,
    exact_cost,
)

AMOUNTS = st.decimals(0, 10**9, places=12, allow_nan=False, allow_infinity=False)
SMALL_AMOUNTS = st.decimals(0, 3, places=4, allow_nan=False, allow_infinity=False)
QUANTITIES = st.one_of(
    st.integers(0, 300).map(Decimal),
    st.decimals(0, 300, places=3, allow_nan=False, allow_infinity=False),
    st.decimals(0, 10**15 - 1, places=12, allow_nan=False, allow_infinity=False),
)
TINY = Decimal("0.000000000001")
BOUNDS = st.lists(st.integers(1, 250), max_size=4, unique=True).map(sorted)


def price(rate: Rate) -> dict[str, Any]:
    """The rate as the stand-in stores it."""
    package = rate.package
    return {
        "billing_scheme": "tiered" if rate.tiers_mode else "per_unit",
        "unit_amount_decimal": None if rate.unit_amount is None else str(rate.unit_amount),
        "transform_quantity": package and {"divide_by": package.size, "round": package.rounding},
        "tiers_mode": rate.tiers_mode,
        "tiers": [
            {
                "up_to": None if tier.up_to is None else int(tier.up_to),
                "unit_amount_decimal": str(tier.unit_amount),
                "flat_amount_decimal": str(tier.flat_amount),
            }
            for tier in rate.tiers
        ],
    }


@st.composite
def rates(draw: st.DrawFn) -> Rate:
    amounts = st.one_of(AMOUNTS, SMALL_AMOUNTS)
    if draw(st.booleans()):
        package = st.builds(Package, st.integers(1, 120), st.sampled_from(Rounding))
        return Rate("price_1", "usd", unit_amount=draw(amounts), package=draw(st.none() | package))
    bounds: list[Decimal | None] = [Decimal(bound) for bound in draw(BOUNDS)]
    tiers = tuple(Tier(bound, draw(amounts), draw(amounts)) for bound in [*bounds, None])
    return Rate("price_1", "usd", tiers_mode=draw(st.sampled_from(TiersMode)), tiers=tiers)


@given(rates(), QUANTITIES)
def test_any_quantity_costs_the_same_here_and_there(rate: Rate, quantity: Decimal) -> None:
    theirs = charge(price(rate), quantity)

    assert exact_cost(rate, quantity) == theirs
    assert cost(rate, quantity) == rounded(theirs)


@given(rates(), QUANTITIES, st.lists(st.integers(-50, 300).map(Decimal), max_size=5))
def test_in_any_steps_a_quantity_costs_what_it_costs_at_once(
    rate: Rate, first: Decimal, steps: list[Decimal]
) -> None:
    billed, total = cost(rate, first), first
    for more in steps:
        billed += cost_of_more(rate, total, more)
        total += more

    assert billed == cost(rate, total)


@given(
    st.lists(st.tuples(AMOUNTS, AMOUNTS), min_size=1, max_size=5), BOUNDS, QUANTITIES, QUANTITIES
)
def test_a_graduated_price_never_falls_and_has_no_step_but_flat_amounts(
    amounts: list[tuple[Decimal, Decimal]], bounds: list[int], one: Decimal, other: Decimal
) -> None:
    own = [Decimal(bound) for bound in bounds[: len(amounts) - 1]]
    tiers = tuple(Tier(up_to, *both) for up_to, both in zip([*own, None], amounts, strict=False))
    rate = Rate("price_1", "usd", tiers_mode=TiersMode.GRADUATED, tiers=tiers)
    less, more = sorted([one, other])

    assert exact_cost(rate, less) <= exact_cost(rate, more)
    for tier, after in pairwise(tiers):
        assert tier.up_to is not None
        above, at = exact_cost(rate, tier.up_to + TINY), exact_cost(rate, tier.up_to)
        step = Fraction(after.flat_amount) + Fraction(TINY) * Fraction(after.unit_amount)
        assert Fraction(above) - Fraction(at) == step
