"""Webhooks: signed, delivered to this machine, again until confirmed, and wrong on demand."""

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import stripe

from local.stripe import webhooks
from local.stripe.control import StandIn
from local.stripe.core import StripeCore
from local.stripe.deliveries import Delivery
from local.stripe.faults import WebhookFault, WebhookFaultKind
from local.stripe.in_process import InProcessClient
from local.stripe.server import running
from local.stripe.state import Settings
from tests.conftest import SetClock
from tests.stripe_standin.conftest import NOON
from tests.stripe_standin.description import CheckedClient
from tests.stripe_standin.receiver import Receiver, receiving

HOOK = "http://127.0.0.1:1/hook"
HOUR = timedelta(hours=1)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as found:
        yield found


@pytest.fixture
def core(clock: SetClock) -> StripeCore:
    return StripeCore(clock.now, seed="7")


@pytest.fixture
def pure(core: StripeCore) -> stripe.StripeClient:
    """A client of the core alone: nothing is sent but by the test."""
    return stripe.StripeClient("sk_test_x", http_client=InProcessClient(core))


def endpoint_of(
    client: stripe.StripeClient, url: str = HOOK, events: list[Any] | None = None
) -> stripe.WebhookEndpoint:
    return client.v1.webhook_endpoints.create({"url": url, "enabled_events": events or ["*"]})


def due(core: StripeCore) -> list[Delivery]:
    return core.due_deliveries(core.world.clock.now())


def until_confirmed(stand_in: StandIn) -> None:
    pause = threading.Event()
    for _ in range(500):
        if not stand_in.deliveries()["pending"]:
            return
        pause.wait(0.01)
    raise AssertionError(stand_in.deliveries())


def names(deliveries: list[Delivery]) -> list[str]:
    return [json.loads(one.body)["data"]["object"]["name"] for one in deliveries]


# --- endpoints ----------------------------------------------------------------------------------


def test_an_endpoint_shows_its_secret_only_when_it_is_created(client: stripe.StripeClient) -> None:
    made = client.v1.webhook_endpoints.create(
        {"url": HOOK, "enabled_events": ["customer.created"], "api_version": "2026-10-28.endive"}
    )
    found = client.v1.webhook_endpoints.retrieve(made.id)

    assert made.secret
    assert made.secret.startswith("whsec_")
    assert "secret" not in found
    assert found.api_version == "2026-10-28.endive"
    assert found.status == "enabled"
    assert [one.id for one in client.v1.webhook_endpoints.list().data] == [made.id]


def test_an_endpoint_is_changed_disabled_and_deleted(client: stripe.StripeClient) -> None:
    made = endpoint_of(client)
    changed = client.v1.webhook_endpoints.update(
        made.id, {"disabled": True, "description": "old", "metadata": {"a": "b"}}
    )

    assert (changed.status, changed.description) == ("disabled", "old")
    assert client.v1.webhook_endpoints.delete(made.id).deleted
    assert client.v1.webhook_endpoints.list().data == []


@pytest.mark.parametrize("url", ["127.0.0.1/hook", "ftp://a/b", "http://", "http://a:99999999/b"])
def test_what_is_no_url_is_refused(client: stripe.StripeClient, url: str) -> None:
    with pytest.raises(stripe.InvalidRequestError, match="Invalid URL") as refused:
        endpoint_of(client, url)

    assert refused.value.param == "url"


# --- on the wire --------------------------------------------------------------------------------


def test_a_webhook_arrives_and_its_signature_verifies(
    client: stripe.StripeClient, receiver: Receiver
) -> None:
    endpoint = endpoint_of(client, receiver.url)
    customer = client.v1.customers.create({"name": "Ada"})

    [received] = receiver.wait_for(1)
    event = client.construct_event(received.body, received.signature, str(endpoint.secret))

    assert event.type == "customer.created"
    assert event.data.object["id"] == customer.id
    assert event.pending_webhooks == 1
    with pytest.raises(stripe.SignatureVerificationError):
        stripe.Webhook.construct_event(received.body + b" ", received.signature, endpoint.secret)


def test_a_confirmed_webhook_is_pending_no_more(
    client: stripe.StripeClient, stand_in: StandIn, receiver: Receiver
) -> None:
    endpoint_of(client, receiver.url, ["customer.created", "customer.deleted"])
    customer = client.v1.customers.create({"name": "Ada"})
    client.v1.customers.delete(customer.id)
    receiver.wait_for(2)
    until_confirmed(stand_in)

    [created] = client.v1.events.list({"type": "customer.created"}).data

    assert created.pending_webhooks == 0
    attempts = stand_in.deliveries()["attempts"]
    assert {(one["type"], one["attempt"], one["status"]) for one in attempts} == {
        ("customer.created", 1, 200),
        ("customer.deleted", 1, 200),
    }


