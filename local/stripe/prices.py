"""Prices: what a unit costs, and for metered ones which meter counts the units.

A stored price holds its tiers under `tiers`; answers leave them out unless they are expanded.
"""

from collections.abc import Sequence
from decimal import Decimal
from itertools import pairwise
from typing import Any

from local.stripe import events, params, products, refusals
from local.stripe.call import Call
from local.stripe.charges import plain
from local.stripe.lists import page
from local.stripe.params import (
    Amount,
    Array,
    Boolean,
    Choice,
    Either,
    Fields,
    Instants,
    Integer,
    Metadata,
    Text,
    merged_metadata,
    within,
)
from local.stripe.state import METER, PRICE, PRODUCT
from local.stripe.wire import Json

METERS_REQUIRED_SINCE = "2025-03-31"
"""From this API version on, a metered price needs a meter."""

_INTERVAL = Choice("day", "month", "week", "year")
_USAGE = Choice("licensed", "metered")
_CENTS = Integer(least=0, most=10**12)
_TAX = Choice("exclusive", "inclusive", "unspecified")
_NOT_YET = ("currency_options", "custom_unit_amount")

CREATE = Fields(
    {
        "active": Boolean(),
        "billing_scheme": Choice("per_unit", "tiered"),
        "currency": Text(3),
        "lookup_key": Text(200),
        "metadata": Metadata(),
        "nickname": Text(),
        "product": Text(),
        "product_data": products.INLINE,
        "recurring": Fields(
            {
                "interval": _INTERVAL,
                "interval_count": Integer(least=1, most=1095),
                "meter": Text(),
                "trial_period_days": Integer(least=1),
                "usage_type": _USAGE,
            },
            required=("interval",),
        ),
        "tax_behavior": _TAX,
        "tiers": Array(
            Fields(
                {
                    "flat_amount": _CENTS,
                    "flat_amount_decimal": Amount(),
                    "unit_amount": _CENTS,
                    "unit_amount_decimal": Amount(),
                    "up_to": Either("inf", Integer(least=1)),
                },
                required=("up_to",),
            )
        ),
        "tiers_mode": Choice("graduated", "volume"),
        "transfer_lookup_key": Boolean(),
        "transform_quantity": Fields(
            {"divide_by": Integer(least=1), "round": Choice("down", "up")},
            required=("divide_by", "round"),
        ),
        "unit_amount": _CENTS,
        "unit_amount_decimal": Amount(),
    },
    required=("currency",),
    not_yet=_NOT_YET,
)
UPDATE = Fields(
    {
        "active": Boolean(),
        "lookup_key": Text(200, unset=True),
        "metadata": Metadata(),
        "nickname": Text(unset=True),
        "tax_behavior": _TAX,
        "transfer_lookup_key": Boolean(),
    },
    not_yet=_NOT_YET,
)
LIST = Fields(
    {
        **params.LIST_FIELDS,
        "active": Boolean(),
        "created": Instants(),
        "currency": Text(3),
        "lookup_keys": Array(Text()),
        "product": Text(),
        "recurring": Fields({"interval": _INTERVAL, "meter": Text(), "usage_type": _USAGE}),
        "type": Choice("one_time", "recurring"),
    }
)


def create(call: Call) -> Json:
    """A new price.

    Raises:
        RefusedError: amounts, tiers, meter or product do not go together.
    """
    given = call.params
    _check_scheme(given)
    recurring = _recurring(call, given["recurring"]) if "recurring" in given else None
    product = _product(call, given)
    _take_lookup_key(call, given)
    price = {
        "id": call.new_id("price_"),
        "object": PRICE,
        "active": given.get("active", True),
        "billing_scheme": given.get("billing_scheme", "per_unit"),
        "created": call.now,
        "currency": given["currency"].lower(),
        "custom_unit_amount": None,
        "livemode": False,
        "lookup_key": given.get("lookup_key"),
        "metadata": merged_metadata({}, given.get("metadata")),
        "nickname": given.get("nickname"),
        "product": product,
        "recurring": recurring,
        "tax_behavior": given.get("tax_behavior", "unspecified"),
        "tiers": _tiers(given["tiers"]) if "tiers" in given else None,
        "tiers_mode": given.get("tiers_mode"),
        "transform_quantity": given.get("transform_quantity"),
        "type": "recurring" if recurring else "one_time",
        **_amounts(given, "unit_amount"),
    }
    return _told(call, "created", call.put(price))


