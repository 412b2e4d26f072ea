"""Error reports: thin events about meter events that were answered 200 and cannot count."""

from collections.abc import Iterator
from datetime import timedelta
from typing import cast

import pytest
import stripe
from stripe.billing import Meter
from stripe.events import (
    V1BillingMeterErrorReportTriggeredEvent,
    V1BillingMeterErrorReportTriggeredEventNotification,
    V1BillingMeterNoMeterFoundEvent,
)

from local.stripe.control import StandIn
from tests.stripe_standin.conftest import NOON, Send
from tests.stripe_standin.description import refuse_undescribed
from tests.stripe_standin.receiver import Receiver, receiving

REPORT = "v1.billing.meter.error_report_triggered"
NO_METER = "v1.billing.meter.no_meter_found"
UNKNOWN_CUSTOMER = "meter_event_customer_not_found"
WINDOW = timedelta(seconds=10)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as found:
        yield found


@pytest.fixture(autouse=True)
def found_later(stand_in: StandIn) -> None:
    stand_in.set(
        asynchronous=[UNKNOWN_CUSTOMER, "no_meter", "archived_meter", "timestamp_in_future"]
    )


def thin_destination(client: stripe.StripeClient, url: str) -> str:
    made = client.v2.core.event_destinations.create(
        {
            "name": "errors",
            "type": "webhook_endpoint",
            "event_payload": "thin",
            "enabled_events": [REPORT, NO_METER],
            "webhook_endpoint": {"url": url},
            "include": ["webhook_endpoint.signing_secret"],
        }
    )
    assert made.webhook_endpoint
    return str(made.webhook_endpoint.signing_secret)


def reports(client: stripe.StripeClient) -> list[V1BillingMeterErrorReportTriggeredEvent]:
    """Oldest first, each as the SDK reads it and as the description has it."""
    found = client.v2.core.events.list({"types": [REPORT, NO_METER]}).data
    for one in found:
        refuse_undescribed(f"/components/schemas/{one.type}", one.to_dict())
    return [cast("V1BillingMeterErrorReportTriggeredEvent", one) for one in reversed(found)]


def test_a_report_is_notified_without_its_data_and_fetched_with_it(
    client: stripe.StripeClient, send: Send, stand_in: StandIn, meter: Meter, receiver: Receiver
) -> None:
    secret = thin_destination(client, receiver.url)
    send(customer="cus_nobody", idempotency_key="k1")
    stand_in.advance(WINDOW)
    [received] = receiver.wait_for(1)

    notification = client.parse_event_notification(received.body, received.signature, secret)

    assert b"data" not in received.body
    assert isinstance(notification, V1BillingMeterErrorReportTriggeredEventNotification)
    assert notification.related_object.id == meter.id
    assert notification.fetch_related_object().event_name == "api_calls"
    data = notification.fetch_event().data
    assert data.developer_message_summary == "There is 1 invalid event"
    assert (data.validation_start, data.validation_end) == (
        "2026-11-20T12:00:00.000Z",
        "2026-11-20T12:00:10.000Z",
    )
    [kind] = data.reason.error_types
    assert (kind.code, kind.error_count) == (UNKNOWN_CUSTOMER, 1)
    [sample] = kind.sample_errors
    assert sample.request.identifier == "k1"
    assert sample.error_message == "No such customer: 'cus_nobody'"


def test_a_window_is_reported_only_when_it_has_ended(
    client: stripe.StripeClient, send: Send, stand_in: StandIn
) -> None:
    send(customer="cus_nobody")
    stand_in.stand_at(NOON + timedelta(seconds=9))
    send(customer="cus_nobody")
    assert reports(client) == []

    stand_in.stand_at(NOON + WINDOW)
    send(customer="cus_nobody")

    [report] = reports(client)
    assert report.data.reason.error_count == 2
    stand_in.advance(WINDOW)
    assert [one.data.reason.error_count for one in reports(client)] == [2, 1]
    stand_in.advance(WINDOW)
    assert len(reports(client)) == 2


