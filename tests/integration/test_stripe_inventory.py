"""Customers, their subscription items and invoice lines, through the real SDK and the stand-in."""

from datetime import timedelta
from decimal import Decimal

import pytest
import stripe

from metering.adapters.stripe_customers import FoundCustomers
from metering.adapters.stripe_invoice_lines import StripeInvoiceLines
from metering.errors import NotFoundError
from metering.mapping import Mapping
from metering.reconciliation import Cause, Row
from tests.billing_world import HOUR, BillingWorld


@pytest.fixture
def mapping(billing: BillingWorld) -> Mapping:
    billing.stand_in.add_customers(["cus_A"])
    return billing.map()


def subscribed(world: BillingWorld, mapping: Mapping, *, event_name: str = "") -> stripe.Price:
    """`cus_A` subscribes to a metered price, on the mapping's meter unless another is named."""
    meter = mapping.meter_id
    if event_name:
        meter = world.stripe.v1.billing.meters.create(
            {
                "display_name": event_name,
                "event_name": event_name,
                "default_aggregation": {"formula": "sum"},
            }
        ).id
    product = world.stripe.v1.products.create({"name": "Calls"})
    price = world.stripe.v1.prices.create(
        {
            "currency": "usd",
            "product": product.id,
            "unit_amount": 1,
            "recurring": {"interval": "month", "usage_type": "metered", "meter": meter},
        }
    )
    world.stripe.v1.subscriptions.create({"customer": "cus_A", "items": [{"price": price.id}]})
    return price


def told(row: Row) -> list[Cause]:
    return [finding.cause for finding in row.findings]


def surplus(world: BillingWorld) -> Row:
    """A row that differs, so that its customer is looked at."""
    world.use("10")
    world.write()
    world.advance(HOUR)
    world.stand_in.send_foreign_event("api_calls", "cus_A", "3")
    return world.row()


def test_a_customers_items_name_their_prices_and_meters(
    billing: BillingWorld, mapping: Mapping
) -> None:
    customers = FoundCustomers(billing.wiring.stripe_connection)
    assert customers.items_of("cus_A") == ()
    price = subscribed(billing, mapping)

    found = customers.items_of("cus_A")

    assert found is not None
    assert [(item.price_id, item.meter_id) for item in found] == [(price.id, mapping.meter_id)]
    assert customers.items_of("cus_missing") is None
    billing.stripe.v1.customers.delete("cus_A")
    assert customers.items_of("cus_A") is None


def test_two_subscriptions_on_one_meter_are_named(billing: BillingWorld, mapping: Mapping) -> None:
    subscribed(billing, mapping)
    subscribed(billing, mapping)

    assert told(surplus(billing)) == [Cause.FOREIGN_WRITER, Cause.TWO_SUBSCRIPTIONS]


def test_a_subscription_without_the_meter_is_named(billing: BillingWorld, mapping: Mapping) -> None:
    subscribed(billing, mapping, event_name="other")

    assert told(surplus(billing)) == [Cause.FOREIGN_WRITER, Cause.SUBSCRIPTION_ITEM_MISSING]


def test_no_subscription_is_noted(billing: BillingWorld, mapping: Mapping) -> None:
    assert told(surplus(billing)) == [Cause.FOREIGN_WRITER, Cause.NO_SUBSCRIPTION]


def test_an_invoices_lines_name_price_item_meter_and_quantity(
    billing: BillingWorld, mapping: Mapping
) -> None:
    price = subscribed(billing, mapping)
    billing.use("10")
    billing.write()
    billing.set_time(billing.clock.now() + timedelta(days=31))
    (invoice, *_) = billing.stripe.v1.invoices.list({"customer": "cus_A"}).data
    lines = StripeInvoiceLines(billing.wiring.stripe_connection)

    found = [line for line in lines.lines(str(invoice.id)) if line.quantity]

    assert [(line.price_id, line.meter_id, line.quantity) for line in found] == [
        (price.id, mapping.meter_id, Decimal(10))
    ]
    assert found[0].subscription_item_id.startswith("si_")
    with pytest.raises(NotFoundError, match="no invoice in_missing"):
        lines.lines("in_missing")
