"""Products: what prices are for."""

from collections.abc import Mapping

from local.stripe import events, params, refusals
from local.stripe.call import Call
from local.stripe.lists import page
from local.stripe.params import (
    Array,
    Boolean,
    Choice,
    Fields,
    Instants,
    Kind,
    Metadata,
    Text,
    merged_metadata,
    within,
)
from local.stripe.state import PRICE, PRODUCT
from local.stripe.wire import Json

_TEXT = Text(unset=True)
_FEATURES = Array(Fields({"name": Text(80)}, required=("name",)), unset=True)
_NOT_YET = ("default_price_data", "package_dimensions", "tax_details")

_SHARED: Mapping[str, Kind] = {
    "active": Boolean(),
    "description": _TEXT,
    "images": Array(Text(), unset=True),
    "marketing_features": _FEATURES,
    "metadata": Metadata(),
    "name": Text(),
    "shippable": Boolean(),
    "statement_descriptor": Text(22, unset=True),
    "tax_code": _TEXT,
    "unit_label": Text(12, unset=True),
    "url": _TEXT,
}
CREATE = Fields(
    {**_SHARED, "id": Text(), "type": Choice("good", "service")},
    required=("name",),
    not_yet=_NOT_YET,
)
UPDATE = Fields({**_SHARED, "default_price": _TEXT}, not_yet=_NOT_YET)
LIST = Fields(
    {
        **params.LIST_FIELDS,
        "active": Boolean(),
        "created": Instants(),
        "ids": Array(Text()),
        "shippable": Boolean(),
        "type": Choice("good", "service"),
        "url": Text(),
    }
)
INLINE = Fields(
    {
        "active": Boolean(),
        "id": Text(),
        "metadata": Metadata(),
        "name": Text(),
        "statement_descriptor": Text(22),
        "tax_code": Text(),
        "unit_label": Text(12),
    },
    required=("name",),
    not_yet=("tax_details",),
)
"""A product that comes with its first price."""


def create(call: Call) -> Json:
    """A new product."""
    return made(call, call.params)


def made(call: Call, given: Json) -> Json:
    """A new product of the given fields.

    Raises:
        RefusedError: the chosen id is taken.
    """
    identity = given.get("id") or call.new_id("prod_")
    if identity in call.account.all(PRODUCT):
        raise refusals.RefusedError(
            "Product already exists.", code="resource_already_exists", param="id"
        )
    blank = {
        "id": identity,
        "object": PRODUCT,
        "active": True,
        "created": call.now,
        "default_price": None,
        "description": None,
        "images": [],
        "livemode": False,
        "marketing_features": [],
        "metadata": {},
        "name": given["name"],
        "package_dimensions": None,
        "shippable": None,
        "statement_descriptor": None,
        "tax_code": None,
        "type": "service",
        "unit_label": None,
        "updated": call.now,
        "url": None,
    }
    return _told(call, "created", call.put(_applied(blank, given)))


def _told(call: Call, what: str, product: Json) -> Json:
    events.emit(call.world, call.account, f"product.{what}", product, call.now)
    return product


def _applied(product: Json, given: Json) -> Json:
    fields = dict(given)
    if "metadata" in fields:
        fields["metadata"] = merged_metadata(product["metadata"], fields["metadata"])
    for listed in ("images", "marketing_features"):
        if listed in fields:
            fields[listed] = fields[listed] or []
    return product | fields


def retrieve(call: Call) -> Json:
    """One product."""
    return call.account.all(PRODUCT).get(call.target) or call.targeted(PRODUCT)


def update(call: Call) -> Json:
    """The product with the given fields changed."""
    product = call.targeted(PRODUCT)
    price = call.params.get("default_price")
    if price and call.referred(PRICE, price, "default_price")["product"] != product["id"]:
        message = f"The price {price} is not for the product {product['id']}."
        raise refusals.RefusedError(message, param="default_price")
    return _told(call, "updated", call.put(_applied(product, call.params | {"updated": call.now})))


def list_all(call: Call) -> Json:
    """The account's products, newest first."""
    given = call.params
    ids, created = given.get("ids"), given.get("created", {})
    wanted = {name: given[name] for name in ("active", "shippable", "type", "url") if name in given}
    found = (
        product
        for product in call.account.newest_first(PRODUCT)
        if wanted.items() <= {name: product[name] for name in wanted}.items()
        and within(product["created"], created)
        and (ids is None or product["id"] in ids)
    )
    return page(found, given, call.path)


def delete(call: Call) -> Json:
    """The product is gone.

    Raises:
        RefusedError: it has prices.
    """
    product = call.targeted(PRODUCT)
    if any(price["product"] == product["id"] for price in call.account.newest_first(PRICE)):
        message = "This product cannot be deleted because it has one or more user-created prices."
        raise refusals.RefusedError(message)
    _told(call, "deleted", product)
    return call.put({"id": product["id"], "object": PRODUCT, "deleted": True})
