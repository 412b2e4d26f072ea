"""Invoice previews: the next invoice as it would be with the usage so far."""

import pytest
import stripe

from local.stripe.control import StandIn
from tests.stripe_standin.bills import Bills, amounts, instant, quantities, text_of


@pytest.fixture
def bills(client: stripe.StripeClient) -> Bills:
    return Bills(client)


def test_a_preview_prices_the_usage_aggregated_so_far(bills: Bills, stand_in: StandIn) -> None:
    tiers = [
        {"up_to": 5, "unit_amount": 700},
        {"up_to": "inf", "unit_amount_decimal": "0.5", "flat_amount": 100},
    ]
    made = bills.subscribe(
        bills.price(billing_scheme="tiered", tiers_mode="graduated", tiers=tiers)
    )
    bills.use("6", "2026-11-20 12:00:00")
    unseen = bills.client.v1.invoices.create_preview({"subscription": made.id})
    stand_in.settle()
    seen = bills.client.v1.invoices.create_preview({"customer": bills.customer})

    assert (quantities(unseen), unseen.total) == (["0"], 0)
    # 35.00 + 1.00 + 0.005, rounded half up.
    assert (quantities(seen), seen.total) == (["6"], 3601)
    assert (seen.billing_reason, seen.status) == ("upcoming", "draft")
    assert (text_of(seen.period_start), text_of(seen.period_end)) == (
        "2026-11-20 12:00:00",
        "2026-12-20 12:00:00",
    )


def test_a_preview_is_what_the_cycles_end_brings(bills: Bills, stand_in: StandIn) -> None:
    made = bills.subscribe(bills.price(), bills.seats(900))
    bills.use("6", "2026-11-20 12:00:00")
    bills.client.v1.invoice_items.create(
        {"customer": bills.customer, "amount": 50, "currency": "usd"}
    )
    stand_in.settle()
    preview = bills.client.v1.invoices.create_preview({"subscription": made.id})
    stand_in.stand_at(instant("2026-12-20 12:00:00"))
    draft = bills.cycle()

    assert amounts(preview) == amounts(draft) == [6, 900, 50]
    assert [line.period for line in preview.lines.data[:2]] == [
        line.period for line in draft.lines.data[:2]
    ]
    assert preview.total == draft.total


def test_a_preview_changes_nothing(bills: Bills, stand_in: StandIn) -> None:
    bills.subscribe()
    bills.client.v1.invoice_items.create(
        {"customer": bills.customer, "amount": 50, "currency": "usd"}
    )
    before = stand_in.state()["accounts"]
    bills.client.v1.invoices.create_preview({"customer": bills.customer})

    assert (
        stand_in.state()["accounts"]["acct_standin"]["objects"]
        == (before["acct_standin"]["objects"])
    )


def test_the_last_preview_bills_no_further_seats(bills: Bills, stand_in: StandIn) -> None:
    made = bills.subscribe(bills.price(), bills.seats(900), cancel_at_period_end=True)
    bills.use("6", "2026-11-20 12:00:00")
    stand_in.settle()

    preview = bills.client.v1.invoices.create_preview({"subscription": made.id})
    assert amounts(preview) == [6]


def test_a_preview_of_the_coming_periods_leaves_out_what_comes_once(bills: Bills) -> None:
    made = bills.subscribe(bills.seats(900))
    bills.client.v1.invoice_items.create(
        {"customer": bills.customer, "amount": 50, "currency": "usd"}
    )

    preview = bills.client.v1.invoices.create_preview(
        {"subscription": made.id, "preview_mode": "recurring"}
    )
    assert amounts(preview) == [900]


def test_where_nothing_will_come_there_is_no_preview(bills: Bills) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refused:
        bills.client.v1.invoices.create_preview({"customer": bills.customer})

    assert (refused.value.http_status, refused.value.code) == (404, "invoice_upcoming_none")


def test_an_ended_subscription_has_no_preview(bills: Bills) -> None:
    made = bills.subscribe()
    bills.client.v1.subscriptions.cancel(made.id)

    with pytest.raises(stripe.InvalidRequestError) as refused:
        bills.client.v1.invoices.create_preview({"subscription": made.id})
    assert refused.value.code == "invoice_upcoming_none"


def test_what_waits_is_previewed_without_a_subscription(bills: Bills) -> None:
    bills.client.v1.invoice_items.create(
        {"customer": bills.customer, "amount": 50, "currency": "usd"}
    )

    preview = bills.client.v1.invoices.create_preview({"customer": bills.customer})
    assert (amounts(preview), preview.parent) == ([50], None)
