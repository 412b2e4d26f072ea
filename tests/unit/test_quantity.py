"""Quantities are kept to the last digit or refused."""

from decimal import Decimal, Inexact

import pytest

from metering.quantity import (
    EXACT,
    InvalidQuantityError,
    canonical,
    floor_scaled,
    parse_delta,
    parse_quantity,
    without_trailing_zeros,
)


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        (Decimal(5), "5"),
        ("5", "5"),
        ("1.10", "1.1"),
        ("+0.5", "0.5"),
        (7, "7"),
        (Decimal("12345678901234.123457"), "12345678901234.123457"),
        ("999999999999999.999999999999", "999999999999999.999999999999"),
        ("0.000000000001", "0.000000000001"),
        (Decimal("1E+14"), "100000000000000"),
        ("1.00000000000000000000", "1"),
        ("100000000000000.00000000000000000000000000000000000000000", "100000000000000"),
    ],
)
def test_a_quantity_keeps_every_digit_it_was_sent_with(sent: object, kept: str) -> None:
    assert canonical(parse_quantity(sent)) == kept


@pytest.mark.parametrize("sent", ["0", 0, "-1", Decimal("-0.1"), "0.00", "-0"])
def test_a_quantity_must_be_above_zero(sent: object) -> None:
    with pytest.raises(InvalidQuantityError, match=r"^Number must be greater than 0$"):
        parse_quantity(sent)


@pytest.mark.parametrize("sent", ["NaN", "sNaN", "Infinity", "-inf", Decimal("NaN")])
def test_a_quantity_must_be_finite(sent: object) -> None:
    with pytest.raises(InvalidQuantityError, match=r"^must be a finite number$"):
        parse_quantity(sent)


@pytest.mark.parametrize(
    "sent",
    ["", " 5", "5 ", "1_000", "1,000", "0x10", "five", "٥", "5\n", True, None, [5], {"n": 5}, 1.5],
)
def test_what_is_no_number_is_no_quantity(sent: object) -> None:
    with pytest.raises(InvalidQuantityError, match=r"^must be a number or a numeric string$"):
        parse_quantity(sent)


@pytest.mark.parametrize("sent", ["1000000000000000", "1e400", Decimal("1E+15"), 10**15])
def test_sixteen_integer_digits_are_refused(sent: object) -> None:
    with pytest.raises(InvalidQuantityError, match="more than 15 integer digits"):
        parse_quantity(sent)


@pytest.mark.parametrize("sent", ["0.1234567890123", "1e-400", Decimal("1.0000000000001")])
def test_thirteen_decimals_are_refused(sent: object) -> None:
    with pytest.raises(InvalidQuantityError, match="more than 12 decimals"):
        parse_quantity(sent)


@pytest.mark.parametrize(
    ("number", "text"),
    [("-0.00", "0"), ("1E+3", "1000"), ("-2.50", "-2.5"), ("1E-7", "0.0000001"), ("10", "10")],
)
def test_every_number_has_one_text(number: str, text: str) -> None:
    assert canonical(Decimal(number)) == text


def test_a_sum_that_would_lose_a_digit_is_no_sum() -> None:
    greatest, smallest = Decimal(10) ** 26, Decimal("0.000000000001")

    with pytest.raises(Inexact):
        EXACT.add(greatest, smallest)


def test_a_hundred_thousand_million_of_the_greatest_events_still_add_up() -> None:
    greatest = parse_quantity("999999999999999.999999999999")

    many = EXACT.multiply(greatest, Decimal(10) ** 11)
    and_one_more = EXACT.subtract(many, Decimal("0.000000000001"))

    assert str(and_one_more) == "99999999999999999999999999.899999999999"
    assert len(and_one_more.as_tuple().digits) == 38


@pytest.mark.parametrize(
    ("total", "scale", "units"),
    [("1.999", 2, 199), ("-0.001", 2, -1), ("5", 0, 5), ("0.1", 6, 100_000), ("0", 12, 0)],
)
def test_units_are_rounded_down(total: str, scale: int, units: int) -> None:
    assert floor_scaled(Decimal(total), scale) == units


@pytest.mark.parametrize(
    ("sent", "reason"),
    [("NaN", "must be a finite number"), ("0.0", "must not be 0"), ("-0", "must not be 0")],
)
def test_a_difference_must_be_a_number_and_not_nothing(sent: str, reason: str) -> None:
    with pytest.raises(InvalidQuantityError, match=f"^{reason}$"):
        parse_delta(sent)


def test_what_is_no_number_has_no_digits_to_strip() -> None:
    with pytest.raises(InvalidQuantityError, match=r"^must be a finite number$"):
        without_trailing_zeros(Decimal("Infinity"))


@pytest.mark.parametrize(
    ("digits", "exponent", "stripped"), [((0,), -3, "0.000"), ((1, 5, 0, 0), -3, "1.5")]
)
def test_zeros_are_stripped_and_a_zero_itself_never(
    digits: tuple[int, ...], exponent: int, stripped: str
) -> None:
    assert str(without_trailing_zeros(Decimal((0, digits, exponent)))) == stripped


def test_thirty_eight_digits_are_floored_without_losing_one() -> None:
    digits = "98765432109876543210987654.321098765432"

    assert floor_scaled(Decimal(digits), 12) == int(digits.replace(".", ""))
    assert floor_scaled(Decimal(digits), 0) == 98765432109876543210987654
