"""Cancelling a subscription: Stripe hears of all usage first."""

from datetime import timedelta
from decimal import Decimal

import pytest

from metering.period import Span, calendar_months
from tests.api_client import Api, api_of
from tests.billing_world import BillingWorld
from tests.builders import NOON
from tests.closing_world import ClosingWorld

LATER = NOON + timedelta(hours=1)
ENDED = LATER + timedelta(seconds=30)


@pytest.fixture
def subscribed(billing: BillingWorld) -> ClosingWorld:
    """A customer with 10 used that Stripe was not told yet."""
    closing = ClosingWorld(billing)
    billing.customer("cus_A")
    closing.subscribe()
    closing.close()
    closing.go_to(LATER)
    billing.use("10")
    closing.go_to(ENDED)
    return closing


@pytest.fixture
def api(subscribed: ClosingWorld) -> Api:
    return api_of(subscribed.world.wiring, "demo")


def test_all_usage_is_told_before_the_subscription_is_cancelled(
    subscribed: ClosingWorld, api: Api
) -> None:
    subscription = subscribed.customer().subscription

    answer = api.post("/v1/customers/cus_A/cancel", {"invoiceNow": True})

    assert answer.status == 200, answer.text
    assert answer.body["subscription"] == subscription
    assert answer.body["told"] == [{"metric": "api_calls", "quantity": Decimal(10)}]
    assert (answer.body["endedAt"], answer.body["trouble"]) == ("2026-11-20T13:00:30.000Z", "")
    (invoice,) = subscribed.world.stripe.v1.invoices.list(
        {"subscription": subscription, "status": "paid"}
    ).data[:1]
    assert invoice.lines.data[0].quantity == 10
    customer = subscribed.customer()
    assert (customer.subscription, customer.eras[-1]) == ("", calendar_months(ENDED))
    assert customer.calendar.period_of(NOON) == Span(NOON, ENDED)


def test_a_subscription_that_cannot_be_told_all_is_not_cancelled(
    subscribed: ClosingWorld, api: Api
) -> None:
    with subscribed.lagging(by=timedelta(hours=1)):
        answer = api.post("/v1/customers/cus_A/cancel", {"invoiceNow": True})

    assert answer.status == 409
    assert (
        "was not cancelled: Stripe's summary of api_calls holds 0 of the 10"
        in (answer.body["message"])
    )
    found = subscribed.world.stripe.v1.subscriptions.retrieve(subscribed.customer().subscription)
    assert found.status == "active"


def test_force_cancels_it_all_the_same_and_says_what_is_missing(
    subscribed: ClosingWorld, api: Api
) -> None:
    with subscribed.lagging(by=timedelta(hours=1)):
        answer = api.post("/v1/customers/cus_A/cancel", {"invoiceNow": True, "force": True})

    assert answer.status == 200, answer.text
    assert "holds 0 of the 10" in answer.body["trouble"]
    assert subscribed.customer().subscription == ""


def test_a_customer_without_a_subscription_has_nothing_to_cancel(
    subscribed: ClosingWorld, api: Api
) -> None:
    subscribed.world.customer("cus_B")

    answer = api.post("/v1/customers/cus_B/cancel", {})

    assert answer.status == 400
    assert "cus_B has no subscription" in answer.body["message"]


def test_another_tenants_customer_cannot_be_cancelled(subscribed: ClosingWorld) -> None:
    other = api_of(subscribed.world.wiring, "other")

    assert other.post("/v1/customers/team-1/cancel", {}).status == 400


def test_a_period_is_shown_while_open_and_when_closed(subscribed: ClosingWorld, api: Api) -> None:
    api.post("/v1/customers/cus_A/cancel", {"invoiceNow": True})
    subscribed.go_to(LATER + timedelta(minutes=10))
    subscribed.close()

    present, last, before = api.get("/v1/periods", customerRef="cus_A").body[:3]

    assert (present["state"], present["subscription"]) == ("open", "")
    assert (last["state"], last["closedAt"]) == ("closed", "2026-11-20T13:00:30.000Z")
    assert last["message"] == f"closed by {last['invoice']}"
    assert last["period"] == {
        "start": "2026-11-20T12:00:00.000Z",
        "end": "2026-11-20T13:00:30.000Z",
    }
    assert before["period"]["start"] == "2026-11-01T00:00:00.000Z"
    of_month = api.get("/v1/periods/2026-11").body
    assert [one["period"] for one in of_month if one["subscription"]] == [last["period"]]
    assert api_of(subscribed.world.wiring, "other").get("/v1/periods/2026-11").body == []


def test_a_month_that_is_none_is_refused(api: Api) -> None:
    assert api.get("/v1/periods/2026-13").status == 400