def test_a_refused_webhook_comes_again_when_the_stand_ins_clock_says_so(
    client: stripe.StripeClient, stand_in: StandIn, receiver: Receiver
) -> None:
    receiver.status = 500
    endpoint_of(client, receiver.url, ["customer.created"])
    client.v1.customers.create({"name": "Ada"})
    receiver.wait_for(1)
    receiver.status = 200

    stand_in.advance(timedelta(minutes=6))
    first, second = receiver.wait_for(2)

    assert first.body == second.body


def test_no_other_host_is_ever_called(
    client: stripe.StripeClient, stand_in: StandIn, receiver: Receiver
) -> None:
    # Any resolver would find the receiver under this name, which is none of the allowed ones.
    endpoint_of(client, receiver.url.replace("127.0.0.1", "127.1"), ["customer.created"])
    endpoint_of(client, receiver.url, ["customer.deleted"])
    customer = client.v1.customers.create({"name": "Ada"})
    client.v1.customers.delete(customer.id)

    [received] = receiver.wait_for(1)

    assert json.loads(received.body)["type"] == "customer.deleted"
    attempts = stand_in.deliveries()["attempts"]
    assert [one["status"] for one in attempts if "127.1" in one["url"]] == [0]


# --- what the core hands out --------------------------------------------------------------------


def test_only_endpoints_that_want_an_event_get_it(
    core: StripeCore, pure: stripe.StripeClient
) -> None:
    wanting = endpoint_of(pure, events=["customer.created"])
    endpoint_of(pure, events=["customer.deleted"])
    disabled = endpoint_of(pure)
    pure.v1.webhook_endpoints.update(disabled.id, {"disabled": True})

    pure.v1.customers.create({"name": "Ada"})

    assert [one.destination for one in due(core)] == [wanting.id]


def test_a_webhook_is_handed_out_once_until_it_is_told_how_it_went(
    core: StripeCore, pure: stripe.StripeClient
) -> None:
    endpoint_of(pure, events=["customer.created"])
    pure.v1.customers.create({"name": "Ada"})

    [delivery] = due(core)
    assert due(core) == []
    core.delivered_webhook(delivery, 204)

    assert due(core) == []
    assert core.world.account().deliveries == {}


def test_retries_come_later_and_later_and_end_after_three_days(
    core: StripeCore, pure: stripe.StripeClient, clock: SetClock
) -> None:
    endpoint_of(pure, events=["customer.created"])
    pure.v1.customers.create({"name": "Ada"})
    start, instants = clock.now(), []

    for _ in range(24 * 12 * 4):
        for delivery in due(core):
            instants.append((clock.now() - start, delivery.attempt))
            core.delivered_webhook(delivery, 503)
        clock.advance(timedelta(minutes=5))

    assert [(at.total_seconds() / 60, attempt) for at, attempt in instants] == [
        (0, 1),
        (5, 2),
        (35, 3),
        (155, 4),
        (455, 5),
        (1055, 6),
        (1775, 7),
        (2495, 8),
        (3215, 9),
        (3935, 10),
    ]
    assert core.world.account().deliveries == {}


def test_what_is_handed_out_is_a_function_of_seed_clock_and_requests() -> None:
    def run(seed: str) -> list[Delivery]:
        core = StripeCore(lambda: NOON, seed=seed)
        client = stripe.StripeClient("sk_test_x", http_client=InProcessClient(core))
        endpoint_of(client)
        client.v1.customers.create({"name": "Ada"}, {"idempotency_key": "k1"})
        return due(core)

    assert run("a") == run("a")
    assert run("a") != run("b")


def test_what_time_alone_brings_about_is_told_without_a_request(
    client: stripe.StripeClient, stand_in: StandIn, receiver: Receiver
) -> None:
    price = client.v1.prices.create(
        {
            "currency": "usd",
            "unit_amount": 100,
            "product_data": {"name": "API"},
            "recurring": {"interval": "month"},
        }
    )
    customer = client.v1.customers.create({"name": "Ada"})
    client.v1.subscriptions.create({"customer": customer.id, "items": [{"price": price.id}]})
    endpoint_of(client, receiver.url, ["invoice.created"])

    stand_in.advance(timedelta(days=31))
    [received] = receiver.wait_for(1)

    invoice = json.loads(received.body)["data"]["object"]
    assert (invoice["customer"], invoice["billing_reason"]) == (customer.id, "subscription_cycle")


