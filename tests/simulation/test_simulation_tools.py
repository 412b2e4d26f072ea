"""What people touch: options, stories, shrinking, soaks, the table of situations."""

import random
from collections import deque
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from rich.console import Console

from tests.simulation import corpus, made_up
from tests.simulation.draw import FAULT_NAMES, Drawn, Kind, draw
from tests.simulation.kernel import EndlessWorldError
from tests.simulation.options import (
    OptionError,
    changed,
    command,
    differences,
    flat,
    text_of,
    without,
)
from tests.simulation.report import as_markdown
from tests.simulation.run import Lived, live
from tests.simulation.shrink import Shrinking
from tests.simulation.situations import (
    SITUATIONS,
    Site,
    never,
    sites_of,
    situations_of,
    untouched,
)
from tests.simulation.soak import Order, Soaked, run, soak
from tests.simulation.story import as_text
from tests.simulation.tally import Tally
from tests.simulation.trial import ENDLESS, try_out
from tests.simulation.violation import Violation
from tests.simulation.workers import DIED, Workers

# --- options ---


@pytest.mark.parametrize("seed", range(20))
def test_every_field_of_a_world_can_be_written_and_read_back(seed: int) -> None:
    drawn, other = draw(seed), draw(seed + 1000)
    options = [f"{name}={text_of(value)}" for name, value in flat(other)]

    assert changed(drawn, options) == replace(other, seed=seed)


@pytest.mark.parametrize("seed", range(20))
def test_a_changed_world_is_named_by_what_was_changed(seed: int) -> None:
    chance = random.Random(seed)
    off = chance.sample(FAULT_NAMES, chance.randrange(len(FAULT_NAMES)))
    smaller = replace(without(draw(seed), off), events=5, left_out=(0, 1, 2, 4))

    assert changed(draw(seed), differences(smaller)) == smaller


def test_a_world_as_its_seed_draws_it_needs_no_option() -> None:
    assert command(draw(7)) == "make sim SEED=7"


def test_options_are_as_short_as_they_can_be() -> None:
    drawn = replace(without(draw(3), ["all"]), left_out=(0, 1, 2, 5))
    assert command(drawn) == 'make sim SEED=3 ARGS="--set faults=off --set left_out=0-2,5"'


@pytest.mark.parametrize(
    ("option", "help_"),
    [
        ("evnts=3", "did you mean `events`"),
        ("faults.crsh=0", "did you mean `crash`"),
        ("faults=0", "faults.crash"),
        ("events=many", "takes a value like"),
        ("kind=all", "one of counting, billing, closing"),
    ],
)
def test_a_wrong_option_is_told_what_there_is(option: str, help_: str) -> None:
    with pytest.raises(OptionError, match=help_):
        changed(draw(0), [option])


# --- the corpus ---


def test_a_line_of_the_corpus_brings_back_the_world() -> None:
    smaller = replace(draw(9), events=4)

    (back,) = corpus.past(["# a comment", "", corpus.line_of(smaller, "I5 at 0123abcd")])

    assert back == corpus.Past(smaller, "I5 at 0123abcd")


def test_fresh_seeds_are_the_commits(monkeypatch: pytest.MonkeyPatch) -> None:
    assert corpus.fresh(50) == corpus.fresh(50)
    monkeypatch.setattr(corpus, "commit", lambda: "another")
    other = corpus.fresh(50)
    monkeypatch.undo()
    assert other.start != corpus.fresh(50).start


def test_without_git_the_content_stands_for_the_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert corpus.commit() == corpus.commit()
    assert len(corpus.commit()) == 40
    assert not corpus.is_changed()


# --- worlds that go wrong ---


def broken_live(drawn: Drawn, begun: Any) -> Lived:
    """A real world with an invariant that no world keeps once two events were sent."""
    lived = live(drawn, begun)
    sent = len(lived.clients.copies)
    if sent > 1:
        lived.violations = (Violation("I99", f"at most 1 event is sent, and {sent} were"),)
    return lived


def test_a_failing_world_tells_its_seed_its_steps_both_numbers_and_how_to_see_it_again() -> None:
    drawn = replace(draw(2), events=5)

    story = as_text(try_out(drawn, live=broken_live))

    assert "seed 2: a" in story
    assert "broken I99: at most 1 event is sent, and 5 were" in story
    assert "replay:" in story
    assert command(drawn) in story
    assert corpus.line_of(drawn, "I99") in story
    assert corpus.commit()[:12] in story
    assert "The last " in story
    assert " ended" in story


def test_a_world_that_is_right_says_so_with_its_numbers() -> None:
    trial = replace(made_up.right(draw(1)), numbers=(("api_calls of cus_0", "12.5"),))
    story = as_text(trial)
    assert "every number is right" in story
    assert "12.5" in story
    assert "broken" not in story


def test_a_world_that_raises_fails_with_the_traceback_and_the_steps_before() -> None:
    def raising(drawn: Drawn, begun: Any) -> Lived:
        live(drawn, begun)
        raise ZeroDivisionError("at the very end")

    trial = try_out(draw(2), live=raising)

    assert trial.invariants == ("I0 ZeroDivisionError",)
    assert "at the very end" in trial.broken[0].sentence
    assert "raising" in trial.broken[0].sentence
    assert trial.last


