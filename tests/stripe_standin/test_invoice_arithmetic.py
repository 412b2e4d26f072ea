"""What usage costs: per unit, in tiers, in packages; each amount here was worked by hand."""

from decimal import Decimal
from typing import Any

import pytest
import stripe

from local.stripe.charges import charge, part, rounded
from local.stripe.control import StandIn
from tests.stripe_standin.bills import Bills, amounts, instant, quantities

type Tiers = list[tuple[int | str, str, str]]
"""Each up to, for how much a unit, and for how much flat."""

# 7.00, 6.50 and 6.00 USD for the first 5, up to 10, and all further ones.
FONTS: Tiers = [(5, "700", "0"), (10, "650", "0"), ("inf", "600", "0")]
FLAT: Tiers = [(100, "0", "1000"), (200, "2.5", "500"), ("inf", "0.000000000001", "0")]


def tiered(mode: str, tiers: Tiers) -> dict[str, Any]:
    return {
        "billing_scheme": "tiered",
        "tiers_mode": mode,
        "tiers": [
            {"up_to": up_to, "unit_amount_decimal": unit, "flat_amount_decimal": flat}
            for up_to, unit, flat in tiers
        ],
    }


def billed(
    client: stripe.StripeClient, stand_in: StandIn, values: list[str], **price: Any
) -> stripe.InvoiceLineItem:
    """The line of a month's usage at a price."""
    bills = Bills(client)
    bills.subscribe(bills.price(**price))
    for second, value in enumerate(values):
        bills.use(value, f"2026-11-20 12:00:{second:02}")
    stand_in.stand_at(instant("2026-12-20 13:00:00"))
    [line] = bills.cycle().lines.data
    return line


# --- per unit and per package ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("unit", "quantity", "amount"),
    [
        ("3", "7", 21),
        ("0.1", "4", 0),  # 0.4
        ("0.1", "5", 1),  # 0.5: half a cent rounds up
        ("0.1", "15", 2),  # 1.5
        ("0.1", "25", 3),  # 2.5: up, not to even
        ("0.000000000001", "999999999999999", 1000),  # 999.999999999999
        ("0.333333333333", "3", 1),  # 0.999999999999
    ],
)
def test_units_cost_their_exact_amount_rounded_once(
    client: stripe.StripeClient, stand_in: StandIn, unit: str, quantity: str, amount: int
) -> None:
    line = billed(client, stand_in, [quantity], unit_amount_decimal=unit)

    assert (str(line.quantity_decimal), line.amount) == (quantity, amount)


@pytest.mark.parametrize(
    ("rounds", "quantity", "amount"),
    [
        ("up", "0", 0),
        ("up", "1", 500),
        ("up", "100", 500),
        ("up", "101", 1000),
        ("down", "99", 0),
        ("down", "100", 500),
        ("down", "199", 500),
    ],
)
def test_packages_are_counted_whole(
    client: stripe.StripeClient, stand_in: StandIn, rounds: str, quantity: str, amount: int
) -> None:
    transform = {"divide_by": 100, "round": rounds}
    line = billed(client, stand_in, [quantity], unit_amount=500, transform_quantity=transform)

    assert line.amount == amount


# --- tiers ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("quantity", "amount"),
    [
        ("0", 0),
        ("1", 700),
        ("5", 3500),  # up_to is inclusive
        ("6", 4150),  # 35.00 + 6.50
        ("10", 6750),  # 35.00 + 32.50
        ("20", 12750),  # 35.00 + 32.50 + 60.00
        ("25", 15750),
    ],
)
def test_in_graduated_tiers_each_unit_costs_what_its_tier_says(
    client: stripe.StripeClient, stand_in: StandIn, quantity: str, amount: int
) -> None:
    line = billed(client, stand_in, [quantity], **tiered("graduated", FONTS))

    assert line.amount == amount


@pytest.mark.parametrize(
    ("quantity", "amount"),
    [
        ("0", 0),
        ("1", 700),
        ("5", 3500),
        ("6", 3900),  # 6 × 6.50
        ("10", 6500),
        ("11", 6600),  # 11 × 6.00
        ("20", 12000),
        ("25", 15000),
    ],
)
def test_in_volume_tiers_all_units_cost_what_the_last_ones_tier_says(
    client: stripe.StripeClient, stand_in: StandIn, quantity: str, amount: int
) -> None:
    line = billed(client, stand_in, [quantity], **tiered("volume", FONTS))

    assert line.amount == amount


