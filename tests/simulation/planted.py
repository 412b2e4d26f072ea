"""Planted bugs: each patch in `bugs/` makes the product wrong in a known way, and must be found.

A patch is a unified diff against the repository's root. Its first line says, after `# `, what it
does wrong; a line `# seed: N` names a world that is known to find it. It is applied to a copy, in
which a process of its own lives through worlds until one breaks. A first copy, in which nothing is
planted, must be right in the worlds that find something in others; and it tells which libraries all
this needs. This process then imports them, and nothing of ours, so that what it forks starts
quickly.
"""

import importlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tests.simulation.draw import Kind, draw

ROOT = Path(__file__).parents[2]
PATCHES = Path(__file__).with_name("bugs")
COPIED = ("layers/metering", "functions", "infra", "local", "tests/simulation")
OURS = ("metering", "functions", "infra", "local", "tests")
_TURNS = (Kind.COUNTING, Kind.BILLING, Kind.COUNTING, Kind.BILLING, Kind.CLOSING)
CONTROL = "(nothing planted)"
CONTROL_SEEDS = 25

_fork = get_context("fork")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to plant, and how hard to look for it."""

    names: tuple[str, ...] = ()
    seeds: int = 2000
    sample: int = 0
    """Of so many first worlds, which share finds it is counted."""
    jobs: int = 1
    is_quick: bool = False
    """Begin with the world that is known to find it."""
    writes_hints: bool = False


@dataclass(frozen=True, slots=True)
class Bug:
    """A patch."""

    path: Path
    does: str
    seed: int | None
    world: tuple[str, ...] = ()
    """What is set in the worlds that it is looked for in, where few that are drawn have it."""

    @property
    def name(self) -> str:
        """What it is called on the command line."""
        return self.path.stem


@dataclass(frozen=True, slots=True)
class Found:
    """What became of looking for a bug."""

    name: str
    does: str
    seed: int | None = None
    """The first world that found it."""
    cheapest: int | None = None
    """Of those that found it, the one that takes the least CPU."""
    invariant: str = ""
    sentence: str = ""
    share: float | None = None
    trouble: str = ""
    """Why nobody could look."""
    cpu_s: float = 0.0

    @property
    def is_right(self) -> bool:
        """Whether a bug was found, and where none is planted, none."""
        return not self.trouble and (self.seed is None) == (self.name == CONTROL)


def bugs(names: Iterable[str] = ()) -> list[Bug]:
    """The patches of these names; without any, all.

    Raises:
        LookupError: there is no such patch.
    """
    there = {path.stem: path for path in sorted(PATCHES.glob("*.patch"))}
    unknown = [name for name in names if name not in there]
    if unknown:
        raise LookupError(f"there is no bug {', '.join(unknown)}; there are: {', '.join(there)}")
    return [_bug(there[name]) for name in names or there]


def _bug(path: Path) -> Bug:
    head = [line for line in path.read_text(encoding="utf-8").splitlines() if line[:1] == "#"]
    hints = [line.partition(":")[2] for line in head if line.startswith("# seed:")]
    world = [line.partition(":")[2].split() for line in head if line.startswith("# world:")]
    does, seed = head[0].removeprefix("# ") if head else "", int(hints[0]) if hints else None
    return Bug(path, does, seed, tuple(world[0]) if world else ())


def run(wanted: Wanted) -> int:
    """Plant, look and tell; exit code 1 when one was not found."""
    console = Console(highlight=False)
    console = console if console.is_terminal else Console(highlight=False, width=140)
    try:
        planted = bugs(wanted.names)
    except LookupError as unknown:
        console.print(f"error: {unknown}")
        return 2
    began = time.monotonic()
    found = []
    for one in look(planted, wanted):
        console.print(_line(one), soft_wrap=True)
        found.append(one)
    console.print(_table(sorted(found, key=lambda one: one.name)))
    cpu_s = sum(one.cpu_s for one in found)
    console.print(f"{cpu_s:.0f} s of CPU, {time.monotonic() - began:.0f} s")
    if wanted.writes_hints:
        _write_hints(planted, found)
    return int(not all(one.is_right for one in found))


def _line(found: Found) -> str:
    how = f"seed {found.seed}: {found.invariant}" if found.seed is not None else found.trouble
    verdict = "[green]right[/]" if found.is_right else "[bold red]WRONG[/]"
    return f"{verdict} {escape(found.name)}: {escape(how or 'nothing broke')}"


def _table(found: Iterable[Found]) -> Table:
    table = Table(title="Planted bugs", title_justify="left")
    for head in ("bug", "what it does", "first seed", "worlds that find it", "breaks"):
        table.add_column(head, justify="right" if "seed" in head or "worlds" in head else "left")
    for one in found:
        seed = "none" if one.seed is None else f"{one.seed:,}"
        share = "" if one.share is None else f"{one.share:.1%}"
        table.add_row(one.name, escape(one.does), seed, share, escape(one.trouble or one.invariant))
    return table


def _write_hints(planted: Iterable[Bug], found: Iterable[Found]) -> None:
    """Write the cheapest seed that finds a bug into its patch."""
    seeds = {one.name: one.cheapest for one in found if one.cheapest is not None}
    for bug in planted:
        if bug.name in seeds:
            first, *rest = bug.path.read_text(encoding="utf-8").splitlines(keepends=True)
            rest = [line for line in rest if not line.startswith("# seed:")]
            lines = [first, f"# seed: {seeds[bug.name]}\n", *rest]
            bug.path.write_text("".join(lines), encoding="utf-8")


# --- looking --------------------------------------------------------------------------------------


def look(planted: list[Bug], wanted: Wanted) -> Iterator[Found]:
    """What became of each, as they end; first of a copy in which nothing is planted."""
    hints = [one.seed for one in planted if one.seed is not None and not one.world]
    control = hints if wanted.is_quick else [*hints, *range(CONTROL_SEEDS)]
    with tempfile.TemporaryDirectory(prefix="planted-") as folder:
        nothing: list[_Job] = [(Found(CONTROL, ""), None, control, 0)]
        yield from _in_parallel(nothing, Path(folder), 1)
        jobs: list[_Job] = [
            (Found(one.name, one.does), one, _seeds(one, wanted), wanted.sample) for one in planted
        ]
        yield from _in_parallel(jobs, Path(folder), wanted.jobs)


def _seeds(bug: Bug, wanted: Wanted) -> list[int]:
    first = [bug.seed] if wanted.is_quick and bug.seed is not None else []
    return [*first, *_mixed(wanted.seeds)]


def _mixed(count: int) -> list[int]:
    """All seeds below a number, those of the long and rare ways well to the front."""
    of_kind = {kind: [one for one in range(count) if draw(one).kind is kind] for kind in Kind}
    mixed: list[int] = []
    while len(mixed) < count:
        for kind in _TURNS:
            mixed += of_kind[kind][:1]
            del of_kind[kind][:1]
    return mixed


type _Job = tuple[Found, Bug | None, list[int], int]
"""What to say, what to plant, in which worlds to look, and of how many to count the share."""


def _in_parallel(waiting: list[_Job], folder: Path, jobs: int) -> Iterator[Found]:
    under_way: list[tuple[Any, Connection, Found]] = []
    while waiting or under_way:
        while waiting and len(under_way) < jobs:
            found, bug, seeds, sample = waiting.pop(0)
            copy = folder / found.name
            here, there = _fork.Pipe(duplex=False)
            args = (there, copy, bug, seeds, sample)
            process = _fork.Process(target=_plant, args=args, daemon=True)
            process.start()
            there.close()
            under_way.append((process, here, found))
        process, here, found = under_way.pop(0)
        yield _answer(process, here, found)


def _answer(process: Any, connection: Connection, found: Found) -> Found:
    try:
        answer: dict[str, Any] = connection.recv()
    except EOFError:
        answer = {"trouble": "its process died"}
    process.join()
    connection.close()
    for library in answer.pop("libraries", ()):
        with suppress(ImportError):
            importlib.import_module(library)
    return replace(found, **answer)


# --- in a process of its own ----------------------------------------------------------------------


def _plant(
    connection: Connection, copy: Path, bug: Bug | None, seeds: list[int], sample: int
) -> None:
    """Make the copy, plant the bug, and live through worlds until one finds it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    sys.dont_write_bytecode = True
    try:
        _copy(copy)
        _apply(copy, bug)
        _move_to(copy)
        answer = _search(seeds, bug.world if bug else (), sample)
        answer |= {} if bug else {"libraries": _libraries()}
    except Exception as error:  # noqa: BLE001 (whatever it is, it is told)
        answer = {"trouble": f"{type(error).__name__}: {error}"}
    finally:
        shutil.rmtree(copy, ignore_errors=True)
    connection.send(answer | {"cpu_s": time.process_time()})


