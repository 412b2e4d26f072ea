"""What is mutated and by which tests it is judged, and which survivors are excused, from TOML."""

import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parent


class Plan(NamedTuple):
    """What one run does."""

    modules: Mapping[str, str]
    """The modules of the core by name, each with why it is among them."""
    tests: tuple[str, ...]
    left_out: tuple[str, ...]
    """Tests among these that say nothing about a mutant, and take time or the whole tree."""
    at_import: Mapping[str, tuple[str, ...]]
    """Functions that only run when their module is imported, and the tests that judge them.

    A mutant is switched on after the import, which is too late for these: whatever survives in them
    is tried once more in a process of its own.
    """


class Excuse(NamedTuple):
    """Why a mutant need not be noticed; it is known by its text, not by its number."""

    function: str
    diff: str
    reason: str


def read_plan() -> Plan:
    """The plan in `modules.toml`."""
    read = tomllib.loads((HERE / "modules.toml").read_text())
    return Plan(
        modules=read["modules"],
        tests=tuple(read["tests"]),
        left_out=tuple(read["left_out"]),
        at_import={name: tuple(tests) for name, tests in read["at_import"].items()},
    )


def excuses(module: str) -> list[Excuse]:
    """The excuses of a module in `excused.toml`."""
    return [
        Excuse(one["function"], diff.strip("\n"), one["reason"])
        for one in _excused()
        if one["module"] == module
        for diff in one["diffs"]
    ]


@cache
def _excused() -> list[dict[str, Any]]:
    read = tomllib.loads((HERE / "excused.toml").read_text())
    excused: list[dict[str, Any]] = read.get("excused", [])
    return excused
