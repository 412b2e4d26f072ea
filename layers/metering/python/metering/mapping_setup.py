"""Setting up what Stripe is told: mappings with the meter they push to, and customers.

What can be checked is checked here, where a person reads the answer, and not by a push at night.
"""

from dataclasses import dataclass, replace
from datetime import datetime

from metering.counter import Aggregation
from metering.errors import BadRequestError, NotFoundError, RetryableError
from metering.mapping import Customer, Mapping
from metering.ports import Billing, SetupError, StripeMeter, Subscription

FORMULA_OF = {
    Aggregation.SUM: "sum",
    Aggregation.COUNT: "sum",
    Aggregation.MAX: "sum",
    Aggregation.LAST: "last",
}
"""Which meter carries an aggregation: counts and maxima ride on a `sum` meter as increments."""

_PREFIXES = {
    "stripeAccount": "acct_",
    "priceId": "price_",
    "subscriptionItemId": "si_",
    "meterId": "mtr_",
    "shadowStripeAccount": "acct_",
    "shadowPriceId": "price_",
    "shadowSubscriptionItemId": "si_",
    "stripeCustomer": "cus_",
    "subscription": "sub_",
}


class StripeUnavailableError(BadRequestError):
    """Stripe was needed to answer and could not be asked; HTTP 502."""

    def __init__(self, message: str) -> None:
        super().__init__(message, status=502, error="Bad Gateway")


def _invalid(field: str, reason: str) -> BadRequestError:
    return BadRequestError(f"{field}: {reason}", error="Validation Error")


def check_id(field: str, value: str) -> None:
    """Pass when a Stripe id is empty or has the prefix that its kind has.

    Raises:
        BadRequestError: it has another.
    """
    prefix = _PREFIXES[field]
    if value and not value.startswith(prefix):
        raise _invalid(field, f"must start with {prefix!r}, got {value!r}")


@dataclass(frozen=True, slots=True)
class MeterAsked:
    """What a request says of the meter; empty is not said."""

    meter_id: str
    event_name: str


def check_mapping(mapping: Mapping) -> None:
    """Pass when a mapping's ids are of the right kinds.

    Raises:
        BadRequestError: one is not; the message names the field.
    """
    check_id("stripeAccount", mapping.stripe_account)
    check_id("priceId", mapping.price_id)
    check_id("subscriptionItemId", mapping.subscription_item_id)
    check_id("meterId", mapping.meter_id)
    check_id("shadowStripeAccount", mapping.shadow_stripe_account)
    check_id("shadowPriceId", mapping.shadow_price_id)
    check_id("shadowSubscriptionItemId", mapping.shadow_subscription_item_id)


def with_meter(mapping: Mapping, asked: MeterAsked, billing: Billing) -> Mapping:
    """The mapping with its meter: the one its price charges by, or the one that is named in full.

    Raises:
        BadRequestError: there is no such meter, it cannot carry the aggregation, or what is named
            contradicts the price.
        StripeUnavailableError: Stripe is needed to know, and cannot be asked.
    """
    if asked.meter_id and asked.event_name:
        return replace(mapping, meter_id=asked.meter_id, meter_event_name=asked.event_name)
    if not mapping.price_id:
        raise _invalid("priceId", "Required (or both meterId and meterEventName)")
    meter = _meter_of_price(mapping, billing)
    _check_meter(meter, mapping, asked)
    return replace(mapping, meter_id=meter.id, meter_event_name=meter.event_name)


def _meter_of_price(mapping: Mapping, billing: Billing) -> StripeMeter:
    try:
        meter = billing.meter_of_price(mapping.price_id, mapping.stripe_account)
    except NotFoundError as missing:
        raise _invalid("priceId", missing.message) from missing
    except (RetryableError, SetupError) as trouble:
        raise StripeUnavailableError(
            f"The price's meter could not be read from Stripe ({trouble}). Try again, or name the"
            " meter yourself with meterId and meterEventName."
        ) from trouble
    if meter is None:
        raise _invalid(
            "priceId",
            f"{mapping.price_id} charges by no Billing Meter: it is a legacy metered price or not"
            " metered. Make a price with recurring.meter and map that one.",
        )
    return meter


def _check_meter(meter: StripeMeter, mapping: Mapping, asked: MeterAsked) -> None:
    if asked.meter_id not in {"", meter.id}:
        raise _invalid("meterId", f"{mapping.price_id} charges by {meter.id}")
    if asked.event_name not in {"", meter.event_name}:
        raise _invalid("meterEventName", f"{mapping.price_id} charges by {meter.event_name!r}")
    if not meter.active:
        raise _invalid("priceId", f"its meter {meter.id} is inactive; reactivate it at Stripe")
    needed = FORMULA_OF[mapping.aggregation]
    if meter.formula != needed:
        raise _invalid(
            "aggregation",
            f"{mapping.aggregation!s} needs a meter with the formula {needed!r}, and {meter.id}"
            f" has {meter.formula!r}",
        )


# --- customers ------------------------------------------------------------------------------------


def check_customer(customer: Customer) -> None:
    """Pass when a customer's ids are of the right kinds.

    Raises:
        BadRequestError: one is not; the message names the field.
    """
    check_id("stripeCustomer", customer.stripe_customer)
    check_id("subscription", customer.subscription)


def with_subscription(customer: Customer, billing: Billing) -> Customer:
    """The customer with what its subscription at Stripe says: whose it is, and its periods.

    Raises:
        BadRequestError: no such subscription, another customer's, or its periods are not months.
        StripeUnavailableError: Stripe cannot be asked.
    """
    subscription = _subscription(customer.subscription, billing)
    if customer.stripe_customer not in {"", subscription.customer}:
        raise _invalid("subscription", f"{subscription.id} is of {subscription.customer}")
    return replace(
        customer,
        stripe_customer=subscription.customer,
        billing_anchor=_anchor(customer, subscription),
    )


def _subscription(subscription_id: str, billing: Billing) -> Subscription:
    try:
        return billing.subscription(subscription_id)
    except NotFoundError as missing:
        raise _invalid("subscription", missing.message) from missing
    except (RetryableError, SetupError) as trouble:
        raise StripeUnavailableError(
            f"The subscription could not be read from Stripe ({trouble}). Try again."
        ) from trouble


def _anchor(customer: Customer, subscription: Subscription) -> datetime:
    """Where the months begin: the subscription's anchor, if its metered items' periods agree.

    A period's own start would not do: from the 31st it moves to the 28th in February and must come
    back in March.
    """
    anchor = subscription.billing_anchor
    calendar = replace(customer, billing_anchor=anchor).calendar
    for item in subscription.items:
        if item.meter_id and calendar.period_of(item.period.start) != item.period:
            raise _invalid(
                "subscription",
                f"{item.id} bills from {item.period.start.isoformat()} to"
                f" {item.period.end.isoformat()}, which is no month from the subscription's anchor;"
                " only monthly periods can be metered",
            )
    return anchor
