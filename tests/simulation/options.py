"""Every field of a drawn world as an option: `events=6`, `faults.crash=0`, `span=3600`.

Beside them `faults=off`, and for whole numbers in a row `left_out=0-8,10`.
"""

import difflib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields, is_dataclass, replace
from datetime import datetime, timedelta
from enum import Enum
from itertools import groupby
from typing import Any

from tests.simulation.draw import FAULT_NAMES, NO_FAULTS, Drawn, draw

OFF = "off"
"""`faults=off`: none of them; those that are on are named after it."""


class OptionError(ValueError):
    """What somebody asked for is not there, or not a value of its kind."""


def changed(drawn: Drawn, settings: Iterable[str]) -> Drawn:
    """The world with some fields set.

    Raises:
        OptionError: no such field, or no such value.
    """
    for setting in settings:
        name, _, text = setting.partition("=")
        is_calm = (name, text) == ("faults", OFF)
        drawn = replace(drawn, faults=_calm(drawn)) if is_calm else _with(drawn, name, text)
    return drawn


def without(drawn: Drawn, faults: Iterable[str]) -> Drawn:
    """The world with some faults off; `all` are all of them."""
    for fault in faults:
        if fault == "all":
            drawn = replace(drawn, faults=_calm(drawn))
            continue
        if fault not in FAULT_NAMES:
            raise OptionError(_unknown("fault", fault, FAULT_NAMES))
        drawn = replace(drawn, faults=replace(drawn.faults, **{fault: getattr(NO_FAULTS, fault)}))
    return drawn


def _calm(drawn: Drawn) -> Any:
    off = {name: getattr(NO_FAULTS, name) for name in FAULT_NAMES}
    return replace(drawn.faults, **off)


def differences(drawn: Drawn) -> tuple[str, ...]:
    """The options that make this world of what its seed draws."""
    first = draw(drawn.seed)
    calm = replace(first, faults=_calm(first))
    return min(_told(first, drawn), (f"faults={OFF}", *_told(calm, drawn)), key=len)


def _told(first: Drawn, drawn: Drawn) -> tuple[str, ...]:
    there = dict(flat(first))
    return tuple(f"{name}={text_of(value)}" for name, value in flat(drawn) if value != there[name])


def command(drawn: Drawn) -> str:
    """The line that lives through this world again."""
    options = " ".join(f"--set {one}" for one in differences(drawn))
    return f"make sim SEED={drawn.seed}" + (f' ARGS="{options}"' if options else "")


def flat(drawn: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every field by its dotted name, but the seed."""
    for one in fields(drawn):
        value = getattr(drawn, one.name)
        if is_dataclass(value):
            yield from flat(value, f"{prefix}{one.name}.")
        elif one.name != "seed":
            yield prefix + one.name, value


def text_of(value: Any) -> str:
    """A value as options take it."""
    match value:
        case datetime():
            return value.isoformat()
        case timedelta():
            return f"{value.total_seconds():g}"
        case tuple():
            return ",".join(_ranges(value))
    return str(value)


def _with(owner: Any, name: str, text: str) -> Any:
    here, _, rest = name.partition(".")
    names = [one.name for one in fields(owner) if one.name != "seed"]
    if here not in names:
        raise OptionError(_unknown("field", here, names))
    value = getattr(owner, here)
    if is_dataclass(value) and not rest:
        there = ", ".join(f"{here}.{one.name}" for one in fields(value))
        raise OptionError(f"`{here}` has fields of its own: {there}")
    is_inside = is_dataclass(value)
    new = _with(value, rest, text) if is_inside else _read(value, text, name)
    return replace(owner, **{here: new})


def _read(value: Any, text: str, name: str) -> Any:
    """A text as a value of the same kind as the present one."""
    try:
        return _reader(value)(text)
    except (ValueError, KeyError):
        kind = "one of " + ", ".join(type(value)) if isinstance(value, Enum) else "a value like"
        raise OptionError(f"`{name}={text}`: it takes {kind} {text_of(value)}") from None


def _reader(value: Any) -> Callable[[str], Any]:
    match value:
        case bool():
            return lambda text: _TRUTH[text.lower()]
        case None | int():
            return lambda text: None if text == "None" else int(text)
        case datetime():
            return datetime.fromisoformat
        case timedelta():
            return lambda text: timedelta(seconds=float(text))
        case tuple():
            return lambda text: tuple(at for part in text.split(",") if part for at in _range(part))
    return type(value)


def _range(text: str) -> range:
    first, _, last = text.partition("-")
    return range(int(first), int(last or first) + 1)


def _ranges(numbers: tuple[int, ...]) -> Iterator[str]:
    """Whole numbers that rise, as `0-8` where they follow each other."""
    for _, run in groupby(enumerate(numbers), lambda one: one[1] - one[0]):
        them = [number for _, number in run]
        yield f"{them[0]}-{them[-1]}" if len(them) > 1 else str(them[0])


_TRUTH = {"true": True, "1": True, "false": False, "0": False}


def _unknown(what: str, name: str, names: Iterable[str]) -> str:
    names = list(names)
    near = difflib.get_close_matches(name, names, 1)
    meant = f"did you mean `{near[0]}`? " if near else ""
    return f"there is no {what} `{name}`; {meant}there are: {', '.join(names)}"
