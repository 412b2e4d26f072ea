"""Which handler answers which request."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from local.stripe import (
    adjustments,
    customers,
    meter_events,
    meters,
    prices,
    products,
    refusals,
    subscription_items,
    subscriptions,
    summaries,
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
}
"""By method and path, where `*` stands for the identity of an object."""

_TARGETED = re.compile(r"(/v1/(?:billing/)?[a-z_]+)/([^/]+)(/[a-z_]+)?")


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