def test_two_secrets_sign_until_the_old_one_ends(
    core: StripeCore, pure: stripe.StripeClient, clock: SetClock
) -> None:
    endpoint = endpoint_of(pure, events=["customer.created"])
    new = webhooks.roll_secret(core.world, core.world.account(), endpoint.id, keep_old_s=3600)

    pure.v1.customers.create({"name": "Ada"})
    [both] = due(core)
    clock.advance(HOUR)
    pure.v1.customers.create({"name": "Bob"})
    [only_new] = due(core)

    def verifies(delivery: Delivery, secret: str) -> bool:
        try:
            stripe.WebhookSignature.verify_header(
                delivery.body, delivery.headers["Stripe-Signature"], secret
            )
        except stripe.SignatureVerificationError:
            return False
        return True

    assert both.headers["Stripe-Signature"].count("v1=") == 2
    assert (verifies(both, str(endpoint.secret)), verifies(both, new)) == (True, True)
    assert (verifies(only_new, str(endpoint.secret)), verifies(only_new, new)) == (False, True)


def test_the_signature_carries_the_machines_time_whatever_the_stand_ins_clock_says(
    core: StripeCore, pure: stripe.StripeClient, clock: SetClock
) -> None:
    endpoint_of(pure, events=["customer.created"])
    core.world.clock.stand_at(datetime(2027, 5, 1, tzinfo=UTC))
    pure.v1.customers.create({"name": "Ada"})

    [delivery] = due(core)

    assert delivery.headers["Stripe-Signature"].startswith(f"t={int(clock.now().timestamp())},")


def test_a_receiver_whose_clock_is_moved_along_gets_signatures_of_the_stand_ins_time(
    core: StripeCore, pure: stripe.StripeClient
) -> None:
    core.world.settings = Settings(webhooks_in_own_time=True)
    endpoint_of(pure, events=["customer.created"])
    core.world.clock.advance(timedelta(days=10))
    pure.v1.customers.create({"name": "Ada"})

    [delivery] = due(core)

    signed_at = int(core.world.clock.now().timestamp())
    assert delivery.headers["Stripe-Signature"].startswith(f"t={signed_at},")


# --- faults -------------------------------------------------------------------------------------


@pytest.mark.parametrize("answers", [(200, 500), (500, 200)])
def test_a_duplicate_comes_twice_and_one_confirmation_is_enough(
    core: StripeCore, pure: stripe.StripeClient, answers: tuple[int, int]
) -> None:
    endpoint_of(pure, events=["customer.created"])
    core.webhooks.faults.add(WebhookFault(WebhookFaultKind.DUPLICATE))
    pure.v1.customers.create({"name": "Ada"})

    first, second = due(core)
    core.delivered_webhook(first, answers[0])
    assert due(core) == []
    core.delivered_webhook(second, answers[1])

    assert first == second
    assert due(core) == []
    assert core.world.account().deliveries == {}


def test_a_lost_webhook_never_comes(
    core: StripeCore, pure: stripe.StripeClient, clock: SetClock
) -> None:
    endpoint_of(pure, events=["customer.created"])
    core.webhooks.faults.add(WebhookFault(WebhookFaultKind.LOSE))
    pure.v1.customers.create({"name": "Ada"})
    pure.v1.customers.create({"name": "Bob"})

    assert names(due(core)) == ["Bob"]
    clock.advance(timedelta(days=4))
    assert names(due(core)) == []


def test_a_late_webhook_is_overtaken(
    core: StripeCore, pure: stripe.StripeClient, clock: SetClock
) -> None:
    endpoint_of(pure, events=["customer.created"])
    core.webhooks.faults.add(WebhookFault(WebhookFaultKind.LATE, delay_s=60))
    pure.v1.customers.create({"name": "Ada"})
    pure.v1.customers.create({"name": "Bob"})

    assert names(due(core)) == ["Bob"]
    clock.advance(timedelta(seconds=59))
    assert names(due(core)) == []
    clock.advance(timedelta(seconds=1))
    assert names(due(core)) == ["Ada"]


def test_a_wrong_signature_does_not_verify_and_the_retry_does(
    client: stripe.StripeClient, stand_in: StandIn, receiver: Receiver
) -> None:
    receiver.status = 400
    endpoint = endpoint_of(client, receiver.url, ["customer.created"])
    stand_in.plan_webhook(WebhookFaultKind.WRONG_SIGNATURE, type="customer.*")
    client.v1.customers.create({"name": "Ada"})
    [wrong] = receiver.wait_for(1)
    stand_in.advance(timedelta(minutes=6))
    _, right = receiver.wait_for(2)

    with pytest.raises(stripe.SignatureVerificationError):
        client.construct_event(wrong.body, wrong.signature, str(endpoint.secret))
    assert client.construct_event(right.body, right.signature, str(endpoint.secret)).id