def _told(call: Call, what: str, price: Json) -> Json:
    """Note what happened to a price, and answer with it."""
    content = shown(price)
    events.emit(call.world, call.account, f"price.{what}", content, call.now)
    return content


def shown(price: Json) -> Json:
    """A price as answers show it: tiers only on demand."""
    return {name: value for name, value in price.items() if name != "tiers"}


# --- what goes together ---------------------------------------------------------------------------


def _check_scheme(given: Json) -> None:
    tiered = given.get("billing_scheme") == "tiered"
    flat = [name for name in ("unit_amount", "unit_amount_decimal") if name in given]
    if tiered:
        _require(given, "tiers", "tiers_mode")
        _exclude(given, [*flat, "transform_quantity"], "billing_scheme=tiered")
        _check_tiers(given["tiers"])
        return
    _exclude(given, ["tiers", "tiers_mode"], "billing_scheme=per_unit")
    if not flat:
        raise refusals.missing_parameter("unit_amount")
    if len(flat) > 1:
        message = "You may only specify one of these parameters: unit_amount, unit_amount_decimal."
        raise refusals.invalid(message, "unit_amount")


def _require(given: Json, *names: str) -> None:
    for name in names:
        if not given.get(name):
            raise refusals.missing_parameter(name)


def _exclude(given: Json, names: Sequence[str], reason: str) -> None:
    for name in names:
        if name in given:
            raise refusals.invalid(f"You cannot use `{name}` with {reason}.", name)


def _check_tiers(tiers: list[Json]) -> None:
    bounds = [tier["up_to"] for tier in tiers]
    finite = bounds[:-1]
    if bounds[-1] != "inf" or "inf" in finite:
        message = "The last tier must have up_to=inf, and no other."
        raise refusals.invalid(message, f"tiers[{len(tiers) - 1}][up_to]")
    if any(lower >= upper for lower, upper in pairwise(finite)):
        raise refusals.invalid("The up_to values of tiers must ascend.", "tiers")
    for index, tier in enumerate(tiers):
        _check_tier(tier, f"tiers[{index}]")


def _check_tier(tier: Json, name: str) -> None:
    for amount in ("unit_amount", "flat_amount"):
        if amount in tier and f"{amount}_decimal" in tier:
            message = f"You may only specify one of {amount} and {amount}_decimal."
            raise refusals.invalid(message, f"{name}[{amount}]")
    if len(tier) == 1:
        message = "A tier needs a unit_amount or a flat_amount."
        raise refusals.invalid(message, f"{name}[unit_amount]")


def _tiers(tiers: list[Json]) -> list[Json]:
    return [
        {
            "up_to": None if tier["up_to"] == "inf" else tier["up_to"],
            **_amounts(tier, "flat_amount"),
            **_amounts(tier, "unit_amount"),
        }
        for tier in tiers
    ]


def _amounts(given: Json, name: str) -> Json:
    """Both forms of an amount: an integer only where it is one, the decimal always."""
    exact = given.get(f"{name}_decimal", given.get(name))
    if exact is None:
        return {name: None, f"{name}_decimal": None}
    amount = Decimal(exact)
    whole = int(amount) if amount == amount.to_integral_value() else None
    return {name: whole, f"{name}_decimal": plain(amount)}


