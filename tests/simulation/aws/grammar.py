"""DynamoDB's expressions as trees: conditions, update expressions, lists of attributes.

The same grammar of conditions serves PartiQL, whose parameters `?` become `:1`, `:2`, ... in order.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path as File
from typing import NoReturn

from tests.simulation.aws.errors import InvalidError

_TOKEN = re.compile(r"\s*([#:]?[A-Za-z0-9_]+|<>|<=|>=|[=<>(),.\[\]+\-?]|$|\S)")
COMPARATORS = frozenset({"=", "<>", "<", "<=", ">", ">="})
FUNCTIONS = frozenset(
    {"attribute_exists", "attribute_not_exists", "attribute_type", "begins_with", "contains"}
)
CLAUSES = ("SET", "REMOVE", "ADD", "DELETE")


@dataclass(frozen=True, slots=True)
class Path:
    """Where a value stands: a name (or `#placeholder`), then names and list positions."""

    parts: tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Given:
    """A value handed in beside the expression, by its placeholder."""

    name: str


@dataclass(frozen=True, slots=True)
class Call:
    """A function's call: a condition, or a value (`size`, `if_not_exists`)."""

    function: str
    arguments: tuple["Operand", ...]


@dataclass(frozen=True, slots=True)
class Sum:
    """`left + right`, or with `sign=-1` their difference; in SET alone."""

    left: "Operand"
    sign: int
    right: "Operand"


@dataclass(frozen=True, slots=True)
class Compare:
    """One of `COMPARATORS` between two values."""

    comparator: str
    left: "Operand"
    right: "Operand"


@dataclass(frozen=True, slots=True)
class Between:
    """Both ends included."""

    value: "Operand"
    low: "Operand"
    high: "Operand"


@dataclass(frozen=True, slots=True)
class In:
    """Equal to one of several values."""

    value: "Operand"
    choices: tuple["Operand", ...]


@dataclass(frozen=True, slots=True)
class Not:
    """The contrary."""

    condition: "Condition"


@dataclass(frozen=True, slots=True)
class And:
    """All of two or more."""

    conditions: tuple["Condition", ...]


@dataclass(frozen=True, slots=True)
class Or:
    """One at least of two or more."""

    conditions: tuple["Condition", ...]


type Operand = Path | Given | Call | Sum
type Condition = Call | Compare | Between | In | Not | And | Or


@dataclass(frozen=True, slots=True)
class Action:
    """One change of an update: `SET path = value`, `ADD path value`, `REMOVE path`."""

    clause: str
    path: Path
    value: Operand | None


@cache
def _reserved() -> frozenset[str]:
    """Words that no expression may use as a name, in capitals; moto keeps the list as a file."""
    spec = find_spec("moto")
    assert spec is not None
    assert spec.origin is not None
    text = File(spec.origin).parent / "dynamodb/parsing/reserved_keywords.txt"
    return frozenset(text.read_text().split())


