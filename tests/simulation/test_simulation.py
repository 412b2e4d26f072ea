"""The proof that CI asks for: fresh worlds for each commit, every world that once failed, replay.

`SIM_SEEDS` says how many fresh worlds; `make soak` lives through more.
"""

import os
import subprocess
import sys

import pytest

from tests.simulation.corpus import ROOT, Past, drawn_for_commit, past
from tests.simulation.draw import Kind, draw
from tests.simulation.shrink import Shrinking
from tests.simulation.story import as_text
from tests.simulation.trial import Trial, try_out

CHUNKS = 20
"""So that processes share them."""
SEEDS = int(os.environ.get("SIM_SEEDS", "2000"))
SHRINKING_TRIALS, SHRINKING_S = 60, 20.0


def assert_right(trial: Trial) -> None:
    """Fail with the story of the world, made smaller."""
    if trial.broken:
        shrinking = Shrinking(trial, try_out, trials_max=SHRINKING_TRIALS, seconds_max=SHRINKING_S)
        smallest = as_text(shrinking.run())
        pytest.fail(f"{as_text(trial)}\nand made smaller:\n{smallest}", pytrace=False)


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_every_invariant_holds_in_worlds_that_nobody_has_seen_before(chunk: int) -> None:
    for drawn in drawn_for_commit(SEEDS)[chunk::CHUNKS]:
        assert_right(try_out(drawn, traced=False))


@pytest.mark.parametrize("world", past(), ids=lambda one: f"{one.drawn.seed}: {one.found}")
def test_a_world_that_once_failed_is_right(world: Past) -> None:
    assert_right(try_out(world.drawn))


# --- the same seed is the same world ---


def one_of_each_kind() -> list[int]:
    first = {kind: next(s for s in range(1000) if draw(s).kind is kind) for kind in Kind}
    return sorted(first.values())


ASK = """
import sys
from tests.simulation.draw import draw
from tests.simulation.trial import try_out
for seed in sys.argv[1:]:
    print(try_out(draw(int(seed))).fingerprint)
"""


@pytest.mark.parametrize("hash_seed", ["1", "2"])
def test_a_seed_is_the_same_world_in_every_process_whatever_strings_hash_to(hash_seed: str) -> None:
    seeds = one_of_each_kind()
    here = [try_out(draw(seed)).fingerprint for seed in seeds]

    answer = subprocess.run(
        [sys.executable, "-c", ASK, *map(str, seeds)],
        cwd=ROOT,
        env=os.environ | {"PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=True,
    )

    assert answer.stdout.split() == here


def test_a_seed_is_the_same_world_twice_in_one_process_with_others_between() -> None:
    seeds = one_of_each_kind()
    first = [try_out(draw(seed)).fingerprint for seed in seeds]

    assert [try_out(draw(seed)).fingerprint for seed in reversed(seeds)] == first[::-1]
    assert len(set(first)) == len(Kind)
