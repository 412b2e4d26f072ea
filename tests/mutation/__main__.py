"""Break the pure core in thousands of small ways, and see which of them the fast tests notice.

`python -m tests.mutation` takes all modules of `modules.toml`, `python -m tests.mutation pricing`
the ones that are named. It works on a copy in `build/mutation`, with mutmut, one mutant at a time.
It fails when fewer than nine in ten mutants of a module are noticed, and when one that is not
noticed has no excuse in `excused.toml`; those it prints as that file would have them.
"""

import sys
from argparse import ArgumentParser
from pathlib import Path

from tests.mutation.judge import judge
from tests.mutation.reports import as_toml, table
from tests.mutation.run import found, prepare, run_mutmut
from tests.mutation.settings import excuses, read_plan

ROOT = Path(__file__).parents[2]


def main() -> int:
    """Run, print, and answer the exit code."""
    plan = read_plan()
    parser = ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("modules", nargs="*", choices=[[], *plan.modules], help="all, if none")
    parser.add_argument("--folder", type=Path, default=ROOT / "build/mutation")
    parser.add_argument("--again", action="store_true", help="print what the last run has found")
    asked = parser.parse_args()
    modules = asked.modules or list(plan.modules)
    if not asked.again:
        prepare(asked.folder, ROOT, plan, modules)
        run_mutmut(asked.folder)
    judged = [judge(found(asked.folder, plan, name), excuses(name)) for name in modules]
    print(table(judged))
    for one in judged:
        print(as_toml(one), end="")
    return 0 if all(one.is_well for one in judged) else 1


if __name__ == "__main__":
    sys.exit(main())
