"""Planted bugs are found: a simulation that finds nothing must be unable to miss these.

Each commit plants a sixth of them, another one with another hash; `make bugs` plants all.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.corpus import commit
from tests.simulation.planted import PATCHES, ROOT

GROUPS, TURNS = 2, 6
SEEDS_MAX = 300
"""`make bugs` goes further; here the seed in the patch finds it at once."""
NAMES = sorted(path.stem for path in PATCHES.glob("*.patch"))
PLANTED = NAMES[int(commit()[:8], 16) % TURNS :: TURNS]


@pytest.mark.parametrize("names", [PLANTED[group::GROUPS] for group in range(GROUPS)], ids=str)
def test_each_planted_bug_is_found_and_nothing_is_found_without_it(names: list[str]) -> None:
    ask = [sys.executable, "-m", "tests.simulation", "bugs", "--quick", "--seeds", str(SEEDS_MAX)]

    answer = subprocess.run([*ask, *names], cwd=ROOT, capture_output=True, text=True, check=False)

    assert not answer.returncode, answer.stdout + answer.stderr


def test_every_patch_says_what_it_does_wrong_and_which_seed_finds_it() -> None:
    heads = {name: (PATCHES / f"{name}.patch").read_text().split("\n")[:2] for name in NAMES}

    assert [name for name, head in heads.items() if not head[0].startswith("# ")] == []
    assert [name for name, head in heads.items() if not head[1].startswith("# seed: ")] == []


def test_every_patch_still_fits_the_code() -> None:
    """A sixth is planted on each commit; one that fits no more must not wait for its turn."""
    unfit = [name for name in NAMES if not _fits(PATCHES / f"{name}.patch")]

    assert unfit == []


def _fits(patch: Path) -> bool:
    ask = ["git", "apply", "--check", "--whitespace=nowarn", str(patch)]
    return not subprocess.run(ask, cwd=ROOT, capture_output=True, check=False).returncode