def test_errors_are_grouped_by_meter_and_code(
    client: stripe.StripeClient, send: Send, stand_in: StandIn, meter: Meter
) -> None:
    for number in range(3):
        send(customer=f"cus_nobody{number}")
    send(timestamp=int(NOON.timestamp()) + 301)
    send(event_name="nothing")
    stand_in.settle()

    by_type = {str(one.type): one for one in reports(client)}

    of_meter = by_type[REPORT]
    assert of_meter.related_object.id == meter.id
    assert of_meter.data.reason.error_count == 4
    assert [(one.code, one.error_count) for one in of_meter.data.reason.error_types] == [
        (UNKNOWN_CUSTOMER, 3),
        ("timestamp_in_future", 1),
    ]
    nowhere = cast("V1BillingMeterNoMeterFoundEvent", by_type[NO_METER])
    assert "related_object" not in nowhere
    assert [one.code for one in nowhere.data.reason.error_types] == ["no_meter"]


def test_errors_of_an_inactive_meter_are_reported_at_it(
    client: stripe.StripeClient, send: Send, stand_in: StandIn, meter: Meter
) -> None:
    client.v1.billing.meters.deactivate(meter.id)
    send()
    stand_in.settle()

    [report] = reports(client)

    assert report.related_object.id == meter.id
    assert [one.code for one in report.data.reason.error_types] == ["archived_meter"]


@pytest.mark.parametrize("most", [2, 0])
def test_samples_are_fewer_than_errors_and_may_be_none(
    client: stripe.StripeClient, send: Send, stand_in: StandIn, most: int
) -> None:
    stand_in.set(report_samples=most)
    for number in range(4):
        send(customer="cus_nobody", idempotency_key=f"k{number}")
    stand_in.settle()

    [kind] = reports(client)[0].data.reason.error_types

    assert kind.error_count == 4
    assert [one.request.identifier for one in kind.sample_errors] == ["k0", "k1"][:most]


def test_what_an_account_finds_at_once_is_not_reported(
    client: stripe.StripeClient, send: Send, stand_in: StandIn
) -> None:
    with pytest.raises(stripe.InvalidRequestError):
        send("many")
    stand_in.settle()

    assert reports(client) == []


def test_thin_events_are_filtered_and_paged(
    client: stripe.StripeClient, send: Send, stand_in: StandIn, meter: Meter
) -> None:
    for _ in range(3):
        send(customer="cus_nobody")
        stand_in.advance(WINDOW)

    first = client.v2.core.events.list({"limit": 2, "object_id": meter.id})

    assert len(first.data) == 2
    assert len(list(first.auto_paging_iter())) == 3
    assert client.v2.core.events.list({"object_id": "mtr_other"}).data == []
    late = client.v2.core.events.list({"created": {"gt": "2026-11-20T12:00:10Z"}})
    assert len(late.data) == 2


def test_an_unknown_thin_event_is_404_in_the_shape_of_v2(client: stripe.StripeClient) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v2.core.events.retrieve("evt_none")

    assert (refused.value.http_status, refused.value.code) == (404, "not_found")


def test_another_accounts_event_is_fetched_in_its_context(
    client: stripe.StripeClient, stand_in: StandIn, receiver: Receiver
) -> None:
    other: stripe.RequestOptions = {"stripe_account": "acct_other"}
    made = client.v2.core.event_destinations.create(
        {
            "name": "errors",
            "type": "webhook_endpoint",
            "event_payload": "thin",
            "enabled_events": ["*"],
            "webhook_endpoint": {"url": receiver.url},
            "include": ["webhook_endpoint.signing_secret"],
        },
        other,
    )
    assert made.webhook_endpoint
    client.v1.billing.meter_events.create(
        {"event_name": "nothing", "payload": {"stripe_customer_id": "cus_x", "value": "1"}}, other
    )
    stand_in.settle()
    [received] = receiver.wait_for(1)

    notification = client.parse_event_notification(
        received.body, received.signature, str(made.webhook_endpoint.signing_secret)
    )

    assert str(notification.context) == "acct_other"
    assert notification.fetch_event().type == NO_METER
