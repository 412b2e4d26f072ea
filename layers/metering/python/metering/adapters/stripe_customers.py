"""Customers at Stripe and what they subscribe to."""

from datetime import UTC, datetime

import stripe

from metering.adapters.stripe_client import StripeConnection, for_account
from metering.errors import NotFoundError
from metering.period import Span
from metering.ports import SubscriptionItem

SUBSCRIPTIONS_MAX = 100


class FoundCustomers:
    """The `StripeCustomers` port on the `stripe` SDK."""

    def __init__(self, connection: StripeConnection) -> None:
        self._connection = connection

    def items_of(self, customer: str, account: str = "") -> tuple[SubscriptionItem, ...] | None:
        """See `StripeCustomers.items_of`; of the newest hundred subscriptions."""
        if not self._exists(customer, account):
            return None
        with self._connection.reading():
            found = self._connection.client.v1.subscriptions.list(
                {"customer": customer, "limit": SUBSCRIPTIONS_MAX}, for_account(account)
            )
        # As an attribute, `items` is the method that every mapping has.
        return tuple(_item(item) for one in found.data for item in one["items"].data)

    def _exists(self, customer: str, account: str) -> bool:
        try:
            with self._connection.reading(f"no customer {customer} at Stripe"):
                found = self._connection.client.v1.customers.retrieve(
                    customer, None, for_account(account)
                )
        except NotFoundError:
            return False
        return not getattr(found, "deleted", False)


def _item(item: stripe.SubscriptionItem) -> SubscriptionItem:
    recurring = item.price.recurring
    return SubscriptionItem(
        item.id,
        item.price.id,
        (recurring.meter or "") if recurring else "",
        Span(_instant(item.current_period_start), _instant(item.current_period_end)),
    )


def _instant(epoch_s: int) -> datetime:
    return datetime.fromtimestamp(epoch_s, UTC)
