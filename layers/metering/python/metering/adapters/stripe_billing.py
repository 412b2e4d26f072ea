"""Stripe through its own SDK: each call once, each outcome named.

How requests are sent and judged stands in `metering.adapters.stripe_meter_events`.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Protocol

import stripe

from metering.adapters.stripe_client import StripeConnection, for_account
from metering.adapters.stripe_key import own_key
from metering.adapters.stripe_meter_events import (
    BEFORE_METERS,
    TRANSPORTS,
    Post,
    asked,
    post_usage_record,
    post_v1,
)
from metering.adapters.stripe_subscriptions import StripeSubscriptions
from metering.config import Config
from metering.delivery import Answer, NotAllowed, RateLimited, Refused
from metering.period import Span
from metering.ports import (
    MeterEvent,
    SetupError,
    StripeMeter,
    StripePrice,
    Subscription,
    UsageRecord,
)
from metering.push import Mode

SUMMARIES_MAX = 100
"""Of one read; each is a billing period of a legacy item."""
OWN_BUDGET = "own_budget"
"""The reason of a rate limit that is ours: nothing was sent."""
NO_LEGACY = (
    "usage records are switched off here: Stripe has given them up for meters. Migrate the price"
    " (GET /v1/mappings/legacy-plan), or set LEGACY_USAGE_RECORDS=on until then"
)


class Rates(Protocol):
    """How fast an account may be called."""

    def admit(self, account: str, mode: Mode) -> bool:
        """Wait for this call's turn; False when that would take too long."""
        ...


