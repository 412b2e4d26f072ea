"""What `make cost` shows: the paths per million events, and a month of an own workload."""

import json
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path

from rich.console import Console
from rich.table import Table

from infra.cost.assumed import ASSUMED
from infra.cost.measurement import Measurement
from infra.cost.month import Workload, bill, sheet
from infra.cost.pages import assumptions, price_list
from infra.cost.paths import paths, sheets
from infra.cost.sheet import Sheet

WIDTH = 170
"""Where the output goes to no terminal."""
_SIZES = {"k": 1_000, "m": 1_000_000, "b": 1_000_000_000}


def run(
    workload: Workload | None,
    *,
    measured: Path | None,
    save: Path | None,
    as_json: bool,
    is_brief: bool = False,
) -> int:
    """Measure, or read what was measured, and show; the exit code is 1 where a target is missed.

    `is_brief` shows the month of the workload alone.
    """
    console = Console(stderr=as_json)
    if not console.is_terminal:
        console = Console(stderr=as_json, width=WIDTH)
    found = _measurement(measured, console)
    if save:
        save.write_text(found.dump())
    shown = [] if is_brief else [*sheets(found), assumptions(ASSUMED), price_list()]
    if workload is not None:
        shown.append(sheet(workload, bill(workload, found)))
    if as_json:
        print(json.dumps({"measured": found.at, "tables": [one.plain() for one in shown]}))
    else:
        _show(console, found, shown)
    return int(any(path.target and path.million > path.target for path in paths(found)))


def _measurement(stored: Path | None, console: Console) -> Measurement:
    if stored is not None:
        return Measurement.load(stored)
    from local.costs.measure import measure  # noqa: PLC0415 (needs a Java and a minute)

    doing = "measuring every function on DynamoDB Local, about a minute"
    if not console.is_terminal:  # where a status shows nothing
        console.print(doing, highlight=False)
    with console.status(doing):
        return measure()


def _show(console: Console, measured: Measurement, shown: Iterable[Sheet]) -> None:
    console.print(f"measured: {measured.at}", highlight=False)
    for one in shown:
        console.print(_table(one), f"[dim]{one.note}[/dim]" if one.note else "")


def _table(shown: Sheet) -> Table:
    table = Table(title=shown.title)
    for place, column in enumerate(shown.columns):
        table.add_column(column, justify="left" if place == 0 else "right")
    for row in shown.rows:
        table.add_row(*(cell.replace("**", "") for cell in row))
    return table


def amount(text: str) -> Decimal:
    """A number as people write it: `50m` is 50,000,000.

    Raises:
        ValueError: it is none, or not above 0.
    """
    lowered = text.lower().replace(",", "").replace("_", "")
    factor = _SIZES.get(lowered[-1:], 1)
    digits = lowered[:-1] if factor > 1 else lowered
    if not digits.replace(".", "", 1).isdigit() or Decimal(digits) == 0:
        raise ValueError(f"{text!r} is no number of events; write 800000, 800k, 50m or 2b")
    return Decimal(digits) * factor
