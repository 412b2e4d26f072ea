"""Customers at Stripe, and metrics' settings."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from metering.counter import Aggregation
from metering.errors import RetryableError
from metering.mapping import LatePolicy, MetricSettings
from metering.names import CustomerRef, Metric, TenantId
from metering.period import Interval, Span
from metering.wiring import Wiring
from tests.api_client import Answer, Api, api_of
from tests.builders import NOON
from tests.fake_billing import FakeBilling, a_subscription

ACME = TenantId("acme")
ANCHOR = datetime(2026, 1, 31, 8, 30, 15, tzinfo=UTC)


@pytest.fixture
def billing(wiring: Wiring) -> FakeBilling:
    fake = FakeBilling()
    wiring.billing = fake
    wiring.subscriptions = fake
    return fake


@pytest.fixture
def api(wiring: Wiring, billing: FakeBilling) -> Api:
    return api_of(wiring, "acme")


def refused(answer: Answer) -> str:
    assert answer.status == 400, answer.text
    message: str = answer.body["message"]
    return message


def test_a_customer_is_named_in_the_shadow_account_too(api: Api) -> None:
    sent = {"stripeCustomer": "cus_9", "shadowStripeCustomer": "cus_shadow"}

    assert api.put("/v1/customers/team-1", sent).body["shadowStripeCustomer"] == "cus_shadow"

    assert api.get("/v1/customers/team-1").body["shadowStripeCustomer"] == "cus_shadow"
    wrong = api.put("/v1/customers/team-1", sent | {"shadowStripeCustomer": "acct_1"})
    assert "shadowStripeCustomer: must start with 'cus_'" in refused(wrong)


def test_a_customer_is_named_at_stripe(wiring: Wiring, api: Api) -> None:
    answer = api.put("/v1/customers/team-1", {"stripeCustomer": "cus_9"})

    expected = {
        "tenantId": "acme",
        "customerRef": "team-1",
        "stripeCustomer": "cus_9",
        "shadowStripeCustomer": "",
        "subscription": "",
        "billingAnchor": None,
        "period": {"start": "2026-11-01T00:00:00.000Z", "end": "2026-12-01T00:00:00.000Z"},
        "trouble": "",
    }
    assert (answer.status, answer.body) == (200, expected)
    assert api.get("/v1/customers/team-1").body == expected
    assert wiring.settings.customer(ACME, CustomerRef("team-1")).stripe_customer == "cus_9"


def test_a_change_of_its_periods_is_remembered_with_the_customer(
    wiring: Wiring, api: Api, billing: FakeBilling
) -> None:
    billing.subscriptions["sub_1"] = a_subscription(ANCHOR, NOON)
    billing.subscriptions["sub_2"] = a_subscription(
        ANCHOR + timedelta(days=3), NOON, identity="sub_2"
    )
    recuts = []
    for subscription in ("sub_1", "sub_1", "sub_2", "sub_1"):
        body = api.put("/v1/customers/team-1", {"subscription": subscription}).body
        recuts.append(wiring.settings.customer(ACME, CustomerRef("team-1")).recuts)

    assert recuts == [0, 0, 1, 2]
    assert "recuts" not in body


def test_a_subscription_brings_customer_and_periods(api: Api, billing: FakeBilling) -> None:
    billing.subscriptions["sub_1"] = a_subscription(ANCHOR, NOON)

    body = api.put("/v1/customers/team-1", {"subscription": "sub_1"}).body

    assert body["stripeCustomer"] == "cus_A"
    assert body["billingAnchor"] == "2026-01-31T08:30:15.000Z"
    assert body["period"] == {
        "start": "2026-10-31T08:30:15.000Z",
        "end": "2026-11-30T08:30:15.000Z",
    }


def test_without_its_subscription_a_customers_periods_are_months_again(
    api: Api, billing: FakeBilling
) -> None:
    billing.subscriptions["sub_1"] = a_subscription(ANCHOR, NOON)
    api.put("/v1/customers/team-1", {"subscription": "sub_1"})

    body = api.put("/v1/customers/team-1", {"stripeCustomer": "cus_A"}).body

    assert (body["subscription"], body["billingAnchor"]) == ("", None)
    assert body["period"]["start"] == "2026-11-01T00:00:00.000Z"


def test_a_ref_that_is_a_stripe_customer_stays_one(api: Api) -> None:
    assert api.put("/v1/customers/cus_7", {}).body["stripeCustomer"] == "cus_7"
    assert api.get("/v1/customers/cus_8").body["stripeCustomer"] == "cus_8"
    assert api.get("/v1/customers/team-1").body["stripeCustomer"] == ""


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"stripeCustomer": "team"}, "stripeCustomer: must start with 'cus_'"),
        ({"subscription": "si_1"}, "subscription: must start with 'sub_'"),
        ({"subscription": "sub_none"}, "no subscription sub_none"),
        ({"subscription": "sub_1", "stripeCustomer": "cus_B"}, "sub_1 is of cus_A"),
        ({"subscription": "sub_1", "customerRef": "team-2"}, "customerRef: differs"),
        ({"stripeCustomer": 5}, "body.stripeCustomer"),
    ],
)
def test_a_wrong_customer_is_refused(
    wiring: Wiring, api: Api, billing: FakeBilling, body: dict[str, Any], message: str
) -> None:
    billing.subscriptions["sub_1"] = a_subscription(ANCHOR, NOON)

    assert message in refused(api.put("/v1/customers/team-1", body))
    assert wiring.settings_store.customers_after(ACME, None, 10) == []


@pytest.mark.parametrize(
    ("interval", "count", "end"),
    [
        (Interval.DAY, 10, "2026-11-30T12:00:00.000Z"),
        (Interval.WEEK, 1, "2026-11-27T12:00:00.000Z"),
        (Interval.MONTH, 3, "2027-02-20T12:00:00.000Z"),
        (Interval.YEAR, 1, "2027-11-20T12:00:00.000Z"),
    ],
)
def test_periods_may_be_of_any_interval(
    api: Api, billing: FakeBilling, interval: Interval, count: int, end: str
) -> None:
    period = Span(NOON, datetime.fromisoformat(end))
    made = a_subscription(NOON, NOON, period=period)
    item = replace(made.items[0], interval=interval, interval_count=count)
    billing.subscriptions["sub_1"] = replace(made, items=(item,))

    body = api.put("/v1/customers/team-1", {"subscription": "sub_1"}).body

    assert body["period"] == {"start": "2026-11-20T12:00:00.000Z", "end": end}


def test_periods_that_do_not_follow_from_the_anchor_are_refused(
    api: Api, billing: FakeBilling
) -> None:
    week = Span(NOON + timedelta(days=1), NOON + timedelta(days=8))
    billing.subscriptions["sub_1"] = a_subscription(NOON, NOON, period=week)

    message = refused(api.put("/v1/customers/team-1", {"subscription": "sub_1"}))

    assert "does not follow from the subscription's anchor" in message


def test_items_that_bill_by_different_periods_are_refused(api: Api, billing: FakeBilling) -> None:
    made = a_subscription(NOON, NOON)
    week = replace(made.items[0], id="si_2", period=Span(NOON, NOON + timedelta(days=7)))
    billing.subscriptions["sub_1"] = replace(made, items=(*made.items, week))

    message = refused(api.put("/v1/customers/team-1", {"subscription": "sub_1"}))

    assert "si_1 and si_2 of sub_1 bill by different periods" in message


def test_without_stripe_a_subscription_cannot_be_read(api: Api, billing: FakeBilling) -> None:
    billing.trouble = RetryableError("Stripe cannot answer now")

    answer = api.put("/v1/customers/team-1", {"subscription": "sub_1"})

    assert answer.status == 502
    assert "could not be read from Stripe" in answer.body["message"]
    assert api.put("/v1/customers/team-1", {"stripeCustomer": "cus_1"}).status == 200


def test_customers_are_listed_in_parts(wiring: Wiring, api: Api) -> None:
    for ref in ("c", "a", "b"):
        api.put(f"/v1/customers/{ref}", {})
    api_of(wiring, "other").put("/v1/customers/a2", {})

    first = api.get("/v1/customers", limit=2).body
    rest = api.get("/v1/customers", limit=2, after=first["nextAfter"]).body

    assert [one["customerRef"] for one in first["customers"]] == ["a", "b"]
    assert [one["customerRef"] for one in rest["customers"]] == ["c"]
    assert rest["nextAfter"] is None


def test_a_ref_that_cannot_stand_in_a_path_goes_in_the_body(api: Api) -> None:
    ref = "teams/42?#"

    assert api.put("/v1/customers", {"customerRef": ref, "stripeCustomer": "cus_1"}).status == 200

    (found,) = api.get("/v1/customers", customerRef=ref).body["customers"]
    assert (found["customerRef"], found["stripeCustomer"]) == (ref, "cus_1")
    assert refused(api.put("/v1/customers", {})) == "customerRef: Required"


# --- metrics --------------------------------------------------------------------------------------


def test_a_metric_has_the_defaults_until_it_is_set_up(api: Api) -> None:
    assert api.get("/v1/metrics").body == []
    assert api.get("/v1/metrics/api_calls").body == {
        "metric": "api_calls",
        "aggregation": "sum",
        "latePolicy": "adjust",
        "latenessHours": 48,
        "unit": "unit",
        "bucket": "day",
    }


def test_a_metrics_settings_are_changed_one_by_one(wiring: Wiring, api: Api) -> None:
    api.put("/v1/metrics/api_calls", {"latenessHours": 0.5, "unit": "call"})
    answer = api.put("/v1/metrics/api_calls", '{"latePolicy":"reject","aggregation":"max"}')

    assert answer.status == 200
    assert answer.body == {
        "metric": "api_calls",
        "aggregation": "max",
        "latePolicy": "reject",
        "latenessHours": Decimal("0.5"),
        "unit": "call",
        "bucket": "day",
    }
    assert wiring.settings.metric(ACME, Metric("api_calls")) == MetricSettings(
        Metric("api_calls"), Aggregation.MAX, LatePolicy.REJECT, timedelta(minutes=30), "call"
    )
    assert api.get("/v1/metrics").body == [answer.body]
    assert api_of(wiring, "other").get("/v1/metrics").body == []


def test_a_metric_that_cannot_stand_in_a_path_goes_in_the_body(api: Api) -> None:
    assert api.put("/v1/metrics", {"metric": "a/b", "unit": "call"}).status == 200

    assert [one["metric"] for one in api.get("/v1/metrics").body] == ["a/b"]
    assert refused(api.put("/v1/metrics", {"unit": "call"})) == "metric: Required"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"aggregation": "median"}, "body.aggregation"),
        ({"latePolicy": "drop"}, "body.latePolicy"),
        ({"latenessHours": -1}, "body.latenessHours"),
        ({"latenessHours": 9000}, "body.latenessHours"),
        ('{"latenessHours": NaN}', "body.latenessHours"),
        ({"latenessHours": "soon"}, "body.latenessHours"),
        ({"unit": ""}, "body.unit"),
        ({"metric": "other"}, "metric: differs"),
    ],
)
def test_wrong_settings_are_refused(api: Api, body: object, message: str) -> None:
    assert message in refused(api.put("/v1/metrics/api_calls", body))
    assert api.get("/v1/metrics").body == []
