"""Which worlds are lived through again and again: fresh ones for each commit, and past failures.

`seeds.txt` holds a line for each world that once found something:

    SEED [field=value ...]  # what it found

The fields are those of `options`, for a world that was made smaller, or whose seed would draw
something else by now.
"""

import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from tests.simulation.draw import Drawn, Kind, draw
from tests.simulation.options import changed, differences

ROOT = Path(__file__).parents[2]
SEEDS = Path(__file__).with_name("seeds.txt")
_SHARES = {Kind.COUNTING: 0.6, Kind.BILLING: 0.3, Kind.CLOSING: 0.1}
_TREES = ("layers", "functions", "infra", "local", "tests/simulation")


@dataclass(frozen=True, slots=True)
class Past:
    """A world that once found something."""

    drawn: Drawn
    found: str


def past(lines: Iterable[str] | None = None) -> list[Past]:
    """The worlds of `seeds.txt`."""
    if lines is None:
        lines = SEEDS.read_text(encoding="utf-8").splitlines()
    return [_past(line) for line in lines if line.partition("#")[0].strip()]


def _past(line: str) -> Past:
    world, _, found = line.partition("#")
    seed, *settings = world.split()
    return Past(changed(draw(int(seed)), settings), found.strip())


def line_of(drawn: Drawn, found: str) -> str:
    """The line that keeps a world for ever."""
    return " ".join((str(drawn.seed), *differences(drawn))) + f"  # {found}"


def fresh(count: int) -> range:
    """Seeds that nobody has lived through yet; the same whenever the same commit is tested."""
    first = int(blake2b(commit().encode(), digest_size=4).hexdigest(), 16)
    return range(first, first + count)


def drawn_for_commit(count: int) -> list[Drawn]:
    """Worlds of such seeds, with more of the long ways than a soak has: here each kind counts."""
    wanted = {kind: round(count * share) for kind, share in _SHARES.items()}
    chosen: list[Drawn] = []
    for seed in fresh(100 * count):
        drawn = draw(seed)
        if wanted[drawn.kind]:
            wanted[drawn.kind] -= 1
            chosen.append(drawn)
        if not any(wanted.values()):
            break
    return chosen


def commit() -> str:
    """The commit's hash; without git, the hash of what would be in it."""
    try:
        ask = ["git", "rev-parse", "HEAD"]
        answer = subprocess.run(ask, cwd=ROOT, capture_output=True, text=True, check=True)
        return answer.stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return _content()


def _content() -> str:
    content = blake2b(digest_size=20)
    for path in _sources():
        content.update(f"{path.relative_to(ROOT)}\0".encode())
        content.update(path.read_bytes())
    return content.hexdigest()


def _sources() -> Iterator[Path]:
    for tree in _TREES:
        yield from sorted((ROOT / tree).rglob("*.py"))


def is_changed() -> bool:
    """Whether files differ from the commit: then the commit alone replays nothing."""
    ask = ["git", "status", "--porcelain", "--", *_TREES]
    try:
        answer = subprocess.run(ask, cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return False
    return bool(answer.stdout.strip())
