"""What a soak came to, for a terminal and as Markdown."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from tests.simulation.corpus import commit, is_changed
from tests.simulation.options import command
from tests.simulation.situations import DYNAMO_FAULTS, SITUATIONS, STRIPE_FAULTS, Site, untouched
from tests.simulation.tally import OfKind

if TYPE_CHECKING:
    from tests.simulation.soak import Soaked

_YEAR_S = 365.25 * 24 * 3600
_HEADS = {
    "crash before": "died before",
    "crash after": "died after",
    "rate_limited": "429",
    "error_before": "500",
    "error_after": "500 after",
    "unavailable": "503",
    "drop_before": "lost",
    "drop_after": "answer lost",
    "outage drop_before": "outage",
    "outage drop_after": "outage, done",
}

WIDTH = 150
"""Of what is no terminal: the matrix has many columns."""

type _Rows = list[tuple[str, ...]]


def summary(soaked: "Soaked") -> list[str]:
    """The figures in sentences."""
    tally, order = soaked.tally, soaked.order
    years = tally.virtual.total_seconds() / _YEAR_S
    changes = " and changes since" if is_changed() else ""
    per_core = tally.worlds / tally.cpu_s if tally.cpu_s else 0.0
    whole = "" if soaked.is_whole else ", stopped early"
    worlds = f"{tally.worlds:,} worlds in {soaked.seconds:,.0f} s with {order.jobs} processes"
    return [
        f"commit {commit()[:12]}{changes}, seeds {order.first} to {order.last}{whole}",
        f"{worlds}; {per_core:.1f} worlds per second of CPU",
        f"{years:.2f} years of virtual time; {len(tally.failed)} worlds broke an invariant",
        _bound(tally.worlds, len(tally.failed)),
    ]


def _bound(worlds: int, failed: int) -> str:
    """By the rule of three: no failure among n bounds the rate at 3/n, 95 % sure."""
    if failed or not worlds:
        return "a bound on what is left to find needs worlds without a failure"
    return f"what is left to find hits fewer than one world in {worlds // 3:,} (95 % sure)"


def tell_report(soaked: "Soaked", console: Console) -> None:
    """Figures, kinds, situations and the matrix."""
    if not console.is_terminal:
        console.width = WIDTH
    for line in summary(soaked):
        console.print(line, soft_wrap=True, markup=False)
    _print(console, "Kinds of worlds", _KINDS, _kinds(soaked.tally.kinds))
    _print(console, "Situations", ("", "worlds", "times"), _situations(soaked))
    for title, heads, rows in _matrices(soaked):
        _print(console, title, heads, rows)
    missed = len(list(untouched(soaked.tally.sites)))
    console.print(f"{missed} pairs of fault and call were never met (0 above)")


def _print(console: Console, title: str, heads: tuple[str, ...], rows: _Rows) -> None:
    table = Table(title=title, title_justify="left", pad_edge=False)
    for place, head in enumerate(heads):
        table.add_column(head, justify="right" if place else "left", no_wrap=place == 0)
    for row in rows:
        table.add_row(*("[bold red]0[/]" if cell == "0" else cell for cell in row))
    console.print(table)


def as_markdown(soaked: "Soaked") -> str:
    """The whole report for `docs/proof.md`."""
    parts = ["# A soak of the simulation", "\n".join(f"- {line}" for line in summary(soaked))]
    parts += [_markdown("Kinds of worlds", _KINDS, _kinds(soaked.tally.kinds))]
    parts += [_markdown("Situations", ("situation", "worlds", "times"), _situations(soaked))]
    parts += [_markdown(*matrix) for matrix in _matrices(soaked)]
    parts += ["## Failures", "\n".join(_failures(soaked)) or "None."]
    return "\n\n".join(parts) + "\n"


def _markdown(title: str, heads: tuple[str, ...], rows: _Rows) -> str:
    lines = [f"## {title}", "", "| " + " | ".join(heads) + " |"]
    lines.append("|---" + "|--:" * (len(heads) - 1) + "|")
    lines += [f"| {' | '.join(map(_bold_if_zero, row))} |" for row in rows]
    return "\n".join(lines)


def _bold_if_zero(cell: str) -> str:
    return "**0**" if cell == "0" else cell


def _failures(soaked: "Soaked") -> Iterator[str]:
    told = {found.drawn.seed: smallest for found, smallest in soaked.smallest}
    for seed, invariant in sorted(soaked.tally.failed.items()):
        smallest = told.get(seed)
        again = f": `{command(smallest.drawn)}`" if smallest else ""
        yield f"- seed {seed}, {invariant}{again}"


# --- tables ---------------------------------------------------------------------------------------

_KINDS = ("kind", "worlds", "CPU ms a world", "steps a world", "virtual hours a world")


def _kinds(kinds: Mapping[str, OfKind]) -> _Rows:
    return [
        (
            name,
            f"{one.worlds:,}",
            f"{one.cpu_s * 1000 / one.worlds:.1f}",
            f"{one.steps / one.worlds:,.0f}",
            f"{one.virtual.total_seconds() / 3600 / one.worlds:.1f}",
        )
        for name, one in sorted(kinds.items())
    ]


def _situations(soaked: "Soaked") -> _Rows:
    worlds, times = soaked.tally.worlds_with, soaked.tally.times
    names = [one.sentence for one in SITUATIONS]
    return [(name, f"{worlds[name]:,}", f"{times[name]:,}") for name in names]


def _matrices(soaked: "Soaked") -> Iterator[tuple[str, tuple[str, ...], _Rows]]:
    sites = soaked.tally.sites
    dynamo = {site: met for site, met in sites.items() if not site.is_stripe}
    stripe = {site: met for site, met in sites.items() if site.is_stripe}
    yield "Faults at calls of DynamoDB", ("function, call", *_heads(DYNAMO_FAULTS)), _rows(dynamo)
    yield "Faults at calls of Stripe", ("function, call", *_heads(STRIPE_FAULTS)), _rows(stripe)


def _heads(faults: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(_HEADS.get(fault, fault) for fault in faults)


def _rows(sites: Mapping[Site, Mapping[str, int]]) -> _Rows:
    return [
        (f"{site.function} {site.call}", *(_cell(site, met, fault) for fault in _columns(site)))
        for site, met in sorted(sites.items())
    ]


def _columns(site: Site) -> tuple[str, ...]:
    return STRIPE_FAULTS if site.is_stripe else DYNAMO_FAULTS


def _cell(site: Site, met: Mapping[str, int], fault: str) -> str:
    """How often; nothing where it cannot happen."""
    times = met.get(fault, 0)
    return f"{times:,}" if times or fault in site.faults else ""
