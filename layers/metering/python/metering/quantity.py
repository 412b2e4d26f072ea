"""Quantities: `Decimal` from the JSON text to the last table, never a float.

DynamoDB keeps 38 significant digits. Input is bounded to 15 integer and 12 decimal digits, so that
the sum of 10^11 greatest events still fits, and the arithmetic below raises rather than rounds.
"""

from decimal import (
    ROUND_FLOOR,
    Context,
    Decimal,
    DivisionByZero,
    Inexact,
    InvalidOperation,
    Overflow,
    Subnormal,
)

INTEGER_DIGITS_MAX = 15
DECIMALS_MAX = 12

EXACT = Context(prec=38, traps=[Inexact, Overflow, Subnormal, InvalidOperation, DivisionByZero])
"""Arithmetic that raises `decimal.Inexact` instead of losing a digit."""

_LIMIT = Decimal(10) ** INTEGER_DIGITS_MAX
_SMALLEST_EXPONENT = -DECIMALS_MAX


class InvalidQuantityError(ValueError):
    """A quantity that cannot be kept exactly, or is not a number."""


def parse_quantity(value: object) -> Decimal:
    """A positive, exactly kept quantity from a JSON number or a numeric string.

    Raises:
        InvalidQuantityError: not a number, not finite, not above zero, or too many digits.
    """
    number = _number(value)
    if not number.is_finite():
        raise InvalidQuantityError("must be a finite number")
    if number <= 0:
        raise InvalidQuantityError("Number must be greater than 0")
    return _bounded(number)


def parse_delta(value: object) -> Decimal:
    """An exactly kept difference of either sign, from a JSON number or a numeric string.

    Raises:
        InvalidQuantityError: not a number, not finite, 0, or too many digits.
    """
    number = _number(value)
    if not number.is_finite():
        raise InvalidQuantityError("must be a finite number")
    if number == 0:
        raise InvalidQuantityError("must not be 0")
    return _bounded(number.copy_abs()).copy_sign(number)


def _number(value: object) -> Decimal:
    if isinstance(value, Decimal):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return Decimal(value)
    if isinstance(value, str):
        return _number_from_text(value)
    raise InvalidQuantityError("must be a number or a numeric string")


def _number_from_text(text: str) -> Decimal:
    # Decimal() also takes underscores, blanks and the digits of other scripts; JSON has none.
    if not text.isascii() or "_" in text or text != text.strip():
        raise InvalidQuantityError("must be a number or a numeric string")
    try:
        return Decimal(text)
    except InvalidOperation:
        raise InvalidQuantityError("must be a number or a numeric string") from None


def _bounded(number: Decimal) -> Decimal:
    if number >= _LIMIT:
        raise InvalidQuantityError(
            f"has more than {INTEGER_DIGITS_MAX} integer digits; report it in a larger unit"
        )
    exponent = number.as_tuple().exponent
    if isinstance(exponent, int) and exponent < _SMALLEST_EXPONENT:
        number = without_trailing_zeros(number)
        exponent = number.as_tuple().exponent
        if isinstance(exponent, int) and exponent < _SMALLEST_EXPONENT:
            raise InvalidQuantityError(
                f"has more than {DECIMALS_MAX} decimals; round it or report it in a smaller unit"
            )
    return number


def without_trailing_zeros(number: Decimal) -> Decimal:
    """Strip zeros by the digits themselves: `normalize` would round to a context's precision."""
    sign, digits, exponent = number.as_tuple()
    if not isinstance(exponent, int):
        raise InvalidQuantityError("must be a finite number")
    kept = len(digits)
    while kept > 1 and digits[kept - 1] == 0:
        kept -= 1
    return Decimal((sign, digits[:kept], exponent + len(digits) - kept))


def canonical(number: Decimal) -> str:
    """A number's one text: no exponent, no trailing zeros, no negative zero (`1.10` is `1.1`)."""
    text = format(number, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def floor_scaled(total: Decimal, scale: int) -> int:
    """`total` in units of 10^-scale, rounded down; what Stripe is told are differences of these."""
    return int(total.scaleb(scale, EXACT).to_integral_value(rounding=ROUND_FLOOR))
