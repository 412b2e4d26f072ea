"""Metered prices without a meter: what Stripe has given up, and how to leave it."""

from metering.ports import StripePrice


def migration_plan(price: StripePrice) -> list[str]:
    """The steps from a legacy metered price to a Billing Meter, with what is known filled in."""
    meter = (
        "Create a meter: POST /v1/billing/meters with display_name, event_name (one that nothing"
        " else sends to) and default_aggregation[formula]=sum; call its id mtr_NEW."
    )
    new_price = (
        f"Create a price on the same product: POST /v1/prices with product={price.product},"
        f" currency={price.currency}, recurring[interval]={price.interval},"
        f" recurring[interval_count]={price.interval_count}, recurring[usage_type]=metered,"
        f" recurring[meter]=mtr_NEW and {_amounts(price)}; call its id price_NEW."
    )
    mapping = (
        "Map the metric onto it: POST /v1/mappings with priceId=price_NEW. Its meter events need no"
        " subscription and bill nothing until a subscription carries price_NEW, so begin at once."
    )
    both = f"Until then go on telling {price.id} what it is told today: two channels, two ledgers."
    move = (
        f"Move each subscription from {price.id} to price_NEW at the end of its period: POST"
        " /v1/subscription_schedules with from_subscription, then a second phase that starts at the"
        " present phase's end and has the item's price replaced; where a subscription has a"
        " schedule already, update that one."
    )
    after = (
        "After the switch compare the first invoice's line with the ledger"
        f" (GET /v1/reconciliation), then stop telling {price.id} and archive it: POST"
        f" /v1/prices/{price.id} with active=false."
    )
    return [meter, new_price, mapping, both, move, after]


def _amounts(price: StripePrice) -> str:
    if price.tiers_mode:
        return (
            f"billing_scheme=tiered, tiers_mode={price.tiers_mode} and the tiers of {price.id}"
            f" (GET /v1/prices/{price.id}?expand[]=tiers)"
        )
    return f"unit_amount_decimal={price.unit_amount or '(as before)'}"
