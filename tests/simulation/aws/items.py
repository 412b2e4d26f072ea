"""Items and their values, in the low-level form (`{"S": "text"}`) and in DynamoDB's normal form.

Values are never changed in place, so an item may share its flat values with its copies; maps and
lists are copied whole.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Context, Decimal, Inexact
from functools import lru_cache
from typing import Any

from tests.simulation.aws.errors import InvalidError

type Value = dict[str, Any]
type Item = dict[str, Value]

DIGITS_MAX = 38
EXPONENT_MAX = 125
EXPONENT_MIN = -130
ITEM_BYTES_MAX = 400 * 1024
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_EXACT = Context(prec=DIGITS_MAX, traps=[Inexact])


@dataclass(slots=True)
class Row:
    """One stored item; `nested` names its maps and lists, `size` is at least its size in bytes."""

    item: Item
    nested: tuple[str, ...]
    size: int

    def copy(self) -> Item:
        """An item that the caller may do with as it likes."""
        copied = self.item.copy()
        for name in self.nested:
            copied[name] = deep_copy(copied[name])
        return copied

    def changed(self, changes: Mapping[str, Value | None]) -> "Row":
        """The item with some attributes (in normal form) set or, where None, taken away."""
        item, nested, size = self.item.copy(), self.nested, self.size
        for name, value in changes.items():
            if name in nested:
                nested = tuple(one for one in nested if one != name)
            if value is None:
                item.pop(name, None)
                continue
            item[name] = value
            # Written in ASCII no value is shorter than it is; to measure it takes ten times longer.
            size += len(name) + len(ascii(value))
            if _is_nested(value):
                nested = (*nested, name)
        return Row(item, nested, size) if size <= ITEM_BYTES_MAX else row_of(item)


def row_of(item: Mapping[str, Value]) -> Row:
    """An item as it is stored.

    Raises:
        InvalidError: a value is none of DynamoDB's, or the item is too large.
    """
    kept: Item = {}
    nested: tuple[str, ...] = ()
    size = 0
    for name, value in item.items():
        # Nearly every value is a text, or a plain number; `measured` would say the same.
        text = value.get("S")
        if text is None or text.__class__ is not str or len(value) != 1 or not text.isascii():
            kept[name], length = measured(value)
            size += len(name) + length
            if _is_nested(value):
                nested = (*nested, name)
        else:
            kept[name] = value
            size += len(name) + len(text)
    if size > ITEM_BYTES_MAX:
        raise InvalidError("Item size has exceeded the maximum allowed size")
    return Row(kept, nested, size)


def _is_nested(value: Value) -> bool:
    return "M" in value or "L" in value


def measured(value: Value) -> tuple[Value, int]:
    """A value in normal form, and its size in bytes (of numbers about)."""
    if len(value) != 1:
        raise InvalidError("Supplied AttributeValue must contain exactly one of the datatypes")
    ((kind, content),) = value.items()
    if kind == "N":
        text = number(content)
        return value if text is content else {"N": text}, len(text) // 2 + 2
    if kind == "S" and isinstance(content, str):
        # As JSON carries it: the text of an enumeration's member, no longer the member.
        text = str.__str__(content)
        return {"S": text}, text_size(text)
    if kind == "B" and isinstance(content, bytes):
        return value, len(content)
    if kind in {"BOOL", "NULL"} and isinstance(content, bool):
        return value, 1
    if kind in {"S", "B", "BOOL", "NULL"}:
        raise TypeError(f"{kind} holds {content!r}")
    return _measured_parts(kind, content)


def _measured_parts(kind: str, content: Any) -> tuple[Value, int]:
    if kind == "M":
        parts = {name: measured(part) for name, part in content.items()}
        size = sum(len(name) + length + 1 for name, (_, length) in parts.items())
        return {"M": {name: part for name, (part, _) in parts.items()}}, size
    if kind == "L":
        members = [measured(part) for part in content]
        return {"L": [part for part, _ in members]}, sum(length + 1 for _, length in members)
    raise NotImplementedError(f"attribute values of type {kind}")


def normal(value: Value) -> Value:
    """A value in normal form."""
    return measured(value)[0]


def text_size(text: str) -> int:
    """In UTF-8."""
    return len(text) if text.isascii() else len(text.encode())


def deep_copy(value: Value) -> Value:
    """A value whose maps and lists are its own."""
    if "M" in value:
        return {"M": {name: deep_copy(part) for name, part in value["M"].items()}}
    if "L" in value:
        return {"L": [deep_copy(part) for part in value["L"]]}
    return value


@lru_cache(maxsize=65536)
def number(text: Any) -> str:
    """A number as DynamoDB answers it: plain digits, no zeros that say nothing.

    Raises:
        InvalidError: no number, or beyond 38 digits or DynamoDB's range.
        TypeError: not even a text: a float on its way into a table is a fault of ours.
    """
    if not isinstance(text, str):
        raise TypeError(f"N holds {text!r}, which is no text")
    if text.isdigit() and text.isascii() and len(text) < DIGITS_MAX and not text.startswith("0"):
        return text
    if not _NUMBER.fullmatch(text):
        raise InvalidError(f"The parameter cannot be converted to a numeric value: {text}")
    return number_text(Decimal(text))


def number_text(value: Decimal) -> str:
    """See `number`."""
    if not value:
        return "0"
    try:
        exact = value.normalize(_EXACT)
    except Inexact:
        raise InvalidError(
            "Attempting to store more than 38 significant digits in a Number"
        ) from None
    if exact.adjusted() > EXPONENT_MAX:
        raise InvalidError("Number overflow. Attempting to store a number with magnitude too large")
    if exact.adjusted() < EXPONENT_MIN:
        raise InvalidError("Number underflow. Attempting to store a number that is too small")
    return format(exact, "f")


def added(left: Value, right: Value, sign: int = 1) -> Value:
    """The sum, or with `sign=-1` the difference, of two numbers."""
    if "N" not in left or "N" not in right:
        raise InvalidError("An operand in the update expression has an incorrect data type")
    total = Context(prec=400).add(Decimal(left["N"]), sign * Decimal(right["N"]))
    return {"N": number_text(total)}
