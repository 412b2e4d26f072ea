"""Legacy usage records: old API versions have them, newer ones do not know their paths."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
import stripe

from local.stripe import legacy
from local.stripe.control import StandIn
from local.stripe.state import PRICE, USAGE_RECORD, Account
from tests.stripe_standin.conftest import NOON
from tests.stripe_standin.description import CheckedClient

NOW = int(NOON.timestamp())
OLD: stripe.RequestOptions = {"stripe_version": legacy.LAST_VERSION}


@pytest.fixture
def legacy_price(stand_in: StandIn) -> str:
    return stand_in.add_legacy_price(unit_amount_decimal="2.5")


@pytest.fixture
def item(client: stripe.StripeClient, customer: stripe.Customer, legacy_price: str) -> str:
    subscription = client.v1.subscriptions.create(
        {"customer": customer.id, "items": [{"price": legacy_price}]}, OLD
    )
    return str(subscription["items"].data[0].id)


@pytest.fixture
def records(client: stripe.StripeClient, transport: CheckedClient, item: str) -> Any:
    """Report usage of the item: the SDK has no method for it any more."""
    transport.lenient = True

    def report(version: str = legacy.LAST_VERSION, **params: Any) -> Any:
        path = f"/v1/subscription_items/{item}/usage_records"
        return client.raw_request("post", path, stripe_version=version, **params)

    return report


def totals(client: stripe.StripeClient, item: str) -> list[int]:
    path = f"/v1/subscription_items/{item}/usage_record_summaries"
    answer = client.raw_request("get", path, stripe_version=legacy.LAST_VERSION)
    return [row["total_usage"] for row in answer.data["data"]]


def test_records_add_up_and_set(client: stripe.StripeClient, records: Any, item: str) -> None:
    records(quantity=5, timestamp=NOW)
    records(quantity=2, timestamp=NOW, action="increment")
    assert totals(client, item) == [7]

    records(quantity=3, timestamp=NOW, action="set")
    records(quantity=10, timestamp=NOW + 60)

    assert totals(client, item) == [13]


def test_a_record_is_answered_as_it_was_sent(records: Any, item: str) -> None:
    answer = records(quantity=5, timestamp="now")

    assert answer.data["object"] == "usage_record"
    assert (answer.data["quantity"], answer.data["timestamp"]) == (5, NOW)
    assert answer.data["subscription_item"] == item


@pytest.mark.parametrize("version", ["2025-03-31.basil", "2026-10-28.endive"])
def test_newer_versions_do_not_know_usage_records(records: Any, version: str) -> None:
    with pytest.raises(stripe.InvalidRequestError, match="Unrecognized request URL") as refused:
        records(version, quantity=5, timestamp=NOW)

    assert refused.value.http_status == 404


@pytest.mark.parametrize("offset_s", [-1, 301])
def test_a_record_lies_in_the_current_period(records: Any, offset_s: int) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refused:
        records(quantity=5, timestamp=NOW + offset_s)

    assert refused.value.param == "timestamp"


def test_a_negative_quantity_is_refused(records: Any) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refused:
        records(quantity=-1, timestamp=NOW)

    assert refused.value.param == "quantity"


def test_an_item_with_a_meter_takes_no_records(
    client: stripe.StripeClient,
    customer: stripe.Customer,
    meter: stripe.billing.Meter,
    transport: CheckedClient,
) -> None:
    price = client.v1.prices.create(
        {
            "currency": "usd",
            "unit_amount": 1,
            "product_data": {"name": "API"},
            "recurring": {"interval": "month", "usage_type": "metered", "meter": meter.id},
        }
    )
    subscription = client.v1.subscriptions.create(
        {"customer": customer.id, "items": [{"price": price.id}]}
    )
    transport.lenient = True
    path = f"/v1/subscription_items/{subscription['items'].data[0].id}/usage_records"

    with pytest.raises(stripe.InvalidRequestError, match="counts by a billing meter"):
        client.raw_request("post", path, quantity=1, stripe_version=legacy.LAST_VERSION)


def test_legacy_usage_is_billed_at_the_cycles_end(
    client: stripe.StripeClient,
    customer: stripe.Customer,
    stand_in: StandIn,
    transport: CheckedClient,
    records: Any,
) -> None:
    records(quantity=7, timestamp=NOW)
    records(quantity=3, timestamp=NOW + 1)
    transport.lenient = False
    stand_in.advance(timedelta(days=31))

    [invoice] = [
        one
        for one in client.v1.invoices.list({"customer": customer.id}).data
        if one.billing_reason == "subscription_cycle"
    ]

    [line] = invoice.lines.data
    assert (line.quantity_decimal, line.amount) == (Decimal(10), 25)


def test_a_legacy_price_can_be_read_and_not_be_subscribed_to_by_newer_versions(
    client: stripe.StripeClient, customer: stripe.Customer, legacy_price: str
) -> None:
    found = client.v1.prices.retrieve(legacy_price)
    assert found.recurring
    assert (found.recurring.usage_type, found.recurring.meter) == ("metered", None)

    with pytest.raises(stripe.InvalidRequestError, match="has no meter"):
        client.v1.subscriptions.create(
            {"customer": customer.id, "items": [{"price": legacy_price}]}
        )


@pytest.mark.parametrize(
    ("rule", "usage"),
    [("sum", 19), ("max", 9), ("last_during_period", 4), ("last_ever", 4)],
)
def test_each_rule_aggregates_a_period(rule: str, usage: int) -> None:
    account = an_account(rule, [(50, 100), (110, 6), (120, 9), (130, 4), (200, 7)])

    assert legacy.legacy_usage(account, ITEM, 100, 200) == Decimal(usage)


@pytest.mark.parametrize(
    ("rule", "usage"), [("sum", 0), ("last_during_period", 0), ("last_ever", 6)]
)
def test_a_period_without_records_is_nothing_but_for_last_ever(rule: str, usage: int) -> None:
    account = an_account(rule, [(50, 6), (300, 7)])

    assert legacy.legacy_usage(account, ITEM, 100, 200) == Decimal(usage)


ITEM = {"id": "si_1", "price": "price_1"}


def an_account(rule: str, quantities: list[tuple[int, int]]) -> Account:
    account = Account("acct_1")
    recurring = {"aggregate_usage": rule, "usage_type": "metered", "meter": None}
    account.all(PRICE)["price_1"] = {"id": "price_1", "recurring": recurring}
    for number, (timestamp, quantity) in enumerate(quantities):
        account.all(USAGE_RECORD)[str(number)] = {
            "subscription_item": "si_1",
            "timestamp": timestamp,
            "quantity": quantity,
            "action": "increment",
        }
    return account
