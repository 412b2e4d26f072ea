"""What a quantity costs at a Stripe price: exact until one rounding at the end.

Amounts are in the currency's smallest unit, as Stripe writes them: cents of a dollar, whole yen.
Quantities are in the units that the price's meter counts. Nothing is guessed: a price that says
something else than these rules is refused.
"""

from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Context, Decimal, Inexact, InvalidOperation
from enum import StrEnum
from functools import reduce
from itertools import pairwise

NOTHING = Decimal(0)
_CALCULATION = Context(prec=80, traps=[Inexact, InvalidOperation])
"""A quantity of 38 digits times an amount of 24 (Stripe: at most 12 decimals) stays exact."""
_ROUNDING = Context(prec=80)


class UnpriceableError(ValueError):
    """A price that says something we do not know how to price, or a quantity that has no price."""


class TiersMode(StrEnum):
    """How tiers are read."""

    GRADUATED = "graduated"
    """Each unit costs what the tier says that it falls into."""
    VOLUME = "volume"
    """All units cost what the tier says that the whole quantity falls into."""


class Rounding(StrEnum):
    """What a package that was begun counts as."""

    UP = "up"
    DOWN = "down"


@dataclass(frozen=True, slots=True)
class Tier:
    """What units up to a bound cost."""

    up_to: Decimal | None
    """The last quantity of the tier; None for the last tier, which has no end."""
    unit_amount: Decimal = NOTHING
    flat_amount: Decimal = NOTHING
    """Due once for the tier, however many units fall into it."""


@dataclass(frozen=True, slots=True)
class Package:
    """Units that are sold together."""

    size: int
    rounding: Rounding


@dataclass(frozen=True, slots=True)
class Rate:
    """How a Stripe price turns a quantity into an amount: per unit, per package or by tiers."""

    price_id: str
    currency: str
    """Three small letters."""
    unit_amount: Decimal | None = None
    """Of each unit or package; None where tiers say it."""
    package: Package | None = None
    tiers_mode: TiersMode | None = None
    tiers: tuple[Tier, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what does not say one thing.

        Raises:
            UnpriceableError: it has no amount, or two, or tiers that leave a quantity without one.
        """
        if not self.currency:
            raise self._refusal("has no currency")
        if (self.unit_amount is None) == (self.tiers_mode is None):
            raise self._refusal("has neither a unit amount nor tiers, or both")
        if self.tiers_mode is None:
            self._check_units()
        else:
            self._check_tiers()

    def _check_units(self) -> None:
        if self.tiers:
            raise self._refusal("has tiers beside its unit amount")
        if self.unit_amount is not None and self.unit_amount < 0:
            raise self._refusal("has a negative amount")
        if self.package is not None and self.package.size < 1:
            raise self._refusal(f"has packages of {self.package.size} units")

    def _check_tiers(self) -> None:
        bounds = [tier.up_to for tier in self.tiers]
        if self.package is not None:
            raise self._refusal("has packages and tiers; Stripe allows one of them")
        if not bounds or bounds[-1] is not None:
            raise self._refusal("has no last tier without a bound: what lies above has no price")
        ends = [NOTHING, *(bound for bound in bounds[:-1] if bound is not None)]
        if len(ends) != len(bounds) or any(lower >= upper for lower, upper in pairwise(ends)):
            raise self._refusal("has tiers whose bounds do not ascend from above 0")
        if any(tier.unit_amount < 0 or tier.flat_amount < 0 for tier in self.tiers):
            raise self._refusal("has a negative amount")

    def _refusal(self, what: str) -> UnpriceableError:
        return UnpriceableError(f"price {self.price_id} {what}")


def cost(rate: Rate, quantity: Decimal) -> int:
    """What a quantity costs, in whole smallest units of the currency, rounded half up once.

    Stripe bills a total below 0 as 0 units; and 0 units may cost the first tier's flat amount.
    """
    return _half_up(exact_cost(rate, max(quantity, NOTHING)))


def cost_of_more(rate: Rate, before: Decimal, more: Decimal) -> int:
    """What an invoice would have been higher by, had `more` been counted besides `before`.

    The difference of two rounded costs: so the parts of a period add up to the cost of the whole,
    in however many steps it is billed. Negative for a quantity that is taken back.
    """
    return cost(rate, _CALCULATION.add(before, more)) - cost(rate, before)


def exact_cost(rate: Rate, quantity: Decimal) -> Decimal:
    """What a quantity costs, before it is rounded.

    Raises:
        UnpriceableError: the quantity is negative or no number.
    """
    if not quantity.is_finite() or quantity < 0:
        raise UnpriceableError(f"a quantity of {quantity} has no price")
    match rate.tiers_mode:
        case TiersMode.GRADUATED:
            return _graduated(rate.tiers, quantity)
        case TiersMode.VOLUME:
            return _of_tier(_tier_of(rate.tiers, quantity), quantity)
        case None:
            times = _packages(rate.package, quantity) if rate.package else quantity
            assert rate.unit_amount is not None
            return _CALCULATION.multiply(times, rate.unit_amount)


def _packages(package: Package, quantity: Decimal) -> Decimal:
    whole = _CALCULATION.divide_int(quantity, Decimal(package.size))
    is_begun = _CALCULATION.multiply(whole, Decimal(package.size)) < quantity
    return whole + 1 if is_begun and package.rounding is Rounding.UP else whole


def _graduated(tiers: tuple[Tier, ...], quantity: Decimal) -> Decimal:
    """The cost of every tier that the quantity reaches; the first is reached by nothing."""
    starts = [NOTHING, *(tier.up_to for tier in tiers if tier.up_to is not None)]
    reached = [
        _of_tier(tier, _CALCULATION.subtract(_end_in(tier, quantity), start))
        for start, tier in zip(starts, tiers, strict=True)
        if start < quantity or start == NOTHING
    ]
    return reduce(_CALCULATION.add, reached)


def _end_in(tier: Tier, quantity: Decimal) -> Decimal:
    return quantity if tier.up_to is None else min(quantity, tier.up_to)


def _tier_of(tiers: tuple[Tier, ...], quantity: Decimal) -> Tier:
    return next(tier for tier in tiers if tier.up_to is None or quantity <= tier.up_to)


def _of_tier(tier: Tier, units: Decimal) -> Decimal:
    return _CALCULATION.add(_CALCULATION.multiply(units, tier.unit_amount), tier.flat_amount)


def _half_up(amount: Decimal) -> int:
    return int(amount.quantize(Decimal(1), ROUND_HALF_UP, _ROUNDING))
