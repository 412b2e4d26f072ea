"""Setting up what Stripe is told: mappings with the meter they push to, and customers.

What can be checked is checked here, where a person reads the answer, and not by a push at night.
"""

import logging
from dataclasses import dataclass, replace

from metering.counter import Aggregation
from metering.eras import NoOneCalendarError, calendar_by
from metering.errors import BadRequestError, NotFoundError, RetryableError
from metering.legacy_price import migration_plan
from metering.mapping import Customer, Mapping
from metering.period import CALENDAR_MONTHS
from metering.ports import (
    Billing,
    SetupError,
    StripeMeter,
    StripePrice,
    Subscription,
    Subscriptions,
)
from metering.shadow import NO_KEY

log = logging.getLogger("metering.setup")

FORMULA_OF = {
    Aggregation.SUM: "sum",
    Aggregation.COUNT: "sum",
    Aggregation.MAX: "sum",
    Aggregation.LAST: "last",
}
"""Which meter carries an aggregation: counts and maxima ride on a `sum` meter as increments."""

_FITS_A_WINDOW = frozenset({Aggregation.SUM, Aggregation.COUNT})
"""What adds up from windows: a maximum of windows is no sum of theirs."""
PAYLOAD_KEYS = ("stripe_customer_id", "value")
"""Under which names our meter events hold customer and value."""
_ELSEWHERE = (
    "; it may be of another account (stripeAccount), or of the other mode (test or live) than our"
    " key's"
)

