"""Events: what happened is listed and retrieved, newest first, with what changed."""

from pathlib import Path

import pytest
import stripe

from local.stripe.clock import SettableClock
from local.stripe.control import StandIn
from local.stripe.events import emit
from local.stripe.server import running
from local.stripe.state import Settings, World
from tests.stripe_standin.conftest import NOON
from tests.stripe_standin.description import CheckedClient

NOW = int(NOON.timestamp())


def types_of(listed: stripe.ListObject[stripe.Event]) -> list[str]:
    return [event.type for event in listed.data]


def test_what_happened_to_a_customer_is_listed_newest_first(
    client: stripe.StripeClient, transport: CheckedClient
) -> None:
    customer = client.v1.customers.create({"name": "Ada"}, {"idempotency_key": "k1"})
    made_by = transport.headers["Request-Id"]
    client.v1.customers.update(customer.id, {"name": "Ada L."})
    client.v1.customers.delete(customer.id)

    events = client.v1.events.list(
        {"types": ["customer.created", "customer.updated", "customer.deleted"]}
    )

    assert types_of(events) == ["customer.deleted", "customer.updated", "customer.created"]
    created = events.data[-1]
    assert created.created == NOW
    assert created.api_version == "2026-10-28.endive"
    assert created.data.object["name"] == "Ada"
    assert created.request is not None
    assert created.request.idempotency_key == "k1"
    assert created.request.id == made_by
    assert created.pending_webhooks == 0


def test_an_update_tells_what_was_before(client: stripe.StripeClient) -> None:
    customer = client.v1.customers.create({"name": "Ada", "metadata": {"plan": "a"}})
    client.v1.customers.update(customer.id, {"name": "Ada L.", "metadata": {"plan": "b"}})

    [event] = client.v1.events.list({"type": "customer.updated"}).data

    assert event.data.object["name"] == "Ada L."
    assert event.data.to_dict()["previous_attributes"] == {
        "name": "Ada",
        "metadata": {"plan": "a"},
    }


def test_events_are_filtered_by_type_and_time_and_paged(
    client: stripe.StripeClient, stand_in: StandIn
) -> None:
    for name in ("a", "b", "c"):
        client.v1.customers.create({"name": name})
    client.v1.products.create({"name": "API"})

    assert set(types_of(client.v1.events.list({"type": "customer.*"}))) == {"customer.created"}
    assert types_of(client.v1.events.list({"created": {"gt": NOW}})) == []
    first = client.v1.events.list({"type": "customer.created", "limit": 2})
    assert first.has_more
    rest = client.v1.events.list(
        {"type": "customer.created", "limit": 2, "starting_after": first.data[-1].id}
    )
    assert [event.data.object["name"] for event in [*first.data, *rest.data]] == ["c", "b", "a"]
    assert client.v1.events.retrieve(first.data[0].id).id == first.data[0].id


def test_type_and_types_exclude_each_other(client: stripe.StripeClient) -> None:
    with pytest.raises(stripe.InvalidRequestError, match="not both"):
        client.v1.events.list({"type": "customer.created", "types": ["customer.deleted"]})


def test_there_is_no_event_of_another_account(client: stripe.StripeClient) -> None:
    client.v1.customers.create({"name": "Ada"})
    [event] = client.v1.events.list({"type": "customer.created"}).data

    with pytest.raises(stripe.InvalidRequestError, match="No such event"):
        client.v1.events.retrieve(event.id, None, {"stripe_account": "acct_other"})


def test_a_restart_keeps_events_endpoints_alerts_and_keys(tmp_path: Path) -> None:
    with running(data=tmp_path, settings=Settings(asynchronous=frozenset({"no_meter"}))) as first:
        first.stand_at(NOON)
        client = stripe.StripeClient("sk_test_x", base_addresses=first.base_addresses())
        meter = client.v1.billing.meters.create(
            {
                "display_name": "API calls",
                "event_name": "api_calls",
                "default_aggregation": {"formula": "sum"},
            }
        )
        client.v1.webhook_endpoints.create(
            {"url": "http://127.0.0.1:1/hook", "enabled_events": ["customer.deleted"]}
        )
        client.v2.core.event_destinations.create(
            {
                "name": "errors",
                "type": "webhook_endpoint",
                "event_payload": "thin",
                "enabled_events": ["v2.core.event_destination.ping"],
                "webhook_endpoint": {"url": "http://127.0.0.1:1/hook"},
            }
        )
        client.v1.billing.alerts.create(
            {
                "alert_type": "usage_threshold",
                "title": "Much",
                "usage_threshold": {"gte": 5, "meter": meter.id, "recurrence": "one_time"},
            }
        )
        customer = client.v1.customers.create({"name": "Ada"}).id
        payload = {"stripe_customer_id": customer, "value": "5"}
        sent = {"event_name": "api_calls", "payload": payload, "identifier": "u1.a.1"}
        client.v2.billing.meter_events.create(sent, {"idempotency_key": "k1"})  # type: ignore[arg-type]
        client.v1.billing.meter_events.create({"event_name": "nothing", "payload": payload})
        first.settle()
        before = first.state()["accounts"]

    kinds = before["acct_standin"]["objects"].keys()
    assert {"event", "v2.core.event", "billing.alert", "webhook_endpoint"} <= kinds
    for _ in range(2):
        with running(data=tmp_path) as again:
            assert again.state()["accounts"] == before
            again.settle()
            client = stripe.StripeClient("sk_test_x", base_addresses=again.base_addresses())
            client.v2.billing.meter_events.create(sent, {"idempotency_key": "k1"})  # type: ignore[arg-type]
            assert again.total("api_calls", customer) == 5
            assert len(client.v2.core.events.list().data) == 1


def test_a_request_that_is_taken_back_leaves_no_event() -> None:
    world = World(SettableClock(lambda: NOON), Settings(), seed="7")
    account = world.account()
    world.begin()
    emit(world, account, "customer.created", {"id": "cus_1", "object": "customer"}, NOW)

    world.roll_back()

    assert account.all("event") == {}
    assert account.deliveries == {}
