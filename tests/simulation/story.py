"""Telling of a world: what was drawn, what happened, and what broke, with both numbers."""

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tests.simulation.corpus import commit, is_changed, line_of
from tests.simulation.draw import FAULT_NAMES, Drawn
from tests.simulation.options import command, flat, text_of
from tests.simulation.situations import situations_of
from tests.simulation.trial import Trial

STEPS_TOLD = 40
NUMBERS_TOLD = 30
WIDTH = 110
"""Of what is no terminal."""


def a_console() -> Console:
    """Where stories are told: coloured on a terminal, plain elsewhere."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=WIDTH)


def tell(trial: Trial, console: Console) -> None:
    """Tell of a world: right, or how it went wrong."""
    console.print(*_drawn(trial.drawn), sep="\n")
    if trial.broken:
        tell_failure(trial, console)
    else:
        _tell_right(trial, console)


def tell_failure(trial: Trial, console: Console) -> None:
    """What broke, how it came to it, and how to see it again; without the drawn world."""
    steps = trial.last[-STEPS_TOLD:]
    console.print(f"\n[bold]The last {len(steps)} steps[/] (of {trial.steps:,})")
    for step in steps:
        console.print(f"  {escape(step)}", soft_wrap=True)
    console.print()
    for broken in trial.broken:
        console.print(
            f"[bold red]broken[/] {escape(broken.invariant)}: {escape(broken.sentence)}",
            soft_wrap=True,
        )
    console.print(f"\n{_print_of(trial)}")
    console.print(f"replay:       [bold]{escape(command(trial.drawn))}[/]", soft_wrap=True)
    kept = line_of(trial.drawn, ", ".join(trial.invariants))
    console.print(f"for seeds.txt: {escape(kept)}", soft_wrap=True)


def _tell_right(trial: Trial, console: Console) -> None:
    console.print(_table("What happened", sorted(situations_of(trial.sighted).items())))
    if trial.numbers:
        console.print(_table("What was compared", _shortened(trial.numbers)))
    seconds = f"{trial.cpu_s * 1000:.0f} ms of CPU for {_long(trial.virtual)}"
    console.print(f"{_print_of(trial)}\n{trial.steps:,} steps, {seconds}")
    console.print("[bold green]every number is right[/]")


def _shortened(numbers: tuple[tuple[str, str], ...]) -> Iterator[tuple[str, str]]:
    yield from numbers[:NUMBERS_TOLD]
    if len(numbers) > NUMBERS_TOLD:
        yield f"and {len(numbers) - NUMBERS_TOLD} others", ""


def _print_of(trial: Trial) -> str:
    changes = " and changes since" if is_changed() else ""
    return f"fingerprint:  {trial.fingerprint or 'none'} at commit {commit()[:12]}{changes}"


# --- the drawn world ------------------------------------------------------------------------------


def _drawn(drawn: Drawn) -> Iterator[str]:
    """The world as it was drawn: who is there, and which faults are on."""
    yield f"[bold]seed {drawn.seed}[/]: a {drawn.kind} world"
    plain = [(name, value) for name, value in flat(drawn) if not name.startswith("faults.")]
    told = [(name, value) for name, value in plain if name != "kind" and value != ()]
    yield "  " + ", ".join(f"{name} {_shown(value)}" for name, value in told)
    on = {name: getattr(drawn.faults, name) for name in FAULT_NAMES if getattr(drawn.faults, name)}
    yield "  on: " + (", ".join(f"{name} {_shown(rate)}" for name, rate in on.items()) or "nothing")
    off = [name for name in FAULT_NAMES if name not in on]
    yield "  off: " + (", ".join(off) or "nothing")


def _shown(value: Any) -> str:
    match value:
        case float() if value < 1:
            return f"{value:.1%}"
        case float():
            return f"{value:.3g}"
        case timedelta():
            return _long(value)
        case datetime():
            return f"{value:%Y-%m-%d %H:%M:%S}"
    return text_of(value)


def _long(span: timedelta) -> str:
    """A span of time as people say it."""
    hours = span.total_seconds() / 3600
    if hours < 1:
        return f"{hours * 60:.0f} min"
    return f"{hours:.1f} h" if hours < 72 else f"{hours / 24:.1f} days"


def _table(title: str, rows: Any) -> Table:
    table = Table(title=title, title_justify="left", show_header=False)
    table.add_column("")
    table.add_column("", justify="right")
    for what, number in rows:
        table.add_row(escape(what), f"{number:,}" if isinstance(number, int) else escape(number))
    return table


# --- many worlds ----------------------------------------------------------------------------------


def tell_many(trials: list[Trial], console: Console) -> None:
    """A line per kind of world, and one per world that failed."""
    table = Table(title=f"{len(trials)} worlds", title_justify="left")
    for name in ("kind", "worlds", "broken", "CPU ms, mean", "max", "steps, mean", "lived"):
        table.add_column(name, justify="left" if name == "kind" else "right")
    for kind in sorted({one.drawn.kind for one in trials}):
        table.add_row(*_row(kind, [one for one in trials if one.drawn.kind == kind]))
    console.print(table)
    for one in trials:
        if one.broken:
            console.print(_line(one), soft_wrap=True)


def _row(kind: str, trials: list[Trial]) -> tuple[str, ...]:
    times = [one.cpu_s * 1000 for one in trials]
    lived = sum((one.virtual for one in trials), timedelta())
    return (
        kind,
        str(len(trials)),
        str(sum(bool(one.broken) for one in trials)),
        f"{sum(times) / len(times):.0f}",
        f"{max(times):.0f}",
        f"{sum(one.steps for one in trials) / len(trials):,.0f}",
        _long(lived),
    )


def _line(trial: Trial) -> str:
    first = trial.broken[0]
    sentence = first.sentence.splitlines()[0] if first.sentence else ""
    again = escape(command(trial.drawn))
    return f"[red]broken[/] {escape(first.invariant)}: {escape(sentence)}\n       {again}"


def as_text(trial: Trial) -> str:
    """The whole story, plain: what a test shows when a world fails."""
    console = Console(highlight=False, width=WIDTH, no_color=True, force_terminal=False)
    with console.capture() as told:
        tell(trial, console)
    return told.get()


def happened(sighted: Mapping[str, int]) -> list[tuple[str, int]]:
    """The situations that were met, the most frequent first."""
    return sorted(situations_of(sighted).items(), key=lambda one: -one[1])
