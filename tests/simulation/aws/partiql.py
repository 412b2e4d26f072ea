"""The PartiQL that the product sends: INSERT of whole items, UPDATE of one item under a guard."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from tests.simulation.aws.errors import InvalidError
from tests.simulation.aws.expressions import Test, holds
from tests.simulation.aws.grammar import Action, And, Compare, Condition, Given, Parser, Path
from tests.simulation.aws.items import Value

_INSERT = re.compile(r'INSERT INTO "(?P<table>[^"]+)" VALUE \{(?P<fields>[^{}]+)\}')
_FIELD = re.compile(r"'(?P<name>[^']+)'\s*:\s*\?")
_UPDATE = re.compile(r'UPDATE "(?P<table>[^"]+)" (?P<sets>SET .+?) WHERE (?P<where>.+)')


@dataclass(frozen=True, slots=True)
class Insert:
    """A whole item, whose attributes are parameters."""

    table: str
    places: dict[str, int]
    """Which parameter each attribute is, counted from 0."""

    @property
    def parameters(self) -> int:
        return len(self.places)


@dataclass(frozen=True, slots=True)
class Update:
    """What changes in one item, if it is there and the condition holds."""

    table: str
    places: dict[str, int]
    """Which parameter WHERE wants an attribute to equal, counted from 0; the key's are there."""
    actions: tuple[Action, ...]
    condition: Test
    parameters: int


type Statement = Insert | Update


@lru_cache(maxsize=1024)
def statement_of(text: str) -> Statement:
    """What a statement says; another kind of statement is not known here."""
    if found := _INSERT.fullmatch(text.strip()):
        return _insert(found["table"], found["fields"])
    if found := _UPDATE.fullmatch(text.strip()):
        return _update(found["table"], found["sets"], found["where"])
    raise NotImplementedError(f"the PartiQL statement {text}")


def key_values(
    statement: Statement, given: Sequence[Value], names: Sequence[str]
) -> dict[str, Value]:
    """The attributes of a key among a statement's parameters."""
    places = statement.places
    return {
        name: given[places[name]] for name in names if places.get(name, len(given)) < len(given)
    }


def check_count(statement: Statement, given: Sequence[Value]) -> None:
    """Refuse a statement that came with too many or too few parameters."""
    if len(given) != statement.parameters:
        raise InvalidError("Number of parameters in request and statement don't match.")


def _insert(table: str, fields: str) -> Insert:
    places: dict[str, int] = {}
    for number, field in enumerate(fields.split(",")):
        found = _FIELD.fullmatch(field.strip())
        if found is None or found["name"] in places:
            raise NotImplementedError(f"{field} in a PartiQL INSERT")
        places[found["name"]] = number
    return Insert(table, places)


def _update(table: str, sets: str, where: str) -> Update:
    # The parameters are numbered through: those of SET first.
    parser = Parser(f"{sets} WHERE {where}", "PartiQL statement", words_reserved=False)
    actions = []
    while parser.next.upper() == "SET":
        parser.expect("SET")
        actions.append(parser.action("SET"))
    parser.expect("WHERE")
    condition = parser.whole(parser.condition)
    places = dict(_equalities(condition))
    return Update(table, places, tuple(actions), holds(condition), len(parser.values))


def _equalities(condition: Condition) -> Iterator[tuple[str, int]]:
    for term in condition.conditions if isinstance(condition, And) else (condition,):
        match term:
            case Compare("=", Path((str(name),)), Given(parameter)):
                yield name, int(parameter.removeprefix(":")) - 1
