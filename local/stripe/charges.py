"""What a quantity costs at a price, in the currency's smallest unit, exactly.

Only the last step rounds: a line is rounded to a whole smallest unit, half away from zero.
"""

from decimal import ROUND_HALF_UP, Context, Decimal, Inexact

from local.stripe.wire import Json

ZERO = Decimal(0)
EXACT = Context(prec=80, traps=[Inexact])
"""Products and sums that raise rather than round."""

_ROUNDING = Context(prec=80)


def charge(price: Json, quantity: Decimal) -> Decimal:
    """The exact amount for a quantity that is not below zero."""
    if price["billing_scheme"] == "per_unit":
        return EXACT.multiply(_packages(price, quantity), Decimal(price["unit_amount_decimal"]))
    if price["tiers_mode"] == "volume":
        return _volume(price["tiers"], quantity)
    return _graduated(price["tiers"], quantity)


def _packages(price: Json, quantity: Decimal) -> Decimal:
    """How many times the unit amount is due: once per unit, or per package of units."""
    transform = price["transform_quantity"]
    if transform is None:
        return quantity
    size = Decimal(transform["divide_by"])
    whole, rest = EXACT.divide_int(quantity, size), EXACT.remainder(quantity, size)
    return EXACT.add(whole, Decimal(1)) if rest and transform["round"] == "up" else whole


def _volume(tiers: list[Json], quantity: Decimal) -> Decimal:
    """All units cost what the tier says that the whole quantity falls into."""
    tier = next(tier for tier in tiers if tier["up_to"] is None or quantity <= tier["up_to"])
    return _in_tier(tier, quantity)


def _graduated(tiers: list[Json], quantity: Decimal) -> Decimal:
    """Each unit costs what its own tier says; the first tier is due even for nothing."""
    total, below = ZERO, ZERO
    for tier in tiers:
        upper = quantity if tier["up_to"] is None else min(quantity, Decimal(tier["up_to"]))
        total = EXACT.add(total, _in_tier(tier, EXACT.subtract(upper, below)))
        if upper == quantity:
            break
        below = upper
    return total


def _in_tier(tier: Json, quantity: Decimal) -> Decimal:
    unit = Decimal(tier["unit_amount_decimal"] or 0)
    flat = Decimal(tier["flat_amount_decimal"] or 0)
    return EXACT.add(EXACT.multiply(quantity, unit), flat)


def part(amount: Decimal, seconds: int, of_seconds: int) -> Decimal:
    """The part of an amount that is due for a part of its interval, to 12 decimals of the unit."""
    share = _ROUNDING.divide(EXACT.multiply(amount, Decimal(seconds)), Decimal(of_seconds))
    return share.quantize(Decimal("1e-12"), ROUND_HALF_UP, _ROUNDING)


def rounded(amount: Decimal) -> int:
    """An amount in whole smallest units, half away from zero."""
    return int(amount.quantize(Decimal(1), ROUND_HALF_UP, _ROUNDING))


def plain(number: Decimal) -> str:
    """A number as Stripe's decimals are written: no exponent, no trailing zeros."""
    text = format(number, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
