"""Which handler answers which request."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from local.stripe import (
    adjustments,
    alerts,
    customers,
    event_destinations,
    events,
    invoice_items,
    invoices,
    legacy,
    meter_events,
    meters,
    previews,
    prices,
    products,
    refusals,
    subscription_items,
    subscriptions,
    summaries,
    test_clocks,
    thin_events,
    v2_meter_events,
    webhooks,
)
from local.stripe.call import Call
from local.stripe.params import EXPAND, Fields
from local.stripe.wire import Json, Raw

type Handler = Callable[[Call], Json]

NOTHING = Fields({})


@dataclass(frozen=True, slots=True)
class Route:
    """One endpoint: its parameters and who answers."""

    fields: Fields
    handler: Handler
    expands: tuple[str, ...] = ()

    def read(self, raw: Mapping[str, Raw]) -> dict[str, Any]:
        """The parameters, checked.

        Raises:
            RefusedError: one is unknown, missing or wrong.
        """
        params = self.fields.read_all(raw)
        for path in params.get("expand") or ():
            if path.removeprefix("data.") not in self.expands:
                raise refusals.invalid(f"This property cannot be expanded ({path}).", "expand")
        return params


def _route(fields: Fields, handler: Handler, expands: tuple[str, ...] = ()) -> Route:
    return Route(fields.plus(EXPAND), handler, expands)


def _resource(
    path: str, expands: tuple[str, ...] = (), **handlers: tuple[Fields, Handler]
) -> dict[tuple[str, str], Route]:
    """Stripe's usual five endpoints of an object."""
    places = {
        "create": ("POST", path),
        "list_all": ("GET", path),
        "retrieve": ("GET", f"{path}/*"),
        "update": ("POST", f"{path}/*"),
        "delete": ("DELETE", f"{path}/*"),
    }
    return {places[name]: _route(*pair, expands) for name, pair in handlers.items()}


_METERS = "/v1/billing/meters"
_INVOICES = "/v1/invoices"
_INVOICE_EXPANDS = (
    "customer",
    "lines.data.pricing.price_details.price",
    "parent.subscription_details.subscription",
)
_CLOCKS = "/v1/test_helpers/test_clocks"
_ALERTS = "/v1/billing/alerts"
_DESTINATIONS = "/v2/core/event_destinations"
_OF_ITEM = "/v1/subscription_items/*"