# --- destinations of v2 -------------------------------------------------------------------------


def test_a_snapshot_destination_gets_what_an_endpoint_gets(
    client: stripe.StripeClient, receiver: Receiver
) -> None:
    destination = client.v2.core.event_destinations.create(
        {
            "name": "hook",
            "type": "webhook_endpoint",
            "event_payload": "snapshot",
            "enabled_events": ["customer.created"],
            "webhook_endpoint": {"url": receiver.url},
            "include": ["webhook_endpoint.signing_secret", "webhook_endpoint.url"],
        }
    )
    client.v1.customers.create({"name": "Ada"})
    [received] = receiver.wait_for(1)

    assert destination.webhook_endpoint
    assert destination.webhook_endpoint.url == receiver.url
    secret = str(destination.webhook_endpoint.signing_secret)
    assert client.construct_event(received.body, received.signature, secret).type == (
        "customer.created"
    )
    hidden = client.v2.core.event_destinations.retrieve(destination.id).webhook_endpoint
    assert hidden
    assert (hidden.url, hidden.signing_secret) == (None, None)


def test_a_ping_is_fetched_by_its_thin_notification(
    client: stripe.StripeClient, receiver: Receiver
) -> None:
    destination = client.v2.core.event_destinations.create(
        {
            "name": "hook",
            "type": "webhook_endpoint",
            "event_payload": "thin",
            "enabled_events": ["v1.billing.meter.no_meter_found"],
            "webhook_endpoint": {"url": receiver.url},
            "include": ["webhook_endpoint.signing_secret"],
        }
    )
    assert destination.webhook_endpoint

    pinged = client.v2.core.event_destinations.ping(destination.id)
    [received] = receiver.wait_for(1)

    secret = str(destination.webhook_endpoint.signing_secret)
    notification = client.parse_event_notification(received.body, received.signature, secret)
    assert notification.fetch_event().id == pinged.id


def test_a_disabled_destination_gets_nothing(core: StripeCore, pure: stripe.StripeClient) -> None:
    destination = pure.v2.core.event_destinations.create(
        {
            "name": "hook",
            "type": "webhook_endpoint",
            "event_payload": "snapshot",
            "enabled_events": ["customer.created"],
            "webhook_endpoint": {"url": HOOK},
        }
    )
    pure.v2.core.event_destinations.disable(destination.id)
    pure.v1.customers.create({"name": "Ada"})
    assert due(core) == []

    pure.v2.core.event_destinations.enable(destination.id)
    pure.v1.customers.create({"name": "Bob"})
    assert names(due(core)) == ["Bob"]
    pure.v2.core.event_destinations.delete(destination.id)
    assert pure.v2.core.event_destinations.list().data == []


def test_eventbridge_hands_over_an_envelope_that_the_sdk_unwraps(
    client: stripe.StripeClient, stand_in: StandIn
) -> None:
    made = client.v2.core.event_destinations.create(
        {
            "name": "bus",
            "type": "amazon_eventbridge",
            "event_payload": "snapshot",
            "enabled_events": ["customer.created"],
            "amazon_eventbridge": {"aws_account_id": "123456789012", "aws_region": "eu-west-1"},
        }
    )
    customer = client.v1.customers.create({"name": "Ada"})

    [envelope] = stand_in.eventbridge()

    assert made.amazon_eventbridge
    assert envelope["source"].startswith("aws.partner/stripe.com/ed_test_")
    assert envelope["detail-type"] == "customer.created"
    assert envelope["resources"] == [made.amazon_eventbridge.aws_event_source_arn]
    assert (envelope["account"], envelope["region"]) == ("123456789012", "eu-west-1")
    event = stripe.Webhook.construct_event_without_verification(json.dumps(envelope))
    assert event.data.object["id"] == customer.id
    assert stand_in.eventbridge() == []


def test_pending_webhooks_outlive_a_restart(tmp_path: Path) -> None:
    with receiving() as receiver:
        receiver.status = 500
        with running(data=tmp_path) as stand_in:
            stand_in.stand_at(NOON)
            client = stripe.StripeClient(
                "sk_test_x", base_addresses=stand_in.base_addresses(), http_client=CheckedClient()
            )
            endpoint_of(client, receiver.url, ["customer.created"])
            client.v1.customers.create({"name": "Ada"})
            receiver.wait_for(1)
            [before] = stand_in.deliveries()["pending"]
        receiver.status = 200
        with running(data=tmp_path) as stand_in:
            stand_in.advance(timedelta(minutes=6))
            first, second = receiver.wait_for(2)

    assert before["event"] == json.loads(first.body)["id"]
    assert first.body == second.body
