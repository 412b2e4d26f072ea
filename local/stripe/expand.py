"""`expand[]`: identities in an answer replaced by the objects they name, tiers shown.

Each route says which paths it takes, so here all of them lead somewhere.
"""

from collections.abc import Sequence
from typing import Any

from local.stripe import prices
from local.stripe.state import CUSTOMER, PRICE, PRODUCT, Account
from local.stripe.wire import Json

_KINDS = {"customer": CUSTOMER, "default_price": PRICE, "product": PRODUCT}


def expanded(account: Account, content: Json, paths: Sequence[str]) -> Json:
    """An answer with each path expanded; what is null stays null."""
    for path in paths:
        content = _expanded(account, content, path.split("."))
    return content


def _expanded(account: Account, content: Json, steps: list[str]) -> Json:
    name, rest = steps[0], steps[1:]
    if name == "tiers":
        return content | {name: account.all(PRICE)[content["id"]]["tiers"]}
    return content | {name: _value(account, name, content.get(name), rest)}


def _value(account: Account, name: str, value: Any, rest: list[str]) -> Any:
    if isinstance(value, list):
        return [_expanded(account, one, rest) for one in value]
    if isinstance(value, str):
        found = account.all(_KINDS[name])[value]
        value = prices.shown(found) if name == "default_price" else found
    return _expanded(account, value, rest) if rest and value is not None else value
