"""Our webhook, made known to the Stripe stand-in as an operator would do it at Stripe."""

from typing import Any

import stripe

from local.runner import STRIPE_KEY
from local.stripe.control import StandIn
from metering.notice import SNAPSHOT_TYPES, THIN_TYPES

PATH = "/v1/stripe/webhook"


def register(stripe_url: str, api_url: str) -> list[str]:
    """Have the stand-in deliver what matters to `api_url`; the secrets that it will sign with.

    Endpoints of an earlier run, on another port perhaps, are taken out first.
    """
    with StandIn(stripe_url) as stand_in:
        stand_in.set(webhooks_in_own_time=True)  # Our functions' clock is moved with Stripe's.
        client = stripe.StripeClient(STRIPE_KEY, base_addresses=stand_in.base_addresses())
    _forget(client)
    return register_with(client, api_url)


def register_with(client: stripe.StripeClient, api_url: str) -> list[str]:
    """The same with a client in hand, of a Stripe that knows no endpoint of ours yet."""
    return [_snapshots(client, api_url + PATH), _thin_events(client, api_url + PATH)]


def _forget(client: stripe.StripeClient) -> None:
    for endpoint in client.v1.webhook_endpoints.list().auto_paging_iter():
        if endpoint.url.endswith(PATH):
            client.v1.webhook_endpoints.delete(endpoint.id)
    destinations = client.v2.core.event_destinations.list({"include": ["webhook_endpoint.url"]})
    for destination in destinations.auto_paging_iter():
        webhook = destination.webhook_endpoint
        if webhook is not None and (webhook.url or "").endswith(PATH):
            client.v2.core.event_destinations.delete(destination.id)


def _snapshots(client: stripe.StripeClient, url: str) -> str:
    types: Any = list(SNAPSHOT_TYPES)
    endpoint = client.v1.webhook_endpoints.create({"url": url, "enabled_events": types})
    assert endpoint.secret, "Stripe shows an endpoint's secret when it is created"
    return endpoint.secret


def _thin_events(client: stripe.StripeClient, url: str) -> str:
    destination = client.v2.core.event_destinations.create(
        {
            "name": "Meter errors",
            "type": "webhook_endpoint",
            "event_payload": "thin",
            "enabled_events": list(THIN_TYPES),
            "webhook_endpoint": {"url": url},
            "include": ["webhook_endpoint.signing_secret"],
        }
    )
    webhook = destination.webhook_endpoint
    assert webhook is not None
    assert webhook.signing_secret, "Stripe shows a destination's secret when it is asked for it"
    return webhook.signing_secret