class Parser:
    """Reads one expression from left to right."""

    def __init__(self, text: str, kind: str, *, words_reserved: bool = True) -> None:
        self._tokens = [match.group(1) for match in _TOKEN.finditer(text)]
        self._kind = kind
        self._words_reserved = words_reserved
        self._at = 0
        self._parameters = 0
        self.names: set[str] = set()
        self.values: set[str] = set()
        self.attributes: set[str] = set()
        """The names at which paths begin, placeholders among them."""

    def whole[T](self, read: Callable[[], T]) -> T:
        """What `read` reads, which must be all there is."""
        found = read()
        if self.next:
            self._refuse()
        return found

    @property
    def next(self) -> str:
        """The token that comes next; empty at the end."""
        return self._tokens[self._at]

    def _is(self, word: str) -> bool:
        return self.next.upper() == word

    def _take(self) -> str:
        self._at += 1
        return self._tokens[self._at - 1]

    def _accept(self, word: str) -> bool:
        found = self._is(word)
        self._at += found
        return found

    def expect(self, word: str) -> None:
        """Take this token."""
        if not self._accept(word):
            self._refuse()

    def _refuse(self) -> NoReturn:
        where = self.next or "<EOF>"
        raise InvalidError(f'Invalid {self._kind}: Syntax error; token: "{where}"')

    def _list[T](self, read: Callable[[], T]) -> list[T]:
        found = [read()]
        while self._accept(","):
            found.append(read())
        return found

    # --- conditions ---

    def condition(self) -> Condition:
        """Anything that holds or does not."""
        found = self._joined("OR", self._conjunction)
        return found[0] if len(found) == 1 else Or(tuple(found))

    def _conjunction(self) -> Condition:
        found = self._joined("AND", self._negation)
        return found[0] if len(found) == 1 else And(tuple(found))

    def _joined(self, word: str, read: Callable[[], Condition]) -> list[Condition]:
        found = [read()]
        while self._accept(word):
            found.append(read())
        return found

    def _negation(self) -> Condition:
        if self._accept("NOT"):
            return Not(self._negation())
        if self._accept("("):
            inner = self.condition()
            self.expect(")")
            return inner
        return self._test()

    def _test(self) -> Condition:
        left = self._operand()
        if isinstance(left, Call) and left.function in FUNCTIONS:
            return left
        if self._accept("BETWEEN"):
            low = self._operand()
            self.expect("AND")
            return Between(left, low, self._operand())
        if self._accept("IN"):
            self.expect("(")
            choices = self._list(self._operand)
            self.expect(")")
            return In(left, tuple(choices))
        if self.next not in COMPARATORS:
            self._refuse()
        return Compare(self._take(), left, self._operand())

    # --- values ---

    def _operand(self) -> Operand:
        token = self.next
        if token == "?":
            self._parameters += 1
            self._at += 1
            return self._given(f":{self._parameters}")
        if token.startswith(":"):
            return self._given(self._take())
        if self._at + 1 < len(self._tokens) and self._tokens[self._at + 1] == "(":
            return self._call()
        return self.path()

    def _given(self, name: str) -> Given:
        self.values.add(name)
        return Given(name)

    def _call(self) -> Call:
        function = self._take()
        if function not in FUNCTIONS | {"size", "if_not_exists", "list_append"}:
            raise NotImplementedError(f"the function {function} in an expression")
        self.expect("(")
        arguments = self._list(self._operand)
        self.expect(")")
        return Call(function, tuple(arguments))

    def path(self) -> Path:
        """A name and what follows it."""
        parts: list[str | int] = [self._name()]
        self.attributes.add(str(parts[0]))
        while self.next in {".", "["}:
            if self._take() == ".":
                parts.append(self._name())
            else:
                parts.append(int(self._take()))
                self.expect("]")
        return Path(tuple(parts))

    def _name(self) -> str:
        name = self._take()
        if not name.lstrip("#").isidentifier():
            self._at -= 1
            self._refuse()
        if name.startswith("#"):
            self.names.add(name)
        elif self._words_reserved and name.upper() in _reserved():
            raise InvalidError(
                f"Invalid {self._kind}: Attribute name is a reserved keyword;"
                f" reserved keyword: {name}"
            )
        return name

    # --- updates and projections ---

    def paths(self) -> list[Path]:
        """Attributes by name, with commas between."""
        return self._list(self.path)

    def actions(self) -> list[Action]:
        """All clauses of an update; each may stand once."""
        found: list[Action] = []
        seen: set[str] = set()
        while self.next or not found:
            clause = self._take().upper()
            if clause not in CLAUSES or clause in seen:
                self._at -= 1
                self._refuse()
            if clause == "DELETE":
                raise NotImplementedError("DELETE in an UpdateExpression: it is for sets")
            seen.add(clause)
            found += self._list(lambda clause=clause: self.action(clause))  # type: ignore[misc]
        return found

    def action(self, clause: str) -> Action:
        """One change of a clause."""
        path = self.path()
        if clause == "REMOVE":
            return Action(clause, path, None)
        if clause == "ADD":
            return Action(clause, path, self._operand())
        self.expect("=")
        return Action(clause, path, self._sum())

    def _sum(self) -> Operand:
        left = self._operand()
        if self.next in {"+", "-"}:
            sign = 1 if self._take() == "+" else -1
            return Sum(left, sign, self._operand())
        return left
