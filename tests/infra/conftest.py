"""Fixtures of the tests of what is deployed."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from infra.context import deployment_from
from infra.deployments import Deployment
from tests.infra.synthesis import DEPLOYMENTS, synthesized
from tests.infra.template import Template, templates_in


@dataclass(frozen=True, slots=True)
class Synthesized:
    """One deployment's cloud assembly."""

    deployment: Deployment
    folder: Path
    templates: dict[str, Template]

    @property
    def data(self) -> Template:
        return self.templates["data"]

    @property
    def pipeline(self) -> Template:
        return self.templates["pipeline"]

    @property
    def observability(self) -> Template:
        return self.templates["observability"]

    def artifact(self, stack: str) -> dict[str, Any]:
        """What the assembly says of a stack."""
        manifest = json.loads((self.folder / "manifest.json").read_text())
        found: dict[str, Any] = manifest["artifacts"][self.deployment.prefix + stack]
        return found


@pytest.fixture(scope="session")
def assembly() -> Path:
    return synthesized()


@pytest.fixture(scope="session", params=["dev", "prod", "full"])
def stacks(assembly: Path, request: pytest.FixtureRequest) -> Synthesized:
    """Each deployment in turn."""
    return _synthesized(assembly, request.param)


@pytest.fixture(scope="session")
def full(assembly: Path) -> Synthesized:
    """The deployment that has everything."""
    return _synthesized(assembly, "full")


@pytest.fixture(scope="session")
def prod(assembly: Path) -> Synthesized:
    return _synthesized(assembly, "prod")


@pytest.fixture(scope="session")
def bare(assembly: Path) -> Synthesized:
    """The deployment that leaves away what it can."""
    return _synthesized(assembly, "bare")


@pytest.fixture(scope="session")
def dev(assembly: Path) -> Synthesized:
    return _synthesized(assembly, "dev")


def _synthesized(assembly: Path, name: str) -> Synthesized:
    folder = assembly / name
    return Synthesized(deployment_from(DEPLOYMENTS[name]), folder, templates_in(folder))
