"""The demo tenant's set-up: Stripe meters and prices in the stand-in, mappings through our own API.

Running it again changes nothing.
"""

import json
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_HALF_UP, Decimal
from typing import Any

import stripe

from local import dynamodb_local
from local.dynamodb_local import LocalServiceError
from local.runner import STRIPE_KEY
from local.stack import DEMO_CUSTOMER, DEMO_TENANT
from local.stripe.control import StandIn
from metering.auth import DEFAULT_SCOPES
from metering.config import Config
from metering.names import TenantId
from metering.wiring import Wiring

_loopback = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True, slots=True)
class DemoMetric:
    """A metric of the demo and what it costs."""

    name: str
    title: str
    unit_amount_decimal: Decimal
    """Cents for one package."""
    package: int = 1
    """Units that are priced together."""

    def cents(self, quantity: Decimal) -> Decimal:
        """What an invoice's line must come to: begun packages count, halves of a cent round up."""
        packages = (quantity / self.package).to_integral_value(ROUND_CEILING)
        return (packages * self.unit_amount_decimal).quantize(Decimal(1), ROUND_HALF_UP)


METRICS = (
    DemoMetric("api_calls", "API calls", Decimal("0.1")),
    DemoMetric("egress_bytes", "Egress", Decimal("0.009"), package=1_000_000),
)


def demo_key(dynamodb_endpoint: str) -> str:
    """A new API key of the demo tenant, for a stack that asks for keys; this once to be seen."""
    config = Config(dynamodb_endpoint=dynamodb_endpoint)
    wired = Wiring(config, dynamodb=dynamodb_local.client(dynamodb_endpoint))
    tenant, scopes = TenantId(DEMO_TENANT), DEFAULT_SCOPES
    return wired.key_issuer.create_key(tenant, scopes, name="make dev", created_by="dev").text


def seed(
    api_url: str, stripe_url: str, *, tenant: str = DEMO_TENANT, key: str = ""
) -> dict[str, str]:
    """Make what the demo tenant needs; the price of each metric.

    `key` is one of the tenant's API keys, where the stack asks for keys.

    Raises:
        LocalServiceError: the stand-in or our API refused something.
    """
    with StandIn(stripe_url) as stand_in:
        stand_in.add_customers([DEMO_CUSTOMER])
        client = stripe.StripeClient(STRIPE_KEY, base_addresses=stand_in.base_addresses())
    try:
        prices = {metric.name: _price(client, metric, _meter(client, metric)) for metric in METRICS}
    except stripe.StripeError as refused:
        raise LocalServiceError(f"the Stripe stand-in refused: {refused}") from refused
    for name, price in prices.items():
        _map(api_url, tenant, name, price, key)
    return prices


def _meter(client: stripe.StripeClient, metric: DemoMetric) -> str:
    for meter in client.v1.billing.meters.list({"status": "active"}).auto_paging_iter():
        if meter.event_name == metric.name:
            return meter.id
    made = client.v1.billing.meters.create(
        {
            "display_name": metric.title,
            "event_name": metric.name,
            "default_aggregation": {"formula": "sum"},
        }
    )
    return made.id


def _price(client: stripe.StripeClient, metric: DemoMetric, meter: str) -> str:
    for price in client.v1.prices.list({"active": True}).auto_paging_iter():
        if price.recurring and price.recurring.meter == meter:
            return price.id
    product = client.v1.products.create({"name": metric.title})
    made = client.v1.prices.create(
        {
            "product": product.id,
            "currency": "usd",
            "billing_scheme": "per_unit",
            "unit_amount_decimal": metric.unit_amount_decimal,
            "transform_quantity": {"divide_by": metric.package, "round": "up"},
            "recurring": {"interval": "month", "usage_type": "metered", "meter": meter},
        }
    )
    return made.id


def _map(api_url: str, tenant: str, metric: str, price: str, key: str) -> None:
    """Map a metric onto its price unless it is mapped."""
    query = urllib.parse.urlencode({"tenantId": tenant, "metric": metric, "active": "true"})
    if _call("GET", f"{api_url}/v1/mappings?{query}", key):
        return
    mapping = {
        "tenantId": tenant,
        "metric": metric,
        "aggregation": "sum",
        "stripeAccount": "",
        "priceId": price,
    }
    _call("POST", f"{api_url}/v1/mappings", key, mapping)


def _call(method: str, url: str, key: str, body: dict[str, Any] | None = None) -> Any:
    content = None if body is None else json.dumps(body).encode()
    headers = {"content-type": "application/json"}
    if key:
        headers["authorization"] = f"Bearer {key}"
    request = urllib.request.Request(url, content, headers, method=method)  # noqa: S310 (our own loopback URL)
    try:
        with _loopback.open(request, timeout=30) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as refused:
        with refused:
            said = refused.read().decode(errors="replace")
        raise LocalServiceError(f"{method} {url} answered {refused.code}: {said}") from None
