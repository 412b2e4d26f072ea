"""Running mutmut on a copy of the tree, and reading what it wrote."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import chdir
from pathlib import Path

from mutmut.mutation.diff_apply import get_diff_for_mutant

from tests.mutation.judge import Mutant, Mutants, function_of
from tests.mutation.settings import Plan

NOTICED = {1, 3, -24, 24, 36, 152, 255, -9, -11}
"""Exit codes: a test failed, pytest could not even start, it ran too long, or it crashed."""
COPIED = ("tests", "local", "functions", "infra", "events", "docs")
NICE = ("nice", "-n", "19")


def prepare(folder: Path, root: Path, plan: Plan, modules: Sequence[str]) -> None:
    """A fresh copy of what the tests import; `metering` stands at its top, where mutmut looks."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(root / "layers/metering/python/metering", folder / "metering", ignore=ignored)
    for name in COPIED:
        shutil.copytree(root / name, folder / name, ignore=ignored)
    settings = (root / "pyproject.toml").read_text()
    (folder / "pyproject.toml").write_text(settings + _mutmut_settings(plan, modules))


def _mutmut_settings(plan: Plan, modules: Sequence[str]) -> str:
    settings = {
        "source_paths": ["metering"],
        "only_mutate": [f"metering/{name}.py" for name in modules],
        "also_copy": list(COPIED),
        "pytest_add_cli_args_test_selection": list(plan.tests),
        "pytest_add_cli_args": ["-p", "no:cacheprovider", *_ignored(plan)],
    }
    lines = [f"{name} = {json.dumps(value)}\n" for name, value in settings.items()]
    lines += ["use_git_change_detection = false\n", "track_dependencies = false\n"]
    return "\n[tool.mutmut]\n" + "".join(lines)


def _ignored(plan: Plan) -> Iterator[str]:
    return (f"--ignore={path}" for path in plan.left_out)


def run_mutmut(folder: Path) -> None:
    """Try all mutants; what mutmut says goes to `mutmut.log`.

    Raises:
        SystemExit: the tests fail without any mutant, or mutmut itself does.
    """
    command = [*NICE, str(Path(sys.executable).with_name("mutmut")), "run", "--max-children", "1"]
    path = folder / "mutmut.log"
    with path.open("w") as log:
        done = subprocess.run(
            command, cwd=folder, env=_environment(), stdout=log, stderr=log, check=False
        )
    if done.returncode:
        raise SystemExit(f"mutmut ended with {done.returncode}; the end of {path} says why")


def _environment(**more: str) -> dict[str, str]:
    return {**os.environ, "HYPOTHESIS_PROFILE": "mutation", **more}


def found(folder: Path, plan: Plan, module: str) -> Mutants:
    """The mutants of a module as the last run left them."""
    with chdir(folder):
        path = Path("metering") / f"{module}.py"
        read = json.loads((Path("mutants") / f"{path}.meta").read_text())
        seconds = read["durations_by_key"]
        return Mutants(
            module,
            [
                Mutant(
                    function_of(key),
                    _diff(key, path),
                    code in NOTICED or _is_noticed_at_import(key, plan),
                    seconds.get(key, 0.0),
                )
                for key, code in read["exit_code_by_key"].items()
            ],
        )


def _diff(key: str, path: Path) -> str:
    lines = get_diff_for_mutant(key, path=path).splitlines()[2:]
    return "\n".join(f"{line[0]} {line[1:].strip()}" for line in lines if line[:1] in {"-", "+"})


def _is_noticed_at_import(key: str, plan: Plan) -> bool:
    """Whether tests in a process of their own notice a mutant that runs as its module is read."""
    name = f"{key.split('.')[1]}.{function_of(key)}"
    if name not in plan.at_import:
        return False
    command = [*NICE, sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
    environment = _environment(MUTANT_UNDER_TEST=key, PYTHONPATH=".")
    done = subprocess.run(
        [*command, *plan.at_import[name]],
        cwd="mutants",
        env=environment,
        capture_output=True,
        check=False,
    )
    return done.returncode != 0
