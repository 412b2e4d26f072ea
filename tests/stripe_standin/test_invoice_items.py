"""Invoice items: what waits for a customer's next invoice, and what joins a draft."""

from decimal import Decimal
from typing import Any, cast

import pytest
import stripe

from local.stripe.control import StandIn
from tests.stripe_standin.bills import Bills, amounts, instant


@pytest.fixture
def bills(client: stripe.StripeClient) -> Bills:
    return Bills(client)


def item(bills: Bills, **given: Any) -> stripe.InvoiceItem:
    params = {"customer": bills.customer, "currency": "usd"} | given
    return bills.client.v1.invoice_items.create(cast("Any", params))


def test_an_invoice_item_waits_for_the_next_invoice(bills: Bills, stand_in: StandIn) -> None:
    bills.subscribe()
    waiting = item(bills, amount=-250, description="Correction", metadata={"of": "November"})
    listed = bills.client.v1.invoice_items.list({"customer": bills.customer, "pending": True})
    stand_in.stand_at(instant("2026-12-20 12:00:00"))
    line = bills.cycle().lines.data[1]
    taken = bills.client.v1.invoice_items.retrieve(waiting.id)

    assert [one.id for one in listed.data] == [waiting.id]
    assert (line.amount, line.description) == (-250, "Correction")
    assert line.metadata.to_dict() == {"of": "November"}
    assert line.parent
    assert line.parent.invoice_item_details
    assert line.parent.invoice_item_details.invoice_item == waiting.id
    assert taken.invoice == bills.cycle().id
    assert not bills.client.v1.invoice_items.list({"pending": True}).data


def test_a_subscriptions_invoice_takes_its_own_items_and_those_of_none(
    bills: Bills, stand_in: StandIn
) -> None:
    one, two = bills.subscribe(), bills.subscribe(bills.price(interval="year"))
    item(bills, amount=1, subscription=one.id)
    item(bills, amount=2, subscription=two.id)
    item(bills, amount=3)
    item(bills, amount=4, currency="eur")
    stand_in.stand_at(instant("2026-12-20 12:00:00"))

    assert amounts(bills.cycle()) == [0, 1, 3]


def test_a_named_draft_takes_an_item_at_once_and_gives_it_back(
    bills: Bills, stand_in: StandIn
) -> None:
    bills.subscribe()
    stand_in.stand_at(instant("2026-12-20 12:00:00"))
    draft = bills.cycle().id
    added = item(bills, amount=30, invoice=draft)
    with_it = bills.cycle()
    bills.client.v1.invoice_items.delete(added.id)
    without = bills.cycle()

    assert (amounts(with_it), with_it.total) == ([0, 30], 30)
    assert (amounts(without), without.total) == ([0], 0)
    with pytest.raises(stripe.InvalidRequestError):
        bills.client.v1.invoice_items.retrieve(added.id)


def test_a_final_invoice_takes_no_item_and_gives_none_back(bills: Bills, stand_in: StandIn) -> None:
    bills.subscribe()
    waiting = item(bills, amount=30)
    stand_in.stand_at(instant("2026-12-20 13:00:00"))

    with pytest.raises(stripe.InvalidRequestError) as refused:
        item(bills, amount=1, invoice=bills.cycle().id)
    assert refused.value.code == "invoice_not_editable"
    with pytest.raises(stripe.InvalidRequestError) as refused:
        bills.client.v1.invoice_items.delete(waiting.id)
    assert refused.value.code == "invoice_not_editable"


def test_a_quantity_at_a_unit_amount_is_rounded_once(bills: Bills) -> None:
    made = item(bills, unit_amount_decimal="-0.3", quantity_decimal="15.5")

    # -4.65
    assert (made.amount, made.quantity, made.quantity_decimal) == (-5, 15, Decimal("15.5"))
    assert made.pricing
    assert made.pricing.unit_amount_decimal == Decimal("-0.3")


def test_an_item_can_be_of_a_price_for_one_time(bills: Bills) -> None:
    price = bills.client.v1.prices.create(
        {"currency": "eur", "unit_amount": 250, "product_data": {"name": "Setup"}}
    )
    made = item(bills, pricing={"price": price.id}, quantity=3, currency="eur")

    assert (made.amount, made.currency, made.quantity) == (750, "eur", 3)
    with pytest.raises(stripe.InvalidRequestError, match="is recurring"):
        item(bills, pricing={"price": bills.price()})


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({}, "amount"),
        ({"amount": 1, "unit_amount_decimal": "1"}, "unit_amount_decimal"),
        ({"amount": 1, "quantity": 2}, "quantity"),
        ({"unit_amount_decimal": "1", "quantity": 2, "quantity_decimal": "2"}, "quantity_decimal"),
    ],
)
def test_an_item_needs_one_amount(bills: Bills, given: dict[str, Any], param: str) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refused:
        item(bills, **given)

    assert refused.value.param == param


def test_another_customers_subscription_or_invoice_is_refused(
    bills: Bills, client: stripe.StripeClient
) -> None:
    other = Bills(client)
    foreign = other.subscribe()
    draft = client.v1.invoices.create({"customer": other.customer})

    with pytest.raises(stripe.InvalidRequestError, match="is not of customer"):
        item(bills, amount=1, subscription=foreign.id)
    with pytest.raises(stripe.InvalidRequestError, match="is not of customer"):
        item(bills, amount=1, invoice=draft.id)


def test_an_invoice_of_its_own_takes_what_waits_on_demand(bills: Bills) -> None:
    item(bills, amount=30)
    invoices = bills.client.v1.invoices
    empty = invoices.create({"customer": bills.customer})
    made = invoices.create(
        {"customer": bills.customer, "pending_invoice_items_behavior": "include"}
    )
    final = invoices.finalize_invoice(made.id, {"auto_advance": True})

    assert (empty.billing_reason, empty.status, amounts(empty)) == ("manual", "draft", [])
    assert (amounts(made), made.automatically_finalizes_at) == ([30], None)
    assert (final.status, final.amount_paid) == ("paid", 30)


def test_an_item_is_told_once_it_exists(bills: Bills) -> None:
    made = item(bills, amount=30)
    told = bills.client.v1.events.list({"type": "invoiceitem.created"})

    assert [one.data.object["id"] for one in told.data] == [made.id]