_PREFIXES = {
    "stripeAccount": "acct_",
    "priceId": "price_",
    "subscriptionItemId": "si_",
    "meterId": "mtr_",
    "shadowStripeAccount": "acct_",
    "shadowPriceId": "price_",
    "shadowSubscriptionItemId": "si_",
    "stripeCustomer": "cus_",
    "shadowStripeCustomer": "cus_",
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


def with_meter(
    mapping: Mapping, asked: MeterAsked, billing: Billing, *, allows_legacy: bool = False
) -> Mapping:
    """The mapping with its meter: the one its price charges by, or the one that is named.

    A meter that is named in full is taken as it is named while Stripe cannot be asked.

    Raises:
        BadRequestError: there is no such meter, it cannot carry the aggregation, or what is named
            contradicts the price.
        StripeUnavailableError: Stripe is needed to know, and cannot be asked.
    """
    if not mapping.price_id and not _is_named_in_full(asked):
        raise _invalid("priceId", "Required (or both meterId and meterEventName)")
    try:
        meter = _meter_at_stripe(mapping, asked, billing)
        if meter is None:
            price = billing.price(mapping.price_id, mapping.stripe_account)
            return _on_legacy_price(mapping, price, allows_legacy=allows_legacy)
    except (RetryableError, SetupError) as trouble:
        return _as_named(mapping, asked, trouble)
    _check_named(meter, mapping, asked)
    _check_meter("priceId" if mapping.price_id else "meterId", meter, mapping)
    return replace(
        mapping,
        meter_id=meter.id,
        meter_event_name=meter.event_name,
        meter_window=meter.window,
        is_legacy=False,
    )


def _is_named_in_full(asked: MeterAsked) -> bool:
    return bool(asked.meter_id and asked.event_name)


def _meter_at_stripe(mapping: Mapping, asked: MeterAsked, billing: Billing) -> StripeMeter | None:
    """The meter as Stripe has it; None for a price that charges by none."""
    account = mapping.stripe_account
    try:
        if mapping.price_id:
            return billing.meter_of_price(mapping.price_id, account)
        return billing.meter(asked.meter_id, account)
    except NotFoundError as missing:
        field = "priceId" if mapping.price_id else "meterId"
        raise _invalid(field, missing.message + _ELSEWHERE) from missing


def _as_named(mapping: Mapping, asked: MeterAsked, trouble: Exception) -> Mapping:
    if not _is_named_in_full(asked):
        raise StripeUnavailableError(
            f"The price's meter could not be read from Stripe ({trouble}). Try again, or name the"
            " meter yourself with meterId and meterEventName."
        ) from trouble
    log.warning("meter %s is mapped unchecked: %s", asked.meter_id, trouble)
    return replace(
        mapping,
        meter_id=asked.meter_id,
        meter_event_name=asked.event_name,
        meter_window="",
        is_legacy=False,
    )


def _on_legacy_price(mapping: Mapping, price: StripePrice, *, allows_legacy: bool) -> Mapping:
    """The mapping onto a price without a meter, where a deployment has asked for that."""
    if not price.is_legacy:
        raise _invalid(
            "priceId",
            f"{price.id} is not metered. Make a price with recurring.usage_type=metered and"
            " recurring.meter, and map that one.",
        )
    if not allows_legacy:
        steps = " ".join(f"({n}) {step}" for n, step in enumerate(migration_plan(price), 1))
        raise _invalid(
            "priceId",
            f"{price.id} charges by no Billing Meter: it is a legacy metered price, whose usage"
            f" records Stripe has given up. To migrate: {steps}",
        )
    return replace(mapping, meter_id="", meter_event_name="", meter_window="", is_legacy=True)


def _check_named(meter: StripeMeter, mapping: Mapping, asked: MeterAsked) -> None:
    whose = f"{mapping.price_id} charges by" if mapping.price_id else f"{meter.id} hears"
    if asked.meter_id not in {"", meter.id}:
        raise _invalid("meterId", f"{whose} {meter.id}")
    if asked.event_name not in {"", meter.event_name}:
        raise _invalid("meterEventName", f"{whose} {meter.event_name!r}")


def _check_meter(field: str, meter: StripeMeter, mapping: Mapping) -> None:
    """Pass when a meter can carry the mapping's aggregation; `field` is what led to it."""
    if not meter.active:
        raise _invalid(field, f"its meter {meter.id} is inactive; reactivate it at Stripe")
    needed = FORMULA_OF[mapping.aggregation]
    if meter.formula != needed:
        raise _invalid(
            "aggregation",
            f"{mapping.aggregation!s} needs a meter with the formula {needed!r}, and {meter.id}"
            f" has {meter.formula!r}",
        )
    if meter.window and mapping.aggregation not in _FITS_A_WINDOW:
        raise _invalid(
            "aggregation",
            f"{meter.id} adds up one number per {meter.window}, which {mapping.aggregation!s}"
            " cannot be told by; use a meter without event_time_window",
        )
    if (meter.customer_key, meter.value_key) != PAYLOAD_KEYS:
        raise _invalid(
            field,
            f"events of {meter.id} name the customer {meter.customer_key!r} and the value"
            f" {meter.value_key!r}; only {PAYLOAD_KEYS[0]!r} and {PAYLOAD_KEYS[1]!r} are supported."
            " Make a meter with the default keys",
        )


# --- shadow ---------------------------------------------------------------------------------------


def with_shadow(mapping: Mapping, shadow: Billing | None) -> Mapping:
    """The mapping with the meter of the test account that is told the same in parallel.

    Without a key for that account (None) there is none, and shadow pushes are skipped.

    Raises:
        BadRequestError: there is no such meter, it cannot carry the same, or it is the meter itself
            that is shadowed.
        StripeUnavailableError: Stripe cannot be asked.
    """
    if mapping.shadow and shadow is None:
        log.warning("%s", NO_KEY)
    if not mapping.shadow or shadow is None:
        return replace(mapping, shadow_meter_id="", shadow_meter_event_name="", shadow_since=None)
    if not mapping.shadow_price_id:
        raise _invalid("shadowPriceId", "Required while shadow is true")
    meter = _shadow_meter(mapping, shadow)
    if (meter.id, mapping.shadow_stripe_account) == (mapping.meter_id, mapping.stripe_account):
        raise _invalid(
            "shadowPriceId", f"it charges by {meter.id}, the very meter that is to be shadowed"
        )
    _check_meter("shadowPriceId", meter, mapping)
    if meter.window != mapping.meter_window:
        raise _invalid(
            "shadowPriceId",
            f"{meter.id} has the event_time_window {meter.window or 'none'!r}, and the mapping's"
            f" own meter {mapping.meter_window or 'none'!r}",
        )
    is_same = meter.id == mapping.shadow_meter_id
    return replace(
        mapping,
        shadow_meter_id=meter.id,
        shadow_meter_event_name=meter.event_name,
        shadow_since=(mapping.shadow_since if is_same else None) or mapping.updated_at,
    )


def _shadow_meter(mapping: Mapping, shadow: Billing) -> StripeMeter:
    try:
        meter = shadow.meter_of_price(mapping.shadow_price_id, mapping.shadow_stripe_account)
    except NotFoundError as missing:
        raise _invalid("shadowPriceId", missing.message + _ELSEWHERE) from missing
    except (RetryableError, SetupError) as trouble:
        raise StripeUnavailableError(
            f"The shadow price could not be read from Stripe ({trouble}). Try again."
        ) from trouble
    if meter is None:
        raise _invalid("shadowPriceId", f"{mapping.shadow_price_id} charges by no Billing Meter")
    return meter


# --- customers ------------------------------------------------------------------------------------


def check_customer(customer: Customer) -> None:
    """Pass when a customer's ids are of the right kinds.

    Raises:
        BadRequestError: one is not; the message names the field.
    """
    check_id("stripeCustomer", customer.stripe_customer)
    check_id("shadowStripeCustomer", customer.shadow_stripe_customer)
    check_id("subscription", customer.subscription)


def with_subscription(
    before: Customer | None, customer: Customer, subscriptions: Subscriptions
) -> Customer:
    """The customer with what its subscription at Stripe says: whose it is, and its periods.

    Periods that `before`, the customer in whose place it comes, had by then stay as they were.

    Raises:
        BadRequestError: no such subscription, another customer's, or no one row of periods.
        StripeUnavailableError: Stripe cannot be asked.
    """
    subscription = _subscription(customer.subscription, subscriptions)
    if customer.stripe_customer not in {"", subscription.customer}:
        raise _invalid("subscription", f"{subscription.id} is of {subscription.customer}")
    try:
        calendar = calendar_by(before.calendar if before else CALENDAR_MONTHS, subscription)
    except NoOneCalendarError as error:
        raise _invalid("subscription", str(error)) from error
    return replace(customer, stripe_customer=subscription.customer, eras=calendar.eras)


def _subscription(subscription_id: str, subscriptions: Subscriptions) -> Subscription:
    try:
        return subscriptions.subscription(subscription_id)
    except NotFoundError as missing:
        raise _invalid("subscription", missing.message) from missing
    except (RetryableError, SetupError) as trouble:
        raise StripeUnavailableError(
            f"The subscription could not be read from Stripe ({trouble}). Try again."
        ) from trouble