class StripeBilling:
    """The `Billing` port on the `stripe` SDK."""

    def __init__(
        self,
        connection: StripeConnection,
        *,
        post: Post = post_v1,
        rates: Rates | None = None,
        legacy: bool = False,
    ) -> None:
        self._connection = connection
        self._post = post
        self._rates = rates
        self._legacy = legacy

    @property
    def mode(self) -> Mode:
        """See `Billing.mode`."""
        return self._connection.mode

    def reach(self) -> None:
        """See `Billing.reach`."""
        with self._connection.reading():
            self._connection.client.v1.billing.meters.list({"limit": 1})

    # --- sending ---

    def send(self, event: MeterEvent | UsageRecord) -> Answer:
        """See `Billing.send`. A missing key is an answer too: `NotAllowed`."""
        if isinstance(event, UsageRecord):
            return self._send_record(event, "set")
        return self._once(event.account, lambda: self._send_event(event))

    def add_record(self, record: UsageRecord) -> Answer:
        """Send a usage record that is added to what stands at its instant; never do so twice."""
        return self._send_record(record, "increment")

    def _once(self, account: str, send: Callable[[], Answer]) -> Answer:
        try:
            answer = send() if self._is_admitted(account) else RateLimited(OWN_BUDGET)
        except SetupError as error:
            return NotAllowed(str(error))
        if isinstance(answer, NotAllowed):
            self._connection.forget_key()
        return answer

    def _is_admitted(self, account: str) -> bool:
        return self._rates is None or self._rates.admit(account, self.mode)

    def _send_event(self, event: MeterEvent) -> Answer:
        client = self._connection.client
        return asked(lambda: self._post(client, event), event.identifier)

    def _send_record(self, record: UsageRecord, action: str) -> Answer:
        if not self._legacy:
            # Not `NotAllowed`: that would have the whole account left alone for a while.
            return Refused("legacy_off", NO_LEGACY)

        def send() -> Answer:
            client = self._connection.client
            return asked(lambda: post_usage_record(client, record, action=action))

        return self._once(record.account, send)

    # --- reading ---

    def total(self, meter_id: str, customer: str, span: Span, account: str = "") -> Decimal:
        """See `Billing.total`."""
        with self._connection.reading():
            summaries = self._connection.client.v1.billing.meters.event_summaries.list(
                meter_id,
                {
                    "customer": customer,
                    "start_time": int(span.start.timestamp()),
                    "end_time": int(span.end.timestamp()),
                },
                for_account(account),
            )
        # The SDK hands over a float; its shortest text is the number that Stripe wrote.
        return sum((Decimal(str(one.aggregated_value)) for one in summaries.data), Decimal(0))

    def hourly(
        self, meter_id: str, customer: str, span: Span, account: str = ""
    ) -> dict[datetime, Decimal]:
        """See `Billing.hourly`; newest first, as Stripe lists them."""
        wanted: Any = {
            "customer": customer,
            "start_time": int(span.start.timestamp()),
            "end_time": int(span.end.timestamp()),
            "value_grouping_window": "hour",
            "limit": 100,
        }
        hours: dict[datetime, Decimal] = {}
        has_more = True
        while has_more:
            with self._connection.reading():
                page = self._connection.client.v1.billing.meters.event_summaries.list(
                    meter_id, wanted, for_account(account)
                )
            for one in page.data:
                hours[_instant(one.start_time)] = Decimal(str(one.aggregated_value))
                wanted["starting_after"] = one.id
            has_more = page.has_more and bool(page.data)
        return hours

    def records_total(self, subscription_item: str, period: Span, account: str = "") -> Decimal:
        """See `Billing.records_total`; by the API version that still has usage records."""
        path = f"/v1/subscription_items/{subscription_item}/usage_record_summaries"
        not_found = f"no usage record summaries of {subscription_item} at Stripe"
        with self._connection.reading(not_found):
            found = self._connection.client.raw_request(
                "get",
                path,
                limit=SUMMARIES_MAX,
                stripe_version=BEFORE_METERS,
                **for_account(account),
            )
        told = found.data["data"]
        own = [one for one in told if _begins(one["period"], period.start)]
        # The period in which the item was made has no start.
        own = own or [one for one in told if one["period"].get("start") is None]
        return sum((Decimal(str(one["total_usage"])) for one in own), Decimal(0))

    def meter_of_price(self, price_id: str, account: str = "") -> StripeMeter | None:
        """See `Billing.meter_of_price`."""
        meter_id = self.price(price_id, account).meter_id
        return self.meter(meter_id, account) if meter_id else None

    def meter(self, meter_id: str, account: str = "") -> StripeMeter:
        """See `Billing.meter`."""
        with self._connection.reading(f"no meter {meter_id} at Stripe, in this account and mode"):
            meter = self._connection.client.v1.billing.meters.retrieve(
                meter_id, None, for_account(account)
            )
        return StripeMeter(
            id=meter.id,
            event_name=meter.event_name,
            formula=meter.default_aggregation.formula,
            active=meter.status == "active",
            window=meter.event_time_window or "",
            customer_key=meter.customer_mapping.event_payload_key,
            value_key=meter.value_settings.event_payload_key,
        )

    def price(self, price_id: str, account: str = "") -> StripePrice:
        """See `Billing.price`."""
        with self._connection.reading(f"no price {price_id} at Stripe, in this account and mode"):
            price = self._connection.client.v1.prices.retrieve(price_id, None, for_account(account))
        recurring = price.recurring
        amount = price.unit_amount_decimal
        return StripePrice(
            id=price.id,
            product=price.product if isinstance(price.product, str) else price.product.id,
            currency=price.currency,
            is_metered=recurring is not None and recurring.usage_type == "metered",
            meter_id=_meter_id(price),
            interval=recurring.interval if recurring else "",
            interval_count=recurring.interval_count if recurring else 1,
            unit_amount="" if amount is None else format(amount, "f"),
            tiers_mode=price.tiers_mode or "",
        )

    def subscription(self, subscription_id: str, account: str = "") -> Subscription:
        """See `Billing.subscription`."""
        return StripeSubscriptions(self._connection).subscription(subscription_id, account)


def make_billing(
    config: Config, *, connection: StripeConnection | None = None, rates: Rates | None = None
) -> StripeBilling:
    """Billing as a deployment sets it up; with its own key unless another connection is given."""
    return StripeBilling(
        connection or StripeConnection(own_key(config)),
        post=TRANSPORTS[config.stripe_transport],
        rates=rates,
        legacy=config.legacy_usage_records,
    )


def _meter_id(price: stripe.Price) -> str:
    return (price.recurring.meter or "") if price.recurring else ""


def _begins(told: Any, start: datetime) -> bool:
    """Whether a summary is of the period that began then, to Stripe's second."""
    begun = told.get("start")
    return begun is not None and abs(_instant(begun) - start) < timedelta(seconds=1)


def _instant(epoch_s: int) -> datetime:
    return datetime.fromtimestamp(epoch_s, UTC)