def _recurring(call: Call, given: Json) -> Json:
    usage = given.get("usage_type", "licensed")
    meter = given.get("meter")
    if meter and usage == "licensed":
        message = "You can only attach a meter to a price with usage_type=metered."
        raise refusals.invalid(message, "recurring[meter]")
    if usage == "metered":
        _check_meter(call, meter)
    return {
        "interval": given["interval"],
        "interval_count": given.get("interval_count", 1),
        "meter": meter,
        "trial_period_days": given.get("trial_period_days"),
        "usage_type": usage,
    }


def _check_meter(call: Call, meter: str | None) -> None:
    if meter is None:
        if call.version < METERS_REQUIRED_SINCE:
            return
        raise refusals.invalid(
            "All metered prices must be backed by meters. Learn more about migrating to meters at "
            "https://docs.stripe.com/billing/subscriptions/usage-based-legacy/migration-guide.",
            "recurring[meter]",
        )
    if call.referred(METER, meter, "recurring[meter]")["status"] == "inactive":
        message = f"The meter {meter} is inactive and cannot be attached to a price."
        raise refusals.RefusedError(message, param="recurring[meter]")


def _product(call: Call, given: Json) -> str:
    if "product" in given and "product_data" in given:
        message = "You may only specify one of these parameters: product, product_data."
        raise refusals.invalid(message, "product")
    if "product_data" in given:
        return str(products.made(call, given["product_data"])["id"])
    _require(given, "product")
    return str(call.referred(PRODUCT, given["product"], "product")["id"])


def _take_lookup_key(call: Call, given: Json) -> None:
    key = given.get("lookup_key")
    holder = next((p for p in call.account.newest_first(PRICE) if p["lookup_key"] == key), None)
    if not key or holder is None or holder["id"] == call.target:
        return
    if not given.get("transfer_lookup_key"):
        message = f"A price ({holder['id']}) already uses that lookup key."
        raise refusals.RefusedError(message, param="lookup_key")
    call.put(holder | {"lookup_key": None})


# --- the rest ---------------------------------------------------------------------------------


def retrieve(call: Call) -> Json:
    """One price."""
    return shown(call.targeted(PRICE))


def update(call: Call) -> Json:
    """The price with the given fields changed; amounts never change."""
    price, given = call.targeted(PRICE), dict(call.params)
    _take_lookup_key(call, given)
    given.pop("transfer_lookup_key", None)
    if "metadata" in given:
        given["metadata"] = merged_metadata(price["metadata"], given["metadata"])
    return _told(call, "updated", call.put(price | given))


def list_all(call: Call) -> Json:
    """The account's prices, newest first."""
    found = (
        shown(price) for price in call.account.newest_first(PRICE) if _matches(price, call.params)
    )
    return page(found, call.params, call.path)


def _matches(price: Json, given: dict[str, Any]) -> bool:
    plain = {
        name: given[name] for name in ("active", "currency", "product", "type") if name in given
    }
    recurring = (price["recurring"] or {}).items()
    keys = given.get("lookup_keys")
    return (
        plain.items() <= {name: price[name] for name in plain}.items()
        and within(price["created"], given.get("created", {}))
        and given.get("recurring", {}).items() <= recurring
        and (keys is None or price["lookup_key"] in keys)
    )


def plan_of(price: Json) -> Json:
    """The price in the form of a plan, which subscription items still carry."""
    recurring = price["recurring"]
    transform = price["transform_quantity"]
    return {
        "id": price["id"],
        "object": "plan",
        "active": price["active"],
        "amount": price["unit_amount"],
        "amount_decimal": price["unit_amount_decimal"],
        "billing_scheme": price["billing_scheme"],
        "created": price["created"],
        "currency": price["currency"],
        "interval": recurring["interval"],
        "interval_count": recurring["interval_count"],
        "livemode": False,
        "metadata": price["metadata"],
        "meter": recurring["meter"],
        "nickname": price["nickname"],
        "product": price["product"],
        "tiers_mode": price["tiers_mode"],
        "transform_usage": transform,
        "trial_period_days": recurring["trial_period_days"],
        "usage_type": recurring["usage_type"],
    }
