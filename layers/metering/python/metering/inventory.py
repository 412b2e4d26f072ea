"""Whether what stands at Stripe is still what mappings and customers were set up for.

Meters and prices are read once a run, for the mappings whose totals were read; customers and their
subscriptions only where something differs. Reads are rationed: what the budget does not reach is
looked at by a later run.
"""

import logging
from collections.abc import Iterator
from decimal import Decimal

from metering.counter import Aggregation
from metering.drill_down import Reads
from metering.errors import NotFoundError, RetryableError
from metering.mapping import Mapping
from metering.ports import (
    Billing,
    SetupError,
    StripeCustomers,
    StripeMeter,
    StripePrice,
    SubscriptionItem,
)
from metering.reconciliation import Cause, Finding

log = logging.getLogger("metering.reconciler")

ZERO = Decimal(0)
_READS_OF_A_CUSTOMER = 2


class Inventory:
    """One run's looks at meters, prices and customers, each remembered."""

    def __init__(self, billing: Billing, customers: StripeCustomers, reads: Reads) -> None:
        self._billing = billing
        self._customers = customers
        self._reads = reads
        self._of_mapping: dict[str, tuple[Finding, ...]] = {}
        self._of_customer: dict[tuple[str, str], tuple[SubscriptionItem, ...] | None] = {}

    # --- meters and prices ---

    def of_mapping(self, mapping: Mapping) -> tuple[Finding, ...]:
        """What is wrong with a mapping's meter and price."""
        if mapping.id not in self._of_mapping:
            self._of_mapping[mapping.id] = tuple(self._look_at(mapping))
        return self._of_mapping[mapping.id]

    def _look_at(self, mapping: Mapping) -> Iterator[Finding]:
        try:
            if mapping.meter_id and self._reads.take():
                yield from self._meter(mapping)
            if mapping.price_id and self._reads.take():
                yield from self._price(mapping)
        except (RetryableError, SetupError) as error:
            log.warning("meter and price of %s are not looked at: %s", mapping.metric, error)

    def _meter(self, mapping: Mapping) -> Iterator[Finding]:
        try:
            meter = self._billing.meter(mapping.meter_id, mapping.stripe_account)
        except NotFoundError as error:
            yield Finding(Cause.METER_CHANGED, ZERO, f"{error}; map the metric anew.")
            return
        if not meter.active:
            text = f"Meter {meter.id} ({meter.event_name}) is inactive; reactivate it at Stripe."
            yield Finding(Cause.METER_INACTIVE, ZERO, text)
        changes = list(_changes(mapping, meter))
        if changes:
            text = f"Meter {meter.id} is not as it was mapped: {'; '.join(changes)}."
            yield Finding(Cause.METER_CHANGED, ZERO, text)

    def _price(self, mapping: Mapping) -> Iterator[Finding]:
        try:
            price = self._billing.price(mapping.price_id, mapping.stripe_account)
        except NotFoundError as error:
            yield Finding(Cause.PRICE_NOT_ON_METER, ZERO, f"{error}; map the metric anew.")
            return
        if not mapping.is_legacy and price.meter_id != mapping.meter_id:
            yield Finding(Cause.PRICE_NOT_ON_METER, ZERO, _price_text(mapping, price))

    # --- customers ---

    def of_customer(self, customer: str, mapping: Mapping) -> tuple[Finding, ...]:
        """What is wrong with a Stripe customer, as far as it concerns a mapping's meter."""
        key = mapping.stripe_account, customer
        if key not in self._of_customer:
            if not self._reads.take(_READS_OF_A_CUSTOMER):
                return ()
            try:
                self._of_customer[key] = self._customers.items_of(customer, mapping.stripe_account)
            except (RetryableError, SetupError) as error:
                log.warning("customer %s is not looked at: %s", customer, error)
                return ()
        return tuple(_of_items(customer, self._of_customer[key], mapping))


def _changes(mapping: Mapping, meter: StripeMeter) -> Iterator[str]:
    formula = "last" if mapping.aggregation is Aggregation.LAST else "sum"
    if meter.formula != formula:
        yield f"its formula is {meter.formula}, not {formula}"
    if meter.event_name != mapping.meter_event_name:
        yield f"its event name is {meter.event_name}, not {mapping.meter_event_name}"
    if meter.window != mapping.meter_window:
        window, mapped = (one or "none" for one in (meter.window, mapping.meter_window))
        yield f"its event time window is {window}, not {mapped}"


def _price_text(mapping: Mapping, price: StripePrice) -> str:
    now = f"by meter {price.meter_id}" if price.meter_id else "by no meter"
    return (
        f"Price {mapping.price_id} charges {now}, and usage is told to {mapping.meter_id}:"
        " it is billed by another price or not at all."
    )


def _of_items(
    customer: str, items: tuple[SubscriptionItem, ...] | None, mapping: Mapping
) -> Iterator[Finding]:
    if items is None:
        text = f"Customer {customer} does not exist at Stripe any more; map it anew."
        yield Finding(Cause.CUSTOMER_DELETED, ZERO, text)
    elif not items:
        text = f"Customer {customer} has no subscription at Stripe, so nothing bills this usage."
        yield Finding(Cause.NO_SUBSCRIPTION, ZERO, text)
    else:
        yield from _of_charging([one for one in items if _charges(one, mapping)], customer, mapping)


def _charges(item: SubscriptionItem, mapping: Mapping) -> bool:
    by_meter = bool(mapping.meter_id) and item.meter_id == mapping.meter_id
    return by_meter or (bool(mapping.price_id) and item.price_id == mapping.price_id)


def _of_charging(
    items: list[SubscriptionItem], customer: str, mapping: Mapping
) -> Iterator[Finding]:
    if not items:
        text = (
            f"No subscription of {customer} has an item that charges by meter {mapping.meter_id};"
            " add one, or the usage is billed by nothing."
        )
        yield Finding(Cause.SUBSCRIPTION_ITEM_MISSING, ZERO, text)
    if len(items) > 1:
        names = ", ".join(item.id for item in items)
        text = f"{len(items)} subscription items charge by one meter ({names}): each bills it all."
        yield Finding(Cause.TWO_SUBSCRIPTIONS, ZERO, text)