@pytest.mark.parametrize(
    ("mode", "quantity", "amount"),
    [
        ("graduated", "0", 1000),  # the first tier's flat amount is due for nothing too
        ("graduated", "100", 1000),
        ("graduated", "101", 1503),  # 1000 + 500 + 2.5, half up
        ("graduated", "200", 1750),  # 1000 + 500 + 250
        ("graduated", "201", 1750),  # + 0.000000000001
        ("graduated", "500000000200", 1751),  # + 0.5
        ("volume", "100", 1000),
        ("volume", "101", 753),  # 500 + 252.5
        ("volume", "200", 1000),  # 500 + 500
        ("volume", "201", 0),
    ],
)
def test_flat_amounts_are_due_once_a_tier_is_reached(
    client: stripe.StripeClient, stand_in: StandIn, mode: str, quantity: str, amount: int
) -> None:
    line = billed(client, stand_in, [quantity], **tiered(mode, FLAT))

    assert line.amount == amount


# --- quantities -----------------------------------------------------------------------------------


def test_a_quantity_with_decimals_is_priced_whole_and_shown_truncated_too(
    client: stripe.StripeClient, stand_in: StandIn
) -> None:
    stand_in.set(decimals=True)
    line = billed(client, stand_in, ["2.25", "0.5"], unit_amount=10)

    assert (line.quantity, line.quantity_decimal, line.amount) == (2, Decimal("2.75"), 28)


def test_usage_below_zero_is_billed_as_none(client: stripe.StripeClient, stand_in: StandIn) -> None:
    line = billed(client, stand_in, ["5", "-8"], unit_amount=10)

    assert (line.quantity, line.quantity_decimal, line.amount) == (0, Decimal(0), 0)


def test_what_is_below_zero_is_not_carried_into_the_next_period(
    client: stripe.StripeClient, stand_in: StandIn
) -> None:
    bills = Bills(client)
    bills.subscribe()
    bills.use("-8", "2026-11-20 12:00:00")
    stand_in.stand_at(instant("2026-12-20 12:00:00"))
    bills.use("5", "2026-12-20 12:00:00")
    stand_in.stand_at(instant("2027-01-20 13:00:00"))

    assert [quantities(one) for one in bills.invoices("subscription_cycle")] == [["0"], ["5"]]


@pytest.mark.parametrize(
    ("formula", "window", "quantity"),
    [
        ("sum", None, "16"),
        ("count", None, "4"),
        ("last", None, "4"),  # the latest timestamp, although received first
        ("sum", "day", "9"),  # received last: 5 on the 20th, 4 on the 21st
        ("count", "day", "2"),
    ],
)
def test_the_meters_formula_and_window_decide_what_a_period_comes_to(
    client: stripe.StripeClient,
    stand_in: StandIn,
    formula: str,
    window: str | None,
    quantity: str,
) -> None:
    settings: dict[str, Any] = {"default_aggregation": {"formula": formula}}
    bills = Bills(client, **settings, **({"event_time_window": window} if window else {}))
    bills.subscribe(bills.price(unit_amount=10))
    stand_in.stand_at(instant("2026-11-22 00:00:00"))
    for value, when in [
        ("50", "2026-11-20 11:59:59"),  # before the period
        ("4", "2026-11-21 09:00:00"),
        ("3", "2026-11-20 13:00:00"),
        ("4", "2026-11-20 20:00:00"),
        ("5", "2026-11-20 14:00:00"),
    ]:
        bills.use(value, when)
    stand_in.stand_at(instant("2026-12-20 13:00:00"))
    final = bills.cycle()

    assert (quantities(final), amounts(final)) == ([quantity], [int(quantity) * 10])


def test_a_period_without_events_of_a_last_meter_is_billed_as_zero(
    client: stripe.StripeClient, stand_in: StandIn
) -> None:
    bills = Bills(client, default_aggregation={"formula": "last"})
    bills.subscribe()
    bills.use("30", "2026-11-20 12:00:00")
    stand_in.stand_at(instant("2027-01-20 13:00:00"))

    assert [quantities(one) for one in bills.invoices("subscription_cycle")] == [["30"], ["0"]]


# --- the arithmetic alone -------------------------------------------------------------------------


def test_amounts_are_exact_beyond_any_float() -> None:
    price = {
        "billing_scheme": "per_unit",
        "unit_amount_decimal": "999999999999.999999999999",
        "transform_quantity": None,
    }

    exact = charge(price, Decimal("999999999999999.999999999999"))
    # (10^12 - 10^-12) × (10^15 - 10^-12) = 10^27 - 1 - 1000 + 10^-24
    assert exact == Decimal("999999999999999999999998999.000000000000000000000001")
    assert rounded(exact) == 999_999_999_999_999_999_999_998_999


def test_halves_round_away_from_zero() -> None:
    assert [rounded(Decimal(one)) for one in ("0.5", "1.5", "-0.5", "0.4999")] == [1, 2, -1, 0]


def test_a_part_of_an_interval_costs_its_part() -> None:
    assert part(Decimal(3000), 86_400, 30 * 86_400) == 100
    assert part(Decimal(100), 1, 3) == Decimal("33.333333333333")
