"""What each endpoint takes: parameters are declared once, read and refused in Stripe's words.

Every kind reads one form value: `read(raw, name)` gives the Python value or raises `RefusedError`
with the parameter's full name (`items[0][price]`). Where a field may be emptied, an empty text
reads as None.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Protocol

from local.stripe import refusals
from local.stripe.wire import Raw

TEXT_MAX = 5000
METADATA_KEYS_MAX = 50
METADATA_NAME_MAX = 40
METADATA_VALUE_MAX = 500
AMOUNT_DECIMALS_MAX = 12
TIMESTAMP_MAX = 253_402_300_799
"""The last second of the year 9999."""

_INTEGER = re.compile(r"-?\d{1,18}", re.ASCII)
_AMOUNT = re.compile(r"-?\d{1,15}(?:\.(\d+))?", re.ASCII)


class Kind(Protocol):
    """A kind of parameter."""

    def read(self, raw: Raw, name: str) -> Any:
        """The value, checked.

        Raises:
            RefusedError: it is not of this kind.
        """
        ...


def _text(raw: Raw, name: str, kind: str) -> str:
    if not isinstance(raw, str):
        raise refusals.invalid(f"Invalid {kind}: {name} must be a single value", name)
    return raw


def _check_may_be_empty(name: str, *, allowed: bool) -> None:
    if not allowed:
        raise refusals.empty_parameter(name)


@dataclass(frozen=True, slots=True)
class Text:
    """A text of at most `longest` characters."""

    longest: int = TEXT_MAX
    unset: bool = False

    def read(self, raw: Raw, name: str) -> str | None:
        """The text itself."""
        text = _text(raw, name, "string")
        if not text:
            _check_may_be_empty(name, allowed=self.unset)
            return None
        if len(text) > self.longest:
            shown = f"{text[:20]}...{text[-5:]}"
            message = f"Invalid string: {shown}; must be at most {self.longest} characters"
            raise refusals.invalid(message, name)
        return text


@dataclass(frozen=True, slots=True)
class Integer:
    """A whole number within bounds; instants are Unix seconds."""

    least: int | None = None
    most: int | None = None
    unset: bool = False

    def read(self, raw: Raw, name: str) -> int | None:
        """The number."""
        text = _text(raw, name, "integer")
        if not text:
            _check_may_be_empty(name, allowed=self.unset)
            return None
        if not _INTEGER.fullmatch(text):
            raise self._refusal(f"Invalid integer: {text}", name)
        return self._bounded(int(text), name)

    def _bounded(self, number: int, name: str) -> int:
        if self.least is not None and number < self.least:
            raise self._refusal(f"This value must be greater than or equal to {self.least}.", name)
        if self.most is not None and number > self.most:
            message = f"This value must be less than or equal to {self.most}"
            raise self._refusal(f"{message} (it currently is '{number}').", name)
        return number

    @staticmethod
    def _refusal(message: str, name: str) -> refusals.RefusedError:
        return refusals.invalid(message, name, code="parameter_invalid_integer")


@dataclass(frozen=True, slots=True)
class Boolean:
    """`true` or `false`."""

    def read(self, raw: Raw, name: str) -> bool:
        """The truth value."""
        text = _text(raw, name, "boolean").lower()
        if text not in ("true", "false"):
            raise refusals.invalid(f"Invalid boolean: {text}", name)
        return text == "true"


class Choice:
    """One of a few words."""

    def __init__(self, *words: str, unset: bool = False) -> None:
        self._words = words
        self._unset = unset

    def read(self, raw: Raw, name: str) -> str | None:
        """The word."""
        text = _text(raw, name, "string")
        if not text:
            _check_may_be_empty(name, allowed=self._unset)
            return None
        if text not in self._words:
            allowed = " or ".join(filter(None, (", ".join(self._words[:-1]), self._words[-1])))
            raise refusals.invalid(f"Invalid {name}: must be one of {allowed}", name)
        return text


@dataclass(frozen=True, slots=True)
class Amount:
    """A decimal amount in the currency's smallest unit, at most 12 decimals, not negative."""

    signed: bool = False
    """It may be negative after all."""

    def read(self, raw: Raw, name: str) -> Decimal:
        """The amount, exactly."""
        text = _text(raw, name, "decimal")
        match = _AMOUNT.fullmatch(text)
        if match is None or (text.startswith("-") and not self.signed):
            bound = "" if self.signed else " >= 0"
            raise refusals.invalid(f"Invalid decimal: {text}; must be a number{bound}", name)
        if len((match[1] or "").rstrip("0")) > AMOUNT_DECIMALS_MAX:
            message = f"Invalid decimal: {text}; must contain at maximum 12 decimal places."
            raise refusals.invalid(message, name)
        return Decimal(text)


@dataclass(frozen=True, slots=True)
class Texts:
    """A map of names to texts, such as a meter event's payload."""

    def read(self, raw: Raw, name: str) -> dict[str, str]:
        """The map."""
        if not isinstance(raw, dict):
            raise refusals.invalid("Invalid hash", name)
        return {key: self._one(value, f"{name}[{key}]") for key, value in raw.items()}

    @staticmethod
    def _one(raw: Raw, name: str) -> str:
        text = _text(raw, name, "string")
        if len(text) > TEXT_MAX:
            raise refusals.invalid(f"Invalid string; must be at most {TEXT_MAX} characters", name)
        return text


