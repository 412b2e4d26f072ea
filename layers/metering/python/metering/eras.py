"""What a customer's subscriptions at Stripe say of its billing periods."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

from metering.mapping import Customer
from metering.period import BillingCalendar, Era, calendar_months
from metering.ports import Subscription, SubscriptionItem


class NoOneCalendarError(Exception):
    """A subscription does not say one row of periods; the message says why, for a person."""


def calendar_by(calendar: BillingCalendar, subscription: Subscription) -> BillingCalendar:
    """The calendar, changed where a subscription says otherwise from some instant on.

    Its past stays as it was, except for the period that a new era shortens. Where a subscription
    has ended, calendar months follow.

    Raises:
        NoOneCalendarError: its items disagree, or their periods do not follow its anchor.
    """
    item = _item_that_counts(subscription)
    ended_at = subscription.ended_at
    end = calendar_months(ended_at) if ended_at else None
    if end is not None and calendar.eras[-1:] == (end,):
        calendar = BillingCalendar(calendar.eras[:-1])
    if not _says_so_already(calendar, subscription, item):
        calendar = calendar.with_era(_next_era(calendar, subscription, item))
    _check(calendar, subscription, item)
    return calendar.with_era(end) if end else calendar


def _item_that_counts(subscription: Subscription) -> SubscriptionItem:
    """Any of its metered items: they all bill by the same periods."""
    metered = [item for item in subscription.items if item.meter_id] or list(subscription.items)
    if not metered:
        raise NoOneCalendarError(f"{subscription.id} has no items, so no billing periods")
    first = metered[0]
    for other in metered[1:]:
        if other.period != first.period:
            raise NoOneCalendarError(
                f"{first.id} and {other.id} of {subscription.id} bill by different periods; meter"
                " them for two customers, or bring their prices to one interval"
            )
    return first


def _rule(subscription: Subscription, item: SubscriptionItem) -> Era:
    return Era(
        item.period.start,
        subscription.billing_anchor,
        item.interval,
        item.interval_count,
        subscription.anchor_day,
        subscription.id,
    )


def _says_so_already(
    calendar: BillingCalendar, subscription: Subscription, item: SubscriptionItem
) -> bool:
    if not calendar.eras:
        return False
    standing = calendar.eras[-1]
    return standing == replace(_rule(subscription, item), begins_at=standing.begins_at)


def _next_era(calendar: BillingCalendar, subscription: Subscription, item: SubscriptionItem) -> Era:
    """The era that begins where the subscription began to say what it says now.

    That is its anchor, where that was moved while we were not looking: it may have renewed since.
    """
    rule = _rule(subscription, item)
    former = [era for era in calendar.eras if era.subscription == subscription.id]
    if rule.anchor > rule.begins_at:
        return rule  # A trial, or the part of a period before the first whole one.
    if former:
        moved = former[-1].begins_at < rule.anchor
        return replace(rule, begins_at=rule.anchor) if moved else rule
    return _first_era(rule, subscription)


def _first_era(rule: Era, subscription: Subscription) -> Era:
    """From the subscription's start, where its periods reach back to there."""
    started_at = subscription.started_at or rule.begins_at
    if started_at >= rule.anchor:
        return replace(rule, begins_at=started_at)
    from_start = replace(rule, begins_at=started_at, anchor=started_at)
    if from_start.period_of(started_at).end >= rule.anchor:
        return replace(rule, begins_at=started_at)
    # Its anchor was moved before we knew of it, and what its periods were until then is not told.
    return replace(rule, begins_at=rule.anchor)


def _check(calendar: BillingCalendar, subscription: Subscription, item: SubscriptionItem) -> None:
    period = calendar.era_of(item.period.start).period_of(item.period.start)
    # A last period ends with its subscription: that is not the anchor's doing.
    is_last = item.period.end == subscription.ends_at and item.period.end <= period.end
    if period != item.period and not (is_last and period.start == item.period.start):
        raise NoOneCalendarError(
            f"{item.id} bills from {item.period.start.isoformat()} to"
            f" {item.period.end.isoformat()}, which does not follow from the subscription's anchor"
        )


# --- which subscription it is ---------------------------------------------------------------------


class Found(NamedTuple):
    """What Stripe holds for a customer."""

    configured: Subscription | None
    """The subscription that the customer was set up with; None where Stripe does not know it."""
    going_on: Sequence[Subscription]
    """All of its subscriptions that have not ended, the configured one among them."""


def judged(
    customer: Customer, found: Found, is_metered: Callable[[Subscription], bool]
) -> Customer:
    """The customer with the calendar that its subscriptions say, or with what is wrong with them.

    One that was set up stays, whatever others there are; without one, the only metered one is it.
    Where nobody can say which it is, the customer is kept as it was, with a trouble for a person.
    """
    metered = [one for one in found.going_on if is_metered(one)]
    own, trouble = _choose(customer, found.configured, metered)
    if own is None:
        return replace(customer, trouble=trouble)
    try:
        calendar = calendar_by(customer.calendar, own)
    except NoOneCalendarError as error:
        return replace(customer, trouble=str(error))
    after = replace(customer, subscription=own.id, eras=calendar.eras, trouble=trouble)
    successors = [one for one in metered if one.id != own.id]
    if own.ended_at is None:
        return after
    if len(successors) == 1:
        return judged(replace(after, subscription=""), Found(None, successors), is_metered)
    return replace(after, subscription="", trouble=_several(successors))


def _choose(
    customer: Customer, configured: Subscription | None, metered: Sequence[Subscription]
) -> tuple[Subscription | None, str]:
    """The customer's one subscription, if there is one, and what is wrong."""
    if not customer.subscription:
        return (metered[0], "") if len(metered) == 1 else (None, _several(metered))
    if configured is None:
        return None, (
            f"Stripe knows no {customer.subscription}; set the customer up anew with"
            " PUT /v1/customers"
        )
    if configured.customer != customer.stripe_customer:
        return None, f"{configured.id} is of {configured.customer}; set the customer up anew"
    others = [one for one in metered if one.id != configured.id]
    is_ambiguous = others and configured.ended_at is None
    return configured, _several([configured, *others]) if is_ambiguous else ""


def _several(subscriptions: Sequence[Subscription]) -> str:
    if len(subscriptions) < 2:  # noqa: PLR2004 (two are several)
        return ""
    names = ", ".join(sorted(one.id for one in subscriptions))
    return (
        f"{names} all have metered items, and usage is told per Stripe customer: each of them"
        " bills all of it. Keep one, or give the others a Stripe customer of their own"
    )
