"""A list of checks with ticks and crosses; each cross says how to fix it."""

from collections.abc import Iterable
from dataclasses import dataclass

from rich.console import Console


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at."""

    name: str
    is_right: bool
    said: str
    """What was found."""
    fix: str = ""
    """What to do when it is not right."""


def show(title: str, checks: Iterable[Check], *, console: Console | None = None) -> int:
    """Print each check as soon as it is made; the exit code, 0 if all are right."""
    out = console or Console(highlight=False)
    out.print(title)
    wrong = 0
    for check in checks:
        mark = "[green]✓[/]" if check.is_right else "[red]✗[/]"
        out.print(f"  {mark} {check.name}: ", end="")
        out.print(check.said, markup=False, soft_wrap=True)
        if not check.is_right:
            wrong += 1
            out.print(f"    fix: {check.fix}", markup=False, soft_wrap=True)
    return min(wrong, 1)
