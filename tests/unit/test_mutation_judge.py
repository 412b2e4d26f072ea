"""A mutant that no test notices is a gap, unless its text is excused or it is mere wording."""

import pytest

from tests.mutation.judge import Mutant, Mutants, function_of, is_wording, judge
from tests.mutation.reports import as_toml, table
from tests.mutation.settings import Excuse, excuses, read_plan

FLIPPED = "- if a < b:\n+ if a <= b:"
WORDS = '- raise ValueError("must not be 0")\n+ raise ValueError("XXmust not be 0XX")'


def mutants(survivors: list[str], killed: int) -> Mutants:
    made = [Mutant("f", "- a\n+ b", is_killed=True, seconds=1.0)] * killed
    left = [Mutant("f", diff, is_killed=False, seconds=1.0) for diff in survivors]
    return Mutants("times", made + left)


def test_a_module_is_well_when_nine_in_ten_are_noticed_and_the_rest_is_excused() -> None:
    excuse = Excuse("f", FLIPPED, "equivalent: b is never a")

    judged = judge(mutants([FLIPPED], 9), [excuse])

    assert judged.is_well
    assert (judged.mutants, judged.killed, judged.excused, judged.gaps) == (10, 9, 1, ())


def test_an_excuse_does_not_make_a_mutant_noticed() -> None:
    excuse = Excuse("f", FLIPPED, "equivalent")

    assert not judge(mutants([FLIPPED, FLIPPED], 9), [excuse, excuse]).is_well


@pytest.mark.parametrize(
    "known",
    [[], [Excuse("g", FLIPPED, "of another function")], [Excuse("f", WORDS, "another change")]],
)
def test_a_survivor_without_an_excuse_of_its_own_is_a_gap(known: list[Excuse]) -> None:
    judged = judge(mutants([FLIPPED], 99), known)

    assert not judged.is_well
    assert [gap.diff for gap in judged.gaps] == [FLIPPED]
    assert judged.stale == tuple(known)


def test_two_equal_changes_of_a_function_need_two_excuses() -> None:
    excuse = Excuse("f", FLIPPED, "equivalent")

    assert len(judge(mutants([FLIPPED, FLIPPED], 99), [excuse]).gaps) == 1


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('raise E("must not be 0")', 'raise E("XXmust not be 0XX")'),
        ('f"has {n} digits; Cut it",', 'f"HAS {N} DIGITS; CUT IT",'),
        ('return E(a, "no Such price", b)', 'return E(a, "no such price", b)'),
    ],
)
def test_the_letters_of_a_sentence_are_wording(before: str, after: str) -> None:
    assert is_wording(f"- {before}\n+ {after}")
    assert judge(mutants([f"- {before}\n+ {after}"], 9), []).wordings == 1


@pytest.mark.parametrize(
    "diff",
    [
        '- stop = Stop("refused", message)\n+ stop = Stop("XXrefusedXX", message)',
        '- raise E("must not be 0")\n+ raise E(None)',
        '- return f("a b", 1)\n+ return f("a b", 2)',
        '- " right",\n+ "XX rightXX",',
        "- a\n- b\n+ a",
    ],
)
def test_codes_and_everything_else_are_no_wording(diff: str) -> None:
    assert not is_wording(diff)


def test_a_gap_is_printed_as_the_file_of_excuses_would_have_it() -> None:
    judged = judge(mutants([FLIPPED], 9), [Excuse("f", WORDS, "gone")])

    assert "diffs = [\n'''\n- if a < b:\n+ if a <= b:\n''',\n]" in as_toml(judged)
    assert "# No survivor needs this excuse: times.f" in as_toml(judged)
    assert table([judged]).splitlines()[1].split() == [
        *("times", "10", "9", "0", "0", "1", "90.0", "10")
    ]


def test_a_mutant_names_its_function() -> None:
    assert function_of("metering.times.x_to_text__mutmut_12") == "to_text"
    assert function_of("metering.counter.xǁTallyǁ__add____mutmut_3") == "Tally.__add__"


def test_every_excuse_has_a_reason_and_is_of_a_module_that_is_mutated() -> None:
    modules = read_plan().modules

    known = [one for module in modules for one in excuses(module)]

    assert all(len(one.reason) > 10 for one in known)
    assert all(one.diff.startswith(("-", "+")) for one in known)
