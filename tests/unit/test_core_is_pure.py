"""The core asks ports: it imports no service, reads no clock, no environment, no randomness."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

CORE = Path(__file__).parents[2] / "layers/metering/python/metering"
MODULES = sorted(path for path in CORE.glob("*.py") if path.name != "wiring.py")
OUTSIDE = {"boto3", "botocore", "stripe", "os", "time", "random", "secrets", "uuid", "socket"}


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.stem)
def test_a_module_of_the_core_imports_nothing_from_outside(module: Path) -> None:
    names = set(imported(module))

    assert not {name for name in names if name.split(".")[0] in OUTSIDE}
    assert not {name for name in names if name.startswith(("metering.adapters", "metering.wiring"))}