@dataclass(frozen=True, slots=True)
class Metadata:
    """Texts to merge into an object's metadata; an empty value removes its key, "" removes all."""

    def read(self, raw: Raw, name: str) -> dict[str, str] | None:
        """What to merge; None to remove all."""
        if raw == "":
            return None
        texts = Texts().read(raw, name)
        for key, value in texts.items():
            self._check(key, value, name)
        return texts

    @staticmethod
    def _check(key: str, value: str, name: str) -> None:
        if len(key) > METADATA_NAME_MAX or "[" in key or "]" in key:
            message = f"Metadata keys can have up to {METADATA_NAME_MAX} characters, no brackets"
            raise refusals.invalid(message, name)
        if len(value) > METADATA_VALUE_MAX:
            message = f"Metadata values can have up to {METADATA_VALUE_MAX} characters"
            raise refusals.invalid(message, f"{name}[{key}]")


def merged_metadata(old: Mapping[str, str], given: Mapping[str, str] | None) -> dict[str, str]:
    """Metadata after an update.

    Raises:
        RefusedError: it would have more than 50 keys.
    """
    if given is None:
        return {}
    merged = {key: value for key, value in (dict(old) | dict(given)).items() if value}
    if len(merged) > METADATA_KEYS_MAX:
        message = f"Metadata can have up to {METADATA_KEYS_MAX} keys"
        raise refusals.invalid(message, "metadata")
    return merged


class Fields:
    """Named parameters: a whole endpoint's, or one nested object's.

    `not_yet` are those that Stripe has and the stand-in does not.
    """

    def __init__(
        self,
        fields: Mapping[str, Kind],
        *,
        required: Sequence[str] = (),
        not_yet: Sequence[str] = (),
        unset: bool = False,
    ) -> None:
        self._fields = dict(fields)
        self._required = tuple(required)
        self._not_yet = frozenset(not_yet)
        self._may_unset = unset

    def plus(self, fields: Mapping[str, Kind]) -> "Fields":
        """The same with more fields."""
        return Fields(
            self._fields | dict(fields),
            required=self._required,
            not_yet=tuple(self._not_yet),
            unset=self._may_unset,
        )

    def read(self, raw: Raw, name: str = "") -> dict[str, Any] | None:
        """Only the given fields, checked; None for "" where the whole may be unset."""
        if raw == "" and self._may_unset:
            return None
        if not isinstance(raw, dict):
            raise refusals.invalid("Invalid object", name or None)
        return self.read_all(raw, name)

    def read_all(self, raw: Mapping[str, Raw], name: str = "") -> dict[str, Any]:
        """Only the given fields, checked.

        Raises:
            RefusedError: a field is unknown, missing or wrong.
        """
        if not raw.keys() <= self._fields.keys():
            raise self._unknown([key for key in raw if key not in self._fields], name)
        for key in self._required:
            if key not in raw:
                raise refusals.missing_parameter(_full(name, key))
        return {key: self._fields[key].read(value, _full(name, key)) for key, value in raw.items()}

    def _unknown(self, keys: list[str], name: str) -> refusals.RefusedError:
        planned = [key for key in keys if key in self._not_yet]
        if planned and len(planned) == len(keys):
            return refusals.not_yet(_full(name, planned[0]))
        return refusals.unknown_parameters([_full(name, key) for key in keys])


def _full(name: str, key: str) -> str:
    return f"{name}[{key}]" if name else key


@dataclass(frozen=True, slots=True)
class Array:
    """A list, encoded with indexes (`items[0]`) or without (`items[]`)."""

    of: Kind
    unset: bool = False

    def read(self, raw: Raw, name: str) -> list[Any] | None:
        """The values in the order of their indexes."""
        if raw == "":
            _check_may_be_empty(name, allowed=self.unset)
            return None
        if not isinstance(raw, dict) or not all(_is_index(key) for key in raw):
            raise refusals.invalid("Invalid array", name)
        ordered = sorted(raw.items(), key=lambda pair: int(pair[0]))
        return [self.of.read(value, f"{name}[{index}]") for index, value in ordered]


def _is_index(key: str) -> bool:
    return key.isascii() and key.isdigit() and len(key) <= 4  # noqa: PLR2004 (indexes to 9999)


@dataclass(frozen=True, slots=True)
class Either:
    """A word such as `inf` or `now`, or else another kind."""

    word: str
    other: Kind

    def read(self, raw: Raw, name: str) -> Any:
        """The word itself, or the other kind's value."""
        return raw if raw == self.word else self.other.read(raw, name)


@dataclass(frozen=True, slots=True)
class Instants:
    """A filter by instant: one, or bounds `gt`, `gte`, `lt`, `lte`."""

    def read(self, raw: Raw, name: str) -> dict[str, int]:
        """The bounds; a single instant is both `gte` and `lte`."""
        if isinstance(raw, str):
            instant = Integer().read(raw, name)
            return {} if instant is None else {"gte": instant, "lte": instant}
        bound = Integer()
        return Fields(dict.fromkeys(("gt", "gte", "lt", "lte"), bound)).read_all(raw, name)


def within(instant: int, bounds: Mapping[str, int]) -> bool:
    """Whether an instant passes a filter."""
    return (
        instant > bounds.get("gt", instant - 1)
        and instant >= bounds.get("gte", instant)
        and instant < bounds.get("lt", instant + 1)
        and instant <= bounds.get("lte", instant)
    )


INSTANT = Integer(least=0, most=TIMESTAMP_MAX)
LIST_FIELDS: Mapping[str, Kind] = {
    "limit": Integer(least=1, most=100),
    "starting_after": Text(),
    "ending_before": Text(),
}
EXPAND: Mapping[str, Kind] = {"expand": Array(Text())}
