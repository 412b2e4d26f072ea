"""Where a counter's usage goes at Stripe and in which form, or why it goes nowhere."""

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from metering.counter import Aggregation, CounterKey
from metering.mapping import Customer, Mapping
from metering.period import Span, day_of, hour_of
from metering.push import (
    Held,
    Mode,
    Push,
    PushState,
    PushStream,
    Role,
    StreamKey,
    StreamKind,
    Target,
)


class NoRoute(StrEnum):
    """Why a counter's usage is not told to Stripe."""

    UNMAPPED = "unmapped"
    NO_STRIPE_CUSTOMER = "no_stripe_customer"
    NO_METER = "no_meter"
    """The mapping does not name a Billing Meter, nor did its price."""
    SUBSCRIPTION_ITEM_MISSING = "subscription_item_missing"
    """Of a legacy price: the customer has no subscription with an item of that price."""


def no_route(mapping: Mapping | None, customer: Customer) -> NoRoute | None:
    """Why usage of a metric and customer goes nowhere; None when it can be told."""
    if mapping is None:
        return NoRoute.UNMAPPED
    if not customer.stripe_customer:
        return NoRoute.NO_STRIPE_CUSTOMER
    if mapping.is_legacy:
        return None if customer.subscription else NoRoute.SUBSCRIPTION_ITEM_MISSING
    if not mapping.meter_event_name or not mapping.meter_id:
        return NoRoute.NO_METER
    return None


def stream_kind(mapping: Mapping) -> StreamKind:
    """In which form a mapping's usage is told."""
    if mapping.is_legacy:
        return StreamKind.LEGACY
    if mapping.meter_window:
        return StreamKind.HOURLY
    return StreamKind.LAST if mapping.aggregation is Aggregation.LAST else StreamKind.DELTA


def fresh_stream(
    counter: CounterKey,
    period: Span,
    mapping: Mapping,
    customer: Customer,
    life: tuple[Mode, int, Role],
    *,
    hour: datetime | None = None,
    subscription_item: str = "",
) -> PushStream:
    """The stream that carries a counter's usage of a period, as it begins.

    `life` is the mode of our key, the incarnation of our store and whom it is for; `hour` is the
    window of an hourly stream, `subscription_item` what takes the records of a legacy price.
    """
    mode, incarnation, role = life
    kind = stream_kind(mapping)
    event_name = "" if kind is StreamKind.LEGACY else mapping.meter_event_name
    target = Target(
        mapping.stripe_account,
        mode,
        event_name,
        customer.stripe_customer,
        subscription_item,
        role,
    )
    key = StreamKey(target, counter, period, incarnation, hour)
    return PushStream(key, meter_id=mapping.meter_id, scale=mapping.scale, kind=kind)


def beside(own: PushStream, streams: Iterable[PushStream]) -> list[PushStream]:
    """The other streams that tell, or told, the same usage in the same world of Stripe."""
    return [
        one
        for one in streams
        if one.key.id != own.key.id and _shares_world(own, one) and not _are_apart(own, one)
    ]


def conflict(own: PushStream, others: Iterable[PushStream], mapping: Mapping) -> Held | None:
    """Why a stream must not go on for now, because of its past or of the streams beside it."""
    others = beside(own, others)
    if own.scale != mapping.scale:
        return Held.SCALE_CHANGED
    if own.kind is not stream_kind(mapping) or any(_is_other_way(own, one) for one in others):
        return Held.TOLD_OTHERWISE
    if any(other.open for other in others):
        return Held.PUSH_OPEN  # What it comes to decides how much is left to tell.
    return None


def _is_other_way(own: PushStream, other: PushStream) -> bool:
    """Whether the other stream has told usage of the period that cannot be taken off our own."""
    if not (other.accepted or other.open):
        return False
    both_add = own.kind is other.kind is StreamKind.DELTA
    return not both_add and (own.kind is not other.kind or own.key.target != other.key.target)


def told_elsewhere(own: PushStream, others: Iterable[PushStream]) -> Decimal:
    """What other streams of the same counter and period have told Stripe.

    A stream of a former life with the same target does not count: what it told stands in the total
    that this one began with.
    """
    told = (
        other.accepted_quantity
        for other in beside(own, others)
        if other.key.target != own.key.target
    )
    return sum(told, Decimal(0))


def _shares_world(own: PushStream, other: PushStream) -> bool:
    """Whether one key reaches both: what a shadow was told, the primary was not, and vice versa."""
    ours, theirs = own.key.target, other.key.target
    return ours.mode is theirs.mode and ours.role is theirs.role


def _are_apart(own: PushStream, other: PushStream) -> bool:
    """Whether the two tell different windows of the period."""
    windows = (own.key.hour, other.key.hour)
    return None not in windows and own.key.hour != other.key.hour


def is_in_the_way(former: PushStream, pushes: Iterable[Push], customer: Customer) -> bool:
    """Whether a stream of a former cut of periods has told usage of what is another period now.

    One whose period still begins where it began, and that has told nothing behind its new end, was
    only shortened.
    """
    if not (former.accepted or former.open):
        return False
    start = former.key.period.start
    present = customer.calendar.period_of(start)
    if present.start != start:
        return True
    return any(
        push.occurred_at >= present.end and push.state not in _NEVER_COUNTED for push in pushes
    )


_NEVER_COUNTED = {PushState.REJECTED, PushState.ASYNC_REJECTED, PushState.VOID}


# --- meters with a window -------------------------------------------------------------------------


def window_of(instant: datetime, meter_window: str) -> datetime:
    """The start of the meter's window, `hour` or `day` in UTC, that holds an instant."""
    return hour_of(instant) if meter_window == "hour" else day_of(instant)


def is_even(period: Span, meter_window: str) -> bool:
    """Whether no window of the meter lies in two billing periods."""
    return all(window_of(bound, meter_window) == bound for bound in period)