ROUTES: Mapping[tuple[str, str], Route] = {
    **_resource(
        _METERS,
        create=(meters.CREATE, meters.create),
        list_all=(meters.LIST, meters.list_all),
        retrieve=(NOTHING, meters.retrieve),
        update=(meters.UPDATE, meters.update),
    ),
    ("POST", f"{_METERS}/*/deactivate"): _route(NOTHING, meters.deactivate),
    ("POST", f"{_METERS}/*/reactivate"): _route(NOTHING, meters.reactivate),
    ("GET", f"{_METERS}/*/event_summaries"): _route(summaries.LIST, summaries.list_of_meter),
    ("POST", "/v1/billing/meter_events"): _route(meter_events.CREATE, meter_events.create),
    ("POST", "/v1/billing/meter_event_adjustments"): _route(adjustments.CREATE, adjustments.create),
    **_resource(
        "/v1/customers",
        create=(customers.CREATE, customers.create),
        list_all=(customers.LIST, customers.list_all),
        retrieve=(NOTHING, customers.retrieve),
        update=(customers.UPDATE, customers.update),
        delete=(NOTHING, customers.delete),
    ),
    **_resource(
        "/v1/products",
        ("default_price",),
        create=(products.CREATE, products.create),
        list_all=(products.LIST, products.list_all),
        retrieve=(NOTHING, products.retrieve),
        update=(products.UPDATE, products.update),
        delete=(NOTHING, products.delete),
    ),
    **_resource(
        "/v1/prices",
        ("product", "tiers"),
        create=(prices.CREATE, prices.create),
        list_all=(prices.LIST, prices.list_all),
        retrieve=(NOTHING, prices.retrieve),
        update=(prices.UPDATE, prices.update),
    ),
    **_resource(
        "/v1/subscriptions",
        (
            "customer",
            "items.data.price.product",
            "items.data.price.tiers",
            "items",
            "latest_invoice",
        ),
        create=(subscriptions.CREATE, subscriptions.create),
        list_all=(subscriptions.LIST, subscriptions.list_all),
        retrieve=(NOTHING, subscriptions.retrieve),
        update=(subscriptions.UPDATE, subscriptions.update),
        delete=(subscriptions.CANCEL, subscriptions.cancel),
    ),
    **_resource(
        "/v1/subscription_items",
        ("price.product", "price.tiers"),
        create=(subscription_items.CREATE, subscription_items.create),
        list_all=(subscription_items.LIST, subscription_items.list_of_subscription),
        retrieve=(NOTHING, subscription_items.retrieve),
        update=(subscription_items.UPDATE, subscription_items.update),
        delete=(subscription_items.DELETE, subscription_items.delete),
    ),
    ("POST", f"{_OF_ITEM}/usage_records"): _route(legacy.CREATE, legacy.create),
    ("GET", f"{_OF_ITEM}/usage_record_summaries"): _route(legacy.LIST, legacy.list_of_item),
    **_resource(
        _ALERTS,
        create=(alerts.CREATE, alerts.create),
        list_all=(alerts.LIST, alerts.list_all),
        retrieve=(NOTHING, alerts.retrieve),
    ),
    ("POST", f"{_ALERTS}/*/activate"): _route(NOTHING, alerts.activate),
    ("POST", f"{_ALERTS}/*/deactivate"): _route(NOTHING, alerts.deactivate),
    ("POST", f"{_ALERTS}/*/archive"): _route(NOTHING, alerts.archive),
    **_resource(
        "/v1/events",
        list_all=(events.LIST, events.list_all),
        retrieve=(NOTHING, events.retrieve),
    ),
    **_resource(
        "/v1/webhook_endpoints",
        create=(webhooks.CREATE, webhooks.create),
        list_all=(webhooks.LIST, webhooks.list_all),
        retrieve=(NOTHING, webhooks.retrieve),
        update=(webhooks.UPDATE, webhooks.update),
        delete=(NOTHING, webhooks.delete),
    ),
    ("POST", "/v2/billing/meter_events"): Route(v2_meter_events.CREATE, v2_meter_events.create),
    ("POST", "/v2/billing/meter_event_adjustments"): Route(
        v2_meter_events.CANCEL, v2_meter_events.cancel
    ),
    ("GET", "/v2/core/events"): Route(thin_events.LIST, thin_events.list_all),
    ("GET", "/v2/core/events/*"): Route(NOTHING, thin_events.retrieve),
    ("POST", _DESTINATIONS): Route(event_destinations.CREATE, event_destinations.create),
    ("GET", _DESTINATIONS): Route(event_destinations.LIST, event_destinations.list_all),
    ("GET", f"{_DESTINATIONS}/*"): Route(event_destinations.INCLUDE, event_destinations.retrieve),
    ("POST", f"{_DESTINATIONS}/*"): Route(event_destinations.UPDATE, event_destinations.update),
    ("DELETE", f"{_DESTINATIONS}/*"): Route(NOTHING, event_destinations.delete),
    ("POST", f"{_DESTINATIONS}/*/enable"): Route(NOTHING, event_destinations.enable),
    ("POST", f"{_DESTINATIONS}/*/disable"): Route(NOTHING, event_destinations.disable),
    ("POST", f"{_DESTINATIONS}/*/ping"): Route(NOTHING, event_destinations.ping),
    **_resource(
        _INVOICES,
        _INVOICE_EXPANDS,
        create=(invoices.CREATE, invoices.create),
        list_all=(invoices.LIST, invoices.list_all),
        retrieve=(NOTHING, invoices.retrieve),
        update=(invoices.UPDATE, invoices.update),
    ),
    ("POST", f"{_INVOICES}/create_preview"): _route(
        previews.CREATE, previews.create, _INVOICE_EXPANDS
    ),
    ("GET", f"{_INVOICES}/*/lines"): _route(
        invoices.LINES, invoices.lines, ("pricing.price_details.price",)
    ),
    ("POST", f"{_INVOICES}/*/finalize"): _route(
        invoices.FINALIZE, invoices.finalize, _INVOICE_EXPANDS
    ),
    ("POST", f"{_INVOICES}/*/pay"): _route(invoices.PAY, invoices.pay, _INVOICE_EXPANDS),
    ("POST", f"{_INVOICES}/*/void"): _route(NOTHING, invoices.void, _INVOICE_EXPANDS),
    **_resource(
        "/v1/invoiceitems",
        ("customer", "invoice"),
        create=(invoice_items.CREATE, invoice_items.create),
        list_all=(invoice_items.LIST, invoice_items.list_all),
        retrieve=(NOTHING, invoice_items.retrieve),
        delete=(NOTHING, invoice_items.delete),
    ),
    **_resource(
        _CLOCKS,
        create=(test_clocks.CREATE, test_clocks.create),
        list_all=(test_clocks.LIST, test_clocks.list_all),
        retrieve=(NOTHING, test_clocks.retrieve),
        delete=(NOTHING, test_clocks.delete),
    ),
    ("POST", f"{_CLOCKS}/*/advance"): _route(test_clocks.ADVANCE, test_clocks.advance),
}
"""By method and path, where `*` stands for the identity of an object."""

_TARGETED = re.compile(r"(/v[12]/(?:(?:billing|core|test_helpers)/)?[a-z_]+)/([^/]+)(/[a-z_]+)?")


def find(method: str, path: str) -> tuple[Route, str]:
    """The endpoint of a request, and the identity in its path.

    Raises:
        RefusedError: there is no such endpoint; 404.
    """
    route = ROUTES.get((method, path))
    if route is not None:
        return route, ""
    match = _TARGETED.fullmatch(path)
    if match is not None:
        route = ROUTES.get((method, f"{match[1]}/*{match[3] or ''}"))
    if match is None or route is None:
        raise refusals.unrecognized_url(method, path)
    return route, match[2]
