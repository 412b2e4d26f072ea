"""The simulation's command line: `python -m tests.simulation run | soak | bugs`.

`make sim`, `make soak` and `make bugs` are the same. Each command imports what it needs when it
runs.
"""

import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from tests.simulation.draw import Drawn

main = typer.Typer(
    help="One seed is one world: the whole system with everything that may go wrong.",
    epilog="Examples:  make sim SEED=7   |   make soak N=100000   |   make bugs",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
FIXED_WORLDS = 100
MADE_SMALLER_EVERY = 10

_Set = Annotated[
    list[str] | None,
    typer.Option("--set", help="A field of the world: events=6, faults.crash=0, span=3600 (s)."),
]
_Without = Annotated[
    list[str] | None, typer.Option(help="A fault that is to be off; `all` for a good day.")
]


@main.command(epilog="Examples:  run --seed 7   |   run --seed 7 --without crash --set events=6")
def run(
    seed: Annotated[int | None, typer.Option(help="The world's; without it, 100 worlds.")] = None,
    settings: _Set = None,
    without: _Without = None,
    events: Annotated[int | None, typer.Option(min=1, help="How many clients send.")] = None,
    shrink: Annotated[bool, typer.Option("--shrink", help="Make a failing world smaller.")] = False,
) -> None:
    """Live through one world and tell of it; exit code 0 when every number is right, else 1."""
    if seed is None:
        raise typer.Exit(_run_many(settings or [], without or []))
    more = [] if events is None else [f"events={events}"]
    raise typer.Exit(_run_one(_drawn(seed, [*(settings or []), *more], without or []), shrink))


def _drawn(seed: int, settings: list[str], without: list[str]) -> "Drawn":
    from tests.simulation import options
    from tests.simulation.draw import draw

    try:
        return options.without(options.changed(draw(seed), settings), without)
    except options.OptionError as wrong:
        raise typer.BadParameter(str(wrong)) from None


def _run_one(drawn: "Drawn", shrink: bool) -> int:
    from tests.simulation.shrink import TRIALS_MAX, Shrinking
    from tests.simulation.story import a_console, tell
    from tests.simulation.trial import Trial, try_out

    console = a_console()
    trial = try_out(drawn)
    tell(trial, console)
    if not trial.broken or not shrink:
        return int(bool(trial.broken))

    def told(trials: int, smallest: Trial) -> None:
        if trials % MADE_SMALLER_EVERY == 0:
            left = smallest.drawn.events - len(smallest.drawn.left_out)
            typer.echo(f"{trials} of at most {TRIALS_MAX} trials; {left} events", err=True)

    console.rule("made smaller")
    tell(Shrinking(trial, try_out, told).run(), console)
    return 1


def _run_many(settings: list[str], without: list[str]) -> int:
    from tests.simulation.story import a_console, tell_many
    from tests.simulation.trial import try_out

    trials = [try_out(_drawn(seed, settings, without)) for seed in range(FIXED_WORLDS)]
    tell_many(trials, a_console())
    return int(any(one.broken for one in trials))


@main.command(epilog="Examples:  soak 100000   |   soak 2000 --jobs 4 --report build/soak.md")
def soak(
    worlds: Annotated[int, typer.Argument(min=1, help="How many.")],
    first: Annotated[int | None, typer.Option(help="The first seed.")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Seeds that the commit draws.")] = False,
    jobs: Annotated[int | None, typer.Option(min=1, help="Processes; one per core.")] = None,
    report: Annotated[Path | None, typer.Option(help="Write the report there, Markdown.")] = None,
    require_situations: Annotated[
        bool, typer.Option("--require-situations", help="Fail if one was never met.")
    ] = False,
) -> None:
    """Live through many worlds; exit code 1 when one broke or a situation was never met."""
    import os

    from tests.simulation import corpus
    from tests.simulation import soak as soaking

    _stop_cleanly()
    begin = corpus.fresh(worlds).start if fresh else first or 0
    order = soaking.Order(
        worlds, begin, jobs or os.cpu_count() or 1, report, require_situations=require_situations
    )
    raise typer.Exit(soaking.run(order))


def _stop_cleanly() -> None:
    """Take either signal for Ctrl-C: a shell's background job ignores the first."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)


@main.command(epilog="Examples:  bugs   |   bugs count-frozen --seeds 500")
def bugs(
    names: Annotated[list[str] | None, typer.Argument(help="Which ones; all.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="At most so many worlds for each.")] = 2000,
    sample: Annotated[
        int, typer.Option(min=0, help="Say which share of so many first worlds catches it.")
    ] = 0,
    jobs: Annotated[int, typer.Option(min=1, help="How many at once.")] = 1,
    quick: Annotated[
        bool, typer.Option("--quick", help="Begin with the seed in the patch.")
    ] = False,
    hints: Annotated[
        bool, typer.Option("--hints", help="Write seeds into patches, cheap ones with --sample.")
    ] = False,
) -> None:
    """Plant each bug in a copy and find it; exit code 1 when one is not found."""
    from tests.simulation import planted

    wanted = planted.Wanted(tuple(names or ()), seeds, sample, jobs, quick, hints)
    _stop_cleanly()
    try:
        raise typer.Exit(planted.run(wanted))
    except KeyboardInterrupt:
        typer.echo("stopped")
        raise typer.Exit(1) from None


if __name__ == "__main__":
    main()
