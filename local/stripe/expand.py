"""`expand[]`: identities in an answer replaced by the objects they name, tiers shown.

Each route says which paths it takes, so here all of them lead somewhere.
"""

from collections.abc import Sequence
from typing import Any

from local.stripe import invoice_life, prices, subscription_items, test_clocks
from local.stripe.call import Call
from local.stripe.state import CUSTOMER, INVOICE, PRICE, PRODUCT, SUBSCRIPTION, TEST_CLOCK
from local.stripe.wire import Json

_KINDS = {
    "customer": CUSTOMER,
    "default_price": PRICE,
    "invoice": INVOICE,
    "latest_invoice": INVOICE,
    "price": PRICE,
    "product": PRODUCT,
    "subscription": SUBSCRIPTION,
    "test_clock": TEST_CLOCK,
}


def expanded(call: Call, content: Json, paths: Sequence[str]) -> Json:
    """An answer with each path expanded; what is null stays null."""
    for path in paths:
        content = _expanded(call, content, path.split("."))
    return content


def _expanded(call: Call, content: Json, steps: list[str]) -> Json:
    name, rest = steps[0], steps[1:]
    if name == "tiers":
        return content | {name: call.account.all(PRICE)[content["id"]]["tiers"]}
    return content | {name: _value(call, name, content.get(name), rest)}


def _value(call: Call, name: str, value: Any, rest: list[str]) -> Any:
    if isinstance(value, list):
        return [_expanded(call, one, rest) for one in value]
    if isinstance(value, str):
        value = _shown(call, _KINDS[name], value)
    return _expanded(call, value, rest) if rest and value is not None else value


def _shown(call: Call, kind: str, identity: str) -> Json:
    found = call.account.all(kind)[identity]
    match kind:
        case _ if found.get("deleted"):
            return found
        case "price":
            return prices.shown(found)
        case "invoice":
            return invoice_life.shown(call, found)
        case "subscription":
            return subscription_items.shown_subscription(call.account, found)
        case "test_helpers.test_clock":
            return test_clocks.shown(found)
        case _:
            return found
