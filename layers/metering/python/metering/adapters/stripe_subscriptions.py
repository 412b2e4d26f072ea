"""Subscriptions at Stripe, through its own SDK."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import stripe

from metering.adapters.stripe_client import StripeConnection, for_account
from metering.errors import NotFoundError
from metering.period import Interval, Span
from metering.ports import Subscription, SubscriptionItem

PAGE = 100
"""Of a list: Stripe rations reads, so as many as one brings."""


class StripeSubscriptions:
    """The `Subscriptions` port on the `stripe` SDK."""

    def __init__(self, connection: StripeConnection) -> None:
        self._connection = connection

    def subscription(self, subscription_id: str, account: str = "") -> Subscription:
        """See `Subscriptions.subscription`."""
        with self._connection.reading(_no_subscription(subscription_id)):
            found = self._connection.client.v1.subscriptions.retrieve(
                subscription_id, None, for_account(account)
            )
        return _subscription(found)

    def of_customer(self, stripe_customer: str, account: str = "") -> list[Subscription]:
        """See `Subscriptions.of_customer`. One read."""
        try:
            return list(self._listed({"customer": stripe_customer, "limit": PAGE}, account))
        except NotFoundError:
            return []

    def under_way(self, account: str = "") -> Iterator[Subscription]:
        """See `Subscriptions.under_way`. One read per 100."""
        return self._listed({"limit": PAGE}, account)

    def _listed(self, wanted: Any, account: str) -> Iterator[Subscription]:
        with self._connection.reading("no such customer at Stripe"):
            page = self._connection.client.v1.subscriptions.list(wanted, for_account(account))
            for found in page.auto_paging_iter():
                yield _subscription(found)

    def cancel(self, subscription_id: str, *, invoice_now: bool, account: str = "") -> Subscription:
        """See `Subscriptions.cancel`. Sent again it finds the subscription ended."""
        with self._connection.reading(_no_subscription(subscription_id)):
            ended = self._connection.client.v1.subscriptions.cancel(
                subscription_id, {"invoice_now": invoice_now}, for_account(account)
            )
        return _subscription(ended)


def _no_subscription(subscription_id: str) -> str:
    return f"no subscription {subscription_id} at Stripe, in this account and mode"


def _subscription(found: stripe.Subscription) -> Subscription:
    config = found.billing_cycle_anchor_config
    return Subscription(
        id=found.id,
        customer=id_of(found.customer),
        billing_anchor=instant_of(found.billing_cycle_anchor),
        # As an attribute, `items` is the method that every mapping has.
        items=tuple(_item(item) for item in found["items"].data),
        anchor_day=config.day_of_month if config else 0,
        started_at=instant_of(found.start_date),
        trial_ends_at=instant_of(found.trial_end) if found.trial_end else None,
        ends_at=instant_of(found.cancel_at) if found.cancel_at else None,
        ended_at=instant_of(found.ended_at) if found.ended_at else None,
    )


def _item(item: stripe.SubscriptionItem) -> SubscriptionItem:
    recurring = item.price.recurring
    return SubscriptionItem(
        id=item.id,
        price_id=item.price.id,
        meter_id=(recurring.meter or "") if recurring else "",
        period=Span(instant_of(item.current_period_start), instant_of(item.current_period_end)),
        interval=Interval(recurring.interval) if recurring else Interval.MONTH,
        interval_count=recurring.interval_count if recurring else 1,
    )


def id_of(reference: Any) -> str:
    """The id of something that came as its id, or whole."""
    return reference if isinstance(reference, str) else str(reference.id)


def instant_of(epoch_s: int) -> datetime:
    """The instant of Unix seconds."""
    return datetime.fromtimestamp(epoch_s, UTC)
