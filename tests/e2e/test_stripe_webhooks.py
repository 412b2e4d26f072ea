"""Stripe's webhooks reach the running stack, signed, and are kept."""

from typing import Any

import pytest
import stripe

from local.runner import STRIPE_KEY
from local.stripe.control import StandIn
from metering.adapters.clock import SystemClock
from metering.notice import THIN_TYPES
from metering.stripe_event import read_event
from tests.e2e.shop import Shop
from tests.local.helpers import wait_for

pytestmark = [pytest.mark.stack, pytest.mark.xdist_group("stack")]


def delivered(stand_in: StandIn, event_type: str) -> list[dict[str, Any]]:
    attempts = stand_in.deliveries()["attempts"]
    return [one for one in attempts if one["type"] == event_type and one["status"]]


def test_a_change_at_stripe_is_kept_as_a_notice(shop: Shop, stand_in: StandIn) -> None:
    client = stripe.StripeClient(STRIPE_KEY, base_addresses=stand_in.base_addresses())
    shop.maps("api_calls")
    client.v1.billing.meters.deactivate(shop.meter_id("api_calls"))
    wait_for(lambda: delivered(stand_in, "billing.meter.deactivated"))

    (attempt,) = delivered(stand_in, "billing.meter.deactivated")
    assert attempt["status"] == 200
    event = client.v1.events.retrieve(attempt["event"])
    notice = read_event(event.to_dict(), SystemClock().now())
    assert notice is not None
    assert notice.object_id == shop.meter_id("api_calls")
    assert not shop.wiring().notices.keep(notice), "it has been kept, whoever acted on it since"


def test_thin_events_come_signed_by_a_secret_of_their_own(stand_in: StandIn) -> None:
    client = stripe.StripeClient(STRIPE_KEY, base_addresses=stand_in.base_addresses())
    (destination,) = client.v2.core.event_destinations.list().data
    assert destination.enabled_events == list(THIN_TYPES)

    client.v2.core.event_destinations.ping(destination.id)
    wait_for(lambda: delivered(stand_in, "v2.core.event_destination.ping"))

    assert {one["status"] for one in delivered(stand_in, "v2.core.event_destination.ping")} == {200}
