"""What a run has found, for people: a table, and the gaps as `excused.toml` would have them."""

from collections.abc import Sequence

from tests.mutation.judge import Judged

_COLUMNS = ("mutants", "killed", "wording", "excused", "gaps", "killed %", "seconds")


def table(judged: Sequence[Judged]) -> str:
    """A line per module and one for all."""
    lines = [f"{'module':16}" + "".join(f"{name:>10}" for name in _COLUMNS)]
    lines += [_line(one.module, [one]) for one in judged]
    lines += [_line("all", judged)]
    return "\n".join(lines)


def _line(name: str, judged: Sequence[Judged]) -> str:
    mutants, killed = sum(one.mutants for one in judged), sum(one.killed for one in judged)
    figures = (
        mutants,
        killed,
        sum(one.wordings for one in judged),
        sum(one.excused for one in judged),
        sum(len(one.gaps) for one in judged),
    )
    share = f"{100 * killed / mutants:10.1f}" if mutants else f"{'-':>10}"
    seconds = f"{sum(one.seconds for one in judged):10.0f}"
    return f"{name:16}" + "".join(f"{figure:10}" for figure in figures) + share + seconds


def as_toml(judged: Judged) -> str:
    """The gaps, to be closed by a test or excused; and the excuses that have none."""
    text = "".join(
        f'\n[[excused]]\nmodule = "{judged.module}"\nfunction = "{gap.function}"\n'
        f"reason = \"\"\ndiffs = [\n'''\n{gap.diff}\n''',\n]\n"
        for gap in judged.gaps
    )
    stale = "".join(
        f"\n# No survivor needs this excuse: {judged.module}.{one.function}\n"
        + "".join(f"#   {line}\n" for line in one.diff.splitlines())
        for one in judged.stale
    )
    return text + stale
