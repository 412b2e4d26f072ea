"""What reads ask for: the part of a partition that a key condition names, and one page of it."""

from collections.abc import Iterable, Mapping
from typing import Any

from tests.simulation.aws.errors import InvalidError
from tests.simulation.aws.expressions import (
    NO_NAMES,
    Names,
    Program,
    Values,
    program_of,
    top_name,
    values_of,
)
from tests.simulation.aws.grammar import And, Between, Call, Compare, Condition, Given, Path
from tests.simulation.aws.items import Item, Row
from tests.simulation.aws.shelf import Entry, Key, Range, Shelf

PAGE_BYTES_MAX = 1024 * 1024
_LAST = chr(0x10FFFF)


def asked_range(
    condition: Condition | None, shelf: Shelf, names: Names, values: Values
) -> tuple[str, Range]:
    """The partition and the sort keys that a key condition names.

    Raises:
        InvalidError: it is none: another attribute, no partition, a comparison that is not allowed.
    """
    terms = condition.conditions if isinstance(condition, And) else (condition,)
    partition: str | None = None
    within = Range()
    for term in terms:
        name = _name_of(term, names)
        if name == shelf.partition_key and isinstance(term, Compare) and term.comparator == "=":
            partition = _text(term.right, values)
        elif name == shelf.sort_key:
            within = _range_of(term, values)
        else:
            raise InvalidError("Query condition missed key schema element")
    if partition is None or len(terms) > 2:
        raise InvalidError("Query condition missed key schema element")
    return partition, within


def _name_of(term: Condition | None, names: Names) -> str:
    match term:
        case Compare(left=Path() as path) | Between(value=Path() as path):
            return top_name(path, names)
        case Call("begins_with", (Path() as path, _)):
            return top_name(path, names)
    raise InvalidError("Invalid operator used in KeyConditionExpression")


def _range_of(term: Condition | None, values: Values) -> Range:
    match term:
        case Compare("=", _, right):
            return Range(_text(right, values), _text(right, values))
        case Compare("<" | "<=" as comparator, _, right):
            return Range(high=_text(right, values), high_included=comparator == "<=")
        case Compare(">" | ">=" as comparator, _, right):
            return Range(low=_text(right, values), low_included=comparator == ">=")
        case Between(_, low, high):
            bounds = Range(_text(low, values), _text(high, values))
            if (bounds.low or "") > (bounds.high or ""):
                raise InvalidError("The BETWEEN operator requires upper bound >= lower bound")
            return bounds
        case Call("begins_with", (_, prefix)):
            start = _text(prefix, values)
            return Range(start, start + _LAST)
    raise InvalidError("Invalid operator used in KeyConditionExpression")


def _text(operand: Any, values: Values) -> str:
    if not isinstance(operand, Given) or "S" not in values[operand.name]:
        raise InvalidError("One or more parameter values were invalid: Condition parameter type")
    text: str = values[operand.name]["S"]
    if not text:
        raise InvalidError("One or more parameter values are not valid: an empty key")
    return text


def check_filter(program: Program, shelf: Shelf, names: Names) -> None:
    """Refuse a query's filter that names a key of what is queried."""
    keys = {shelf.partition_key, shelf.sort_key}
    if any(names.get(name, name) in keys for name in program.filtered):
        raise InvalidError("Filter Expression can only contain non-primary key attributes")


# --- pages ----------------------------------------------------------------------------------------


def entry_of(start: Item, shelf: Shelf, key: Key) -> tuple[str, Entry]:
    """The partition and the entry that an `ExclusiveStartKey` names."""
    place = shelf.place(start)
    if place is None:
        raise InvalidError("The provided starting key is invalid")
    return place[0], (place[1], key)


def page_of(
    entries: Iterable[Entry], shelf: Shelf, params: Mapping[str, Any], items_max: int | None
) -> tuple[dict[str, Any], Row | None]:
    """One page of entries, and the row at which it ended before their end.

    `items_max` are the items looked at, whether or not they pass the filter.
    """
    program = program_of(params)
    names, values = params.get("ExpressionAttributeNames", NO_NAMES), values_of(params)
    kept: list[Item] = []
    looked = size = 0
    ended_at: Row | None = None
    for _, key in entries:
        row = shelf.rows[key]
        looked += 1
        size += row.size
        if program.filter is None or program.filter(row.item, names, values):
            kept.append(projected(row, program, names))
        if looked == items_max or size > PAGE_BYTES_MAX:
            ended_at = row
            break
    answer: dict[str, Any] = {"Count": len(kept), "ScannedCount": looked}
    if params.get("Select") != "COUNT":
        answer["Items"] = kept
    return answer, ended_at


def projected(row: Row, program: Program, names: Names) -> Item:
    """What a read answers of an item."""
    item = row.copy()
    if not program.projection:
        return item
    wanted = [top_name(path, names) for path in program.projection]
    return {name: item[name] for name in wanted if name in item}
