"""Invoice items as attributes of their stream's item and back."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from metering import times
from metering.invoice_item import InvoiceItem, ItemState

type Attributes = dict[str, Any]

_TEXTS = (
    "id",
    "line",
    "currency",
    "price_id",
    "invoice",
    "description",
    "last_error",
    "stripe_id",
)
_NUMBERS = ("step", "units", "units_before", "amount", "attempts", "key_generation")
_INSTANTS = ("key_since", "last_attempt_at", "not_before", "billed_at")


def invoice_item_attributes(item: InvoiceItem) -> Attributes:
    """An invoice item."""
    instants = {name: getattr(item, name) for name in _INSTANTS}
    return {
        **{name: {"S": getattr(item, name)} for name in _TEXTS},
        **{name: {"N": str(getattr(item, name))} for name in _NUMBERS},
        **{name: {"S": times.to_text(at)} for name, at in instants.items() if at is not None},
        "state": {"S": item.state},
        "planned_at": {"S": times.to_text(item.planned_at)},
    }


def read_invoice_item(attributes: Mapping[str, Any]) -> InvoiceItem:
    """The invoice item that `invoice_item_attributes` wrote."""
    texts: Attributes = {name: attributes[name]["S"] for name in _TEXTS}
    numbers: Attributes = {name: int(attributes[name]["N"]) for name in _NUMBERS}
    instants: Attributes = {name: _instant(attributes, name) for name in _INSTANTS}
    return InvoiceItem(
        **texts,
        **numbers,
        **instants,
        state=ItemState(attributes["state"]["S"]),
        planned_at=times.from_text(attributes["planned_at"]["S"]),
    )


def _instant(attributes: Mapping[str, Any], name: str) -> datetime | None:
    return times.from_text(attributes[name]["S"]) if name in attributes else None