def _copy(copy: Path) -> None:
    """With compiled files, which hold as long as sources keep their times."""
    for tree in COPIED:
        shutil.copytree(ROOT / tree, copy / tree)


def _apply(copy: Path, bug: Bug | None) -> None:
    if bug is None:
        return
    ask = ["git", "apply", "--whitespace=nowarn", str(bug.path)]
    # Nothing above the copy may be taken for its repository.
    env = os.environ | {"GIT_CEILING_DIRECTORIES": str(copy.parent)}
    done = subprocess.run(ask, cwd=copy, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"the patch does not apply: {done.stderr.strip()}")


def _move_to(copy: Path) -> None:
    """Import ours from the copy from now on, whoever has imported what before."""
    for name in [one for one in sys.modules if one.partition(".")[0] in OURS]:
        del sys.modules[name]
    ours = {str(ROOT), str(ROOT / "layers/metering/python"), "", str(Path.cwd())}
    others = [one for one in sys.path if one not in ours]
    sys.path[:] = [str(copy), str(copy / "layers/metering/python"), *others]
    os.chdir(copy)
    importlib.invalidate_caches()
    metering = importlib.import_module("metering")
    assert str(metering.__file__).startswith(str(copy)), "the copy must be what is tested"


def _libraries() -> list[str]:
    """What was imported and is not ours."""
    return [name for name in sys.modules if name.partition(".")[0] not in (*OURS, "__main__")]


def _search(seeds: list[int], world: tuple[str, ...], sample: int) -> dict[str, Any]:
    changed = importlib.import_module("tests.simulation.options").changed
    draw_there = importlib.import_module("tests.simulation.draw").draw
    try_out = importlib.import_module("tests.simulation.trial").try_out
    finders: list[Any] = []
    for tried, seed in enumerate(seeds, start=1):
        trial = try_out(changed(draw_there(seed), world))
        if trial.broken:
            finders.append(trial)
        if finders and tried >= sample:
            break
    share = {"share": len(finders) / min(sample, len(seeds))} if sample else {}
    return _told(finders) | share


def _told(finders: list[Any]) -> dict[str, Any]:
    """As plain values: nobody else could read what is of the copy's classes."""
    if not finders:
        return {}
    first, cheapest = finders[0], min(finders, key=lambda one: one.cpu_s)
    broken = first.broken[0]
    return {
        "seed": first.drawn.seed,
        "cheapest": cheapest.drawn.seed,
        "invariant": broken.invariant,
        "sentence": broken.sentence,
    }
