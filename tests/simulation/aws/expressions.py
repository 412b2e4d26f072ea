"""Expressions made into functions, once per text: `text -> (item, names, values) -> answer`.

`names` and `values` are what the request says for `#placeholders` and `:placeholders`.
"""

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import Any

from tests.simulation.aws import grammar
from tests.simulation.aws.errors import InvalidError
from tests.simulation.aws.grammar import (
    Action,
    And,
    Between,
    Call,
    Compare,
    Condition,
    Given,
    In,
    Not,
    Operand,
    Or,
    Parser,
    Path,
    Sum,
)
from tests.simulation.aws.items import Item, Value, added, normal, text_size

type Names = Mapping[str, str]
type Values = Mapping[str, Value]
type Test = Callable[[Item, Names, Values], bool]
type Read = Callable[[Item, Names, Values], Value | None]

NO_NAMES: Names = {}
NO_VALUES: Values = {}
_ORDERS: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_ORDERED = frozenset({"S", "N", "B"})


@dataclass(frozen=True, slots=True)
class Program:
    """All expressions of one request, and the placeholders they use between them."""

    condition: Test | None
    filter: Test | None
    key: Condition | None
    actions: tuple[Action, ...]
    projection: tuple[Path, ...]
    filtered: frozenset[str]
    """The attributes that the filter names."""
    names: frozenset[str]
    values: frozenset[str]


def program_of(params: Mapping[str, Any]) -> Program:
    """What a request's expressions say.

    Raises:
        InvalidError: no syntax of DynamoDB's, or a placeholder is missing or not used.
    """
    get = params.get
    program = _program(
        get("ConditionExpression"),
        get("FilterExpression"),
        get("KeyConditionExpression"),
        get("UpdateExpression"),
        get("ProjectionExpression"),
    )
    names, values = get("ExpressionAttributeNames"), get("ExpressionAttributeValues")
    if (names or program.names) and (names or {}).keys() != program.names:
        _refuse_placeholders("names", (names or {}).keys() - program.names)
    if (values or program.values) and (values or {}).keys() != program.values:
        _refuse_placeholders("values", (values or {}).keys() - program.values)
    return program


def values_of(params: Mapping[str, Any]) -> Values:
    """The values of a request's placeholders, in normal form."""
    given = params.get("ExpressionAttributeValues")
    return {name: normal(value) for name, value in given.items()} if given else {}


def _refuse_placeholders(what: str, unused: set[str]) -> None:
    if unused:
        raise InvalidError(f"Expression attribute {what} unused in expressions: {sorted(unused)}")
    raise InvalidError(f"Expression attribute {what} used in an expression are not defined")


@lru_cache(maxsize=4096)
def _program(
    condition: str | None,
    wanted: str | None,
    key: str | None,
    update: str | None,
    projection: str | None,
) -> Program:
    parsers: list[Parser] = []

    def parser(text: str, kind: str) -> Parser:
        parsers.append(Parser(text, kind))
        return parsers[-1]

    def tree(text: str | None, kind: str) -> Condition | None:
        if text is None:
            return None
        reading = parser(text, kind)
        return reading.whole(reading.condition)

    condition_tree = tree(condition, "ConditionExpression")
    filter_tree = tree(wanted, "FilterExpression")
    filtered = frozenset(parsers[-1].attributes) if filter_tree else frozenset()
    key_tree = tree(key, "KeyConditionExpression")
    actions = parser(update, "UpdateExpression").actions() if update is not None else []
    paths: list[Path] = []
    if projection is not None:
        reading = parser(projection, "ProjectionExpression")
        paths = reading.whole(reading.paths)
    return Program(
        condition=holds(condition_tree) if condition_tree else None,
        filter=holds(filter_tree) if filter_tree else None,
        key=key_tree,
        actions=tuple(actions),
        projection=tuple(paths),
        filtered=filtered,
        names=frozenset(name for one in parsers for name in one.names),
        values=frozenset(name for one in parsers for name in one.values),
    )


# --- conditions -----------------------------------------------------------------------------------


def holds(condition: Condition) -> Test:  # noqa: PLR0911 (a line for each form of a condition)
    """Whether the condition holds, as a function."""
    match condition:
        case And(conditions):
            tests = tuple(map(holds, conditions))
            return lambda item, names, values: all(one(item, names, values) for one in tests)
        case Or(conditions):
            tests = tuple(map(holds, conditions))
            return lambda item, names, values: any(one(item, names, values) for one in tests)
        case Not(inner):
            test = holds(inner)
            return lambda item, names, values: not test(item, names, values)
        case Compare(comparator, left, right):
            return _comparison(comparator, read_of(left), read_of(right))
        case Between(value, low, high):
            return _between(read_of(value), read_of(low), read_of(high))
        case In(value, choices):
            return _membership(read_of(value), tuple(map(read_of, choices)))
        case Call(function, arguments):
            return _CALLS[function](*map(read_of, arguments))


def _comparison(comparator: str, left: Read, right: Read) -> Test:
    if comparator == "=":
        return lambda item, names, values: _same(
            left(item, names, values), right(item, names, values)
        )
    if comparator == "<>":
        return lambda item, names, values: (
            not _same(left(item, names, values), right(item, names, values))
        )
    order = _ORDERS[comparator]
    return lambda item, names, values: _ordered(
        order, left(item, names, values), right(item, names, values)
    )


def _same(left: Value | None, right: Value | None) -> bool:
    return left is not None and left == right


def _ordered(order: Callable[[Any, Any], bool], left: Value | None, right: Value | None) -> bool:
    if right is not None and not right.keys() & _ORDERED:
        raise InvalidError(f"Incorrect operand type for operator: {right}")
    if left is None or right is None or left.keys() != right.keys():
        return False
    ((kind, one),), (other,) = left.items(), right.values()
    return order(Decimal(one), Decimal(other)) if kind == "N" else order(one, other)