def test_a_world_without_an_end_fails() -> None:
    def endless(drawn: Drawn, begun: Any) -> Lived:
        raise EndlessWorldError("no end after 60001 steps")

    def hanging(drawn: Drawn, begun: Any) -> Lived:
        while True:
            pass

    assert try_out(draw(2), live=endless).invariants == (ENDLESS,)
    assert try_out(draw(2), live=hanging, cpu_limit_s=0.05).invariants == (ENDLESS,)


# --- shrinking ---


def a_crashing_world() -> Drawn:
    drawn = draw(3)
    rates = replace(draw(0).faults, crash=0.01, throttle=0.05, stale=0.2)
    return replace(drawn, kind=Kind.CLOSING, events=40, span=timedelta(hours=8), faults=rates)


def test_shrinking_leaves_what_it_takes_to_break_the_same_invariant() -> None:
    found = made_up.breaks_with_crashes(a_crashing_world())

    smallest = Shrinking(found, made_up.breaks_with_crashes).run().drawn

    on = [name for name in FAULT_NAMES if getattr(smallest.faults, name)]
    assert on == ["crash"]
    assert smallest.kind is Kind.COUNTING
    assert [at for at in range(smallest.events) if at not in smallest.left_out] == [3]
    assert (smallest.tenants, smallest.customers, smallest.shards) == (1, 1, 1)
    assert smallest.span == timedelta(hours=1)


def test_shrinking_makes_no_more_trials_than_it_may() -> None:
    found = made_up.breaks_with_crashes(a_crashing_world())
    tried = []

    def count(drawn: Drawn) -> Any:
        tried.append(drawn)
        return made_up.breaks_with_crashes(drawn)

    smallest = Shrinking(found, count, trials_max=7).run()

    assert len(tried) == 7
    assert smallest.invariants == ("I16",)


# --- soaks ---


def a_console() -> Console:
    return Console(quiet=True)


def test_a_soak_counts_every_world_once_whoever_lived_through_it() -> None:
    soaked = soak(Order(100, first=5, jobs=2), a_console(), made_up.right)

    assert soaked.tally.worlds == 100
    assert soaked.tally.times["a client was told of a duplicate"] == 200
    assert soaked.tally.virtual == timedelta(hours=100)
    assert soaked.exit_code == 0


def test_a_world_that_takes_its_process_down_is_found_and_the_others_are_not_lost() -> None:
    soaked = soak(Order(40, jobs=1), a_console(), made_up.mortal)

    assert soaked.tally.worlds == 40
    assert soaked.tally.failed == {made_up.DEADLY: DIED}
    assert soaked.exit_code == 1


def test_a_world_that_hangs_beyond_every_timer_is_killed_and_found() -> None:
    workers = Workers(1, deque([range(10, 20)]), made_up.hanging, stuck_after_s=0.3)
    tally = Tally()

    for some in workers.tallies():
        tally.add_all(some)

    assert tally.worlds == 10
    assert tally.failed == {made_up.ENDLESS: DIED}


def test_a_failing_soak_tells_small_worlds_and_lines_for_the_corpus(
    capsys: pytest.CaptureFixture[str], tmp_path: Any
) -> None:
    report = tmp_path / "soak.md"

    code = run(Order(30, jobs=1, report=report), made_up.breaks_with_crashes)

    told = capsys.readouterr().out
    assert code == 1
    assert "12.5 were counted, 10 were told" in told
    assert "# I16 at " in told
    assert "--set left_out=" in told
    assert "I16: `make sim SEED=" in report.read_text()


def test_a_soak_that_must_meet_every_situation_fails_for_one_that_was_never_met() -> None:
    tally = Tally()
    tally.add(made_up.right(draw(0)))
    soaked = Soaked(Order(1, require_situations=True), tally, 1.0, is_whole=True)

    assert soaked.exit_code == 1
    assert len(soaked.missing) == len(SITUATIONS) - 2
    assert "| **0** | **0** |" in as_markdown(soaked)


def test_a_long_soak_must_meet_every_situation_unless_somebody_stopped_it() -> None:
    tally = Tally()
    tally.add(made_up.right(draw(0)))
    assert Soaked(Order(100_000), tally, 1.0, is_whole=True).exit_code == 1
    assert Soaked(Order(100_000), tally, 1.0, is_whole=False).exit_code == 0


# --- situations ---


def test_a_situation_is_met_by_its_keys_or_by_its_own_sentence() -> None:
    sentence = "Stripe accepted, then the writer died before it noted that"
    key = "crash after | writer | post v1/billing/meter_events"
    assert situations_of({key: 3})[sentence] == 3
    assert situations_of({sentence: 1})[sentence] == 1
    assert situations_of({key.replace("writer", "reconciler"): 3})[sentence] == 0
    assert sentence not in never(situations_of({key: 3}))


def test_no_two_situations_have_one_sentence() -> None:
    assert len({one.sentence for one in SITUATIONS}) == len(SITUATIONS)


def test_the_matrix_names_each_fault_that_never_hit_a_call() -> None:
    sites = sites_of({"lost | api | GetItem": 2, "lost | writer | get v1/prices/*": 1, "other": 4})

    assert list(sites) == [Site("api", "GetItem"), Site("writer", "get v1/prices/*")]
    assert (Site("api", "GetItem"), "throttled") in list(untouched(sites))
    assert (Site("api", "GetItem"), "delayed") not in list(untouched(sites))
    assert (Site("api", "GetItem"), "lost") not in list(untouched(sites))
