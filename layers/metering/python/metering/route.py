"""Where a counter's usage goes at Stripe, or why it goes nowhere."""

from collections.abc import Iterable
from decimal import Decimal
from enum import StrEnum

from metering.counter import Aggregation, CounterKey
from metering.mapping import Customer, Mapping
from metering.period import Span
from metering.push import Held, Mode, PushStream, StreamKey, Target


class NoRoute(StrEnum):
    """Why a counter's usage is not told to Stripe."""

    UNMAPPED = "unmapped"
    NO_STRIPE_CUSTOMER = "no_stripe_customer"
    NO_METER = "no_meter"
    """The mapping does not name a Billing Meter, nor did its price."""
    LAST_NOT_PUSHED_YET = "last_not_pushed_yet"
    """The last value needs a `last` meter, whose protocol is another."""


def no_route(mapping: Mapping | None, customer: Customer) -> NoRoute | None:
    """Why usage of a metric and customer goes nowhere; None when it can be told."""
    if mapping is None:
        return NoRoute.UNMAPPED
    if not customer.stripe_customer:
        return NoRoute.NO_STRIPE_CUSTOMER
    if not mapping.meter_event_name or not mapping.meter_id:
        return NoRoute.NO_METER
    if mapping.aggregation is Aggregation.LAST:
        return NoRoute.LAST_NOT_PUSHED_YET
    return None


def fresh_stream(
    counter: CounterKey, period: Span, mapping: Mapping, customer: Customer, life: tuple[Mode, int]
) -> PushStream:
    """The stream that carries a counter's usage of a period, as it begins.

    `life` is the mode of our key and the incarnation of our store.
    """
    mode, incarnation = life
    target = Target(
        mapping.stripe_account, mode, mapping.meter_event_name, customer.stripe_customer
    )
    key = StreamKey(target, counter, period, incarnation)
    return PushStream(key, meter_id=mapping.meter_id, scale=mapping.scale)


def conflict(own: PushStream, others: Iterable[PushStream], mapping: Mapping) -> Held | None:
    """Why a stream must not go on for now, because of its past or of the streams beside it."""
    if own.scale != mapping.scale:
        return Held.SCALE_CHANGED
    if any(other.open and _shares_mode(own, other) for other in others):
        return Held.PUSH_OPEN  # What it comes to decides how much is left to tell.
    return None


def told_elsewhere(own: PushStream, others: Iterable[PushStream]) -> Decimal:
    """What other streams of the same counter and period have told Stripe.

    A stream of a former life with the same target does not count: what it told stands in the total
    that this one began with.
    """
    told = (
        other.accepted_quantity
        for other in others
        if _shares_mode(own, other) and other.key.target != own.key.target
    )
    return sum(told, Decimal(0))


def _shares_mode(own: PushStream, other: PushStream) -> bool:
    return own.key.target.mode is other.key.target.mode