def _between(value: Read, low: Read, high: Read) -> Test:
    above = _comparison(">=", value, low)
    below = _comparison("<=", value, high)
    return lambda item, names, values: above(item, names, values) and below(item, names, values)


def _membership(value: Read, choices: tuple[Read, ...]) -> Test:
    def test(item: Item, names: Names, values: Values) -> bool:
        own = value(item, names, values)
        return any(_same(own, choice(item, names, values)) for choice in choices)

    return test


def _exists(value: Read) -> Test:
    return lambda item, names, values: value(item, names, values) is not None


def _not_exists(value: Read) -> Test:
    return lambda item, names, values: value(item, names, values) is None


def _has_type(value: Read, kind: Read) -> Test:
    def test(item: Item, names: Names, values: Values) -> bool:
        own, wanted = value(item, names, values), kind(item, names, values)
        return own is not None and wanted is not None and wanted["S"] in own

    return test


def _begins(value: Read, prefix: Read) -> Test:
    def test(item: Item, names: Names, values: Values) -> bool:
        own, start = value(item, names, values) or {}, prefix(item, names, values) or {}
        if not start.keys() & {"S", "B"}:
            raise InvalidError(f"Incorrect operand type for function begins_with: {start}")
        return any(kind in own and own[kind].startswith(start[kind]) for kind in start)

    return test


def _contains(value: Read, part: Read) -> Test:
    def test(item: Item, names: Names, values: Values) -> bool:
        own, wanted = value(item, names, values), part(item, names, values)
        if own is None or wanted is None:
            return False
        if "L" in own:
            return wanted in own["L"]
        return any(
            kind in own and wanted[kind] in own[kind] for kind in ("S", "B") if kind in wanted
        )

    return test


_CALLS: dict[str, Callable[..., Test]] = {
    "attribute_exists": _exists,
    "attribute_not_exists": _not_exists,
    "attribute_type": _has_type,
    "begins_with": _begins,
    "contains": _contains,
}
assert _CALLS.keys() == grammar.FUNCTIONS


# --- values ---------------------------------------------------------------------------------------


def read_of(operand: Operand) -> Read:
    """The value that stands there, as a function; None where there is none."""
    match operand:
        case Given(name):
            return lambda item, names, values: values[name]
        case Path((str(name),)) if not name.startswith("#"):
            return lambda item, names, values: item.get(name)
        case Path(parts):
            return lambda item, names, values: _dig(item, parts, names)
        case Sum(left, sign, right):
            return _sum(read_of(left), sign, read_of(right))
        case Call("if_not_exists", (path, otherwise)):
            return _first_of(read_of(path), read_of(otherwise))
        case Call("size", (value,)):
            return _size(read_of(value))
    raise NotImplementedError(f"{operand} as a value")


def _dig(item: Item, parts: tuple[str | int, ...], names: Names) -> Value | None:
    found: Value | None = {"M": item}
    for part in parts:
        if found is None:
            return None
        if isinstance(part, int):
            members = found.get("L", ())
            found = members[part] if part < len(members) else None
        else:
            found = found.get("M", {}).get(names.get(part, part))
    return found


def _sum(left: Read, sign: int, right: Read) -> Read:
    def read(item: Item, names: Names, values: Values) -> Value:
        one, other = left(item, names, values), right(item, names, values)
        if one is None or other is None:
            raise InvalidError(
                "The provided expression refers to an attribute that does not exist in the item"
            )
        return added(one, other, sign)

    return read


def _first_of(path: Read, otherwise: Read) -> Read:
    def read(item: Item, names: Names, values: Values) -> Value | None:
        own = path(item, names, values)
        return otherwise(item, names, values) if own is None else own

    return read


def _size(value: Read) -> Read:
    def read(item: Item, names: Names, values: Values) -> Value | None:
        own = value(item, names, values)
        if own is None:
            return None
        ((kind, content),) = own.items()
        if kind not in {"S", "B", "L", "M"}:
            raise InvalidError("Invalid operand type for function size")
        return {"N": str(text_size(content) if kind == "S" else len(content))}

    return read


# --- updates and projections ----------------------------------------------------------------------


def top_name(path: Path, names: Names) -> str:
    """The attribute that a path names, for writes and projections, which know no deeper ones."""
    if len(path.parts) > 1:
        raise NotImplementedError(f"the nested path {path.parts} in an update or projection")
    return names.get(str(path.parts[0]), str(path.parts[0]))


def changed_names(actions: tuple[Action, ...], names: Names) -> list[str]:
    """The attributes that an update names."""
    return [top_name(action.path, names) for action in actions]


def changes_of(
    item: Item, actions: tuple[Action, ...], names: Names, values: Values
) -> dict[str, Value | None]:
    """The attributes that an update sets or (None) removes; all it reads is the item as it was."""
    changes: dict[str, Value | None] = {}
    for action in actions:
        name = top_name(action.path, names)
        if name in changes:
            raise InvalidError("Invalid UpdateExpression: Two document paths overlap")
        changes[name] = _new_value(action, item, item.get(name), names, values)
    return changes


def _new_value(
    action: Action, item: Item, before: Value | None, names: Names, values: Values
) -> Value | None:
    if action.value is None:
        return None
    value = _reader(action.value)(item, names, values)
    if value is None:
        raise InvalidError(
            "The provided expression refers to an attribute that does not exist in the item"
        )
    return added(before or {"N": "0"}, value) if action.clause == "ADD" else value


_reader = lru_cache(maxsize=1024)(read_of)
