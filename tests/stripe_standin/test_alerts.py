"""Billing alerts: one event per customer when usage reaches a threshold."""

from collections.abc import Callable
from datetime import timedelta

import pytest
import stripe
from stripe.billing import Alert, Meter

from local.stripe.control import StandIn
from tests.stripe_standin.conftest import Send
from tests.stripe_standin.description import refuse_undescribed

type MakeAlert = Callable[..., Alert]


@pytest.fixture
def make_alert(client: stripe.StripeClient, meter: Meter) -> MakeAlert:
    def make(gte: int = 10, customer: str | None = None) -> Alert:
        filters = [{"type": "customer", "customer": customer}] if customer else []
        threshold = {"gte": gte, "meter": meter.id, "recurrence": "one_time"}
        if filters:
            threshold["filters"] = filters
        return client.v1.billing.alerts.create(
            {"alert_type": "usage_threshold", "title": "Much", "usage_threshold": threshold}  # type: ignore[typeddict-item]
        )

    return make


def triggered(client: stripe.StripeClient) -> list[tuple[str, int]]:
    """Customer and value of each, oldest first."""
    found = client.v1.events.list({"type": "billing.alert.triggered"}).data
    for event in found:
        refuse_undescribed(
            "/components/schemas/billing.alert_triggered", event.to_dict()["data"]["object"]
        )
    told = [event.data.object for event in reversed(found)]
    return [(one["customer"], one["value"]) for one in told]


def test_an_alert_triggers_once_when_its_threshold_is_reached(
    client: stripe.StripeClient, send: Send, make_alert: MakeAlert, customer: stripe.Customer
) -> None:
    make_alert(10)
    send("9")
    assert triggered(client) == []

    send("2")
    send("50")

    assert triggered(client) == [(customer.id, 11)]


def test_every_customer_triggers_an_alert_without_a_filter(
    client: stripe.StripeClient, send: Send, make_alert: MakeAlert, customer: stripe.Customer
) -> None:
    make_alert(10)
    other = client.v1.customers.create({"name": "Bob"})
    send("10")
    send("12", customer=other.id)

    assert triggered(client) == [(customer.id, 10), (other.id, 12)]


def test_a_filter_names_the_one_customer(
    client: stripe.StripeClient, send: Send, make_alert: MakeAlert, customer: stripe.Customer
) -> None:
    make_alert(10, customer.id)
    send("12", customer=client.v1.customers.create({"name": "Bob"}).id)

    assert triggered(client) == []


def test_only_usage_after_the_alert_counts(
    client: stripe.StripeClient, send: Send, make_alert: MakeAlert
) -> None:
    send("9")
    make_alert(10)
    send("9")

    assert triggered(client) == []


def test_an_inactive_alert_is_silent_and_counts_anew_when_activated(
    client: stripe.StripeClient, send: Send, make_alert: MakeAlert, customer: stripe.Customer
) -> None:
    alert = make_alert(10)
    assert client.v1.billing.alerts.deactivate(alert.id).status == "inactive"
    send("10")
    assert triggered(client) == []

    assert client.v1.billing.alerts.activate(alert.id).status == "active"
    send("9")
    send("1")

    assert triggered(client) == [(customer.id, 10)]


def test_an_archived_alert_is_for_looking_at_only(
    client: stripe.StripeClient, send: Send, make_alert: MakeAlert, meter: Meter
) -> None:
    alert = make_alert(10)
    assert client.v1.billing.alerts.archive(alert.id).status == "archived"
    send("10")

    assert triggered(client) == []
    with pytest.raises(stripe.InvalidRequestError, match="archived"):
        client.v1.billing.alerts.activate(alert.id)
    assert client.v1.billing.alerts.retrieve(alert.id).title == "Much"
    assert [one.id for one in client.v1.billing.alerts.list({"meter": meter.id}).data] == [alert.id]
    assert client.v1.billing.alerts.list({"meter": "mtr_other"}).data == []


def test_a_meter_and_customer_have_at_most_25_alerts(
    make_alert: MakeAlert, customer: stripe.Customer
) -> None:
    for number in range(25):
        make_alert(number + 1, customer.id)

    with pytest.raises(stripe.InvalidRequestError, match="25 alerts"):
        make_alert(99, customer.id)
    make_alert(99)


def test_alerts_do_not_work_with_test_clocks(
    client: stripe.StripeClient, send: Send, make_alert: MakeAlert, stand_in: StandIn
) -> None:
    clock = client.v1.test_helpers.test_clocks.create(
        {"frozen_time": int(stand_in.now().timestamp())}
    )
    on_clock = client.v1.customers.create({"name": "Eve", "test_clock": clock.id})
    with pytest.raises(stripe.InvalidRequestError, match="test clock"):
        make_alert(10, on_clock.id)

    make_alert(10)
    send("10", customer=on_clock.id, timestamp=clock.frozen_time)

    assert triggered(client) == []


def test_a_refused_event_triggers_nothing(
    client: stripe.StripeClient, send: Send, make_alert: MakeAlert, stand_in: StandIn
) -> None:
    make_alert(10)
    with pytest.raises(stripe.InvalidRequestError):
        send("10", timestamp=int((stand_in.now() + timedelta(hours=1)).timestamp()))

    assert triggered(client) == []
