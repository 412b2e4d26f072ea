"""What the documents name is there."""

import re
from pathlib import Path

import pytest
from typer.core import TyperGroup
from typer.main import get_command

from infra.deployments import DEV
from infra.environment import secrets_of
from local.cli import main
from metering.notice import SNAPSHOT_TYPES, THIN_TYPES

PROJECT = Path(__file__).parents[2]
LIFE = (PROJECT / "docs/life-of-an-event.md").read_text()
SOURCES = "\n".join(
    path.read_text()
    for folder in ("functions", "layers")
    for path in (PROJECT / folder).rglob("*.py")
)
DOCUMENTS = [PROJECT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")]
DOCUMENTS += sorted((PROJECT / "docs").rglob("*.md"))


def test_every_file_of_an_events_life_exists() -> None:
    files = set(re.findall(r"`((?:functions|metering)/[\w/]+\.py)`", LIFE))

    assert len(files) > 15
    for file in files:
        folder = "" if file.startswith("functions") else "layers/metering/python/"
        assert (PROJECT / (folder + file)).is_file(), file


def test_every_function_of_an_events_life_exists() -> None:
    named = set(re.findall(r"\.py` `([\w.]+)`", LIFE)) | set(re.findall(r"`(\w+\.\w+)`", LIFE))
    names = {part for name in named if not name.endswith(".py") for part in name.split(".")}

    assert len(names) > 25
    for name in names:
        assert re.search(rf"\b(def|class) {name}\b", SOURCES), name


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_within_the_documents_leads_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", document.read_text()):
        if "://" not in target:
            assert (document.parent / target).exists(), target


def test_the_index_of_decisions_lists_each_of_them() -> None:
    folder = PROJECT / "docs/decisions"
    listed = re.findall(
        r"^\| \[(\d{4})\]\((.+)\)", (folder / "README.md").read_text(), re.MULTILINE
    )

    assert [name for _, name in listed] == sorted(path.name for path in folder.glob("0*.md"))
    assert all(name.startswith(number) for number, name in listed)


def test_every_file_of_the_cdk_app_has_a_line_of_its_own() -> None:
    page = (PROJECT / "docs/aws.md").read_text()
    named = set(re.findall(r"`(\w+\.py)`", page[page.index("## The files") :]))

    files = {path.name for path in (PROJECT / "infra/cdk").glob("*.py")} - {"__init__.py"}
    assert named == files


def test_the_deployment_guide_names_every_event_that_stripe_is_to_tell() -> None:
    guide = (PROJECT / "docs/deploying.md").read_text()
    named = set(re.findall(r"`((?:invoice|customer|billing|v1)\.[a-z_.]+)`", guide))

    assert named == set(SNAPSHOT_TYPES) | set(THIN_TYPES)


def test_every_secret_and_make_target_of_the_deployment_guide_exists() -> None:
    guide = (PROJECT / "docs/deploying.md").read_text()
    secrets = set(re.findall(r"--secret-id stripemeter/dev/([\w-]+)", guide))

    makefile = (PROJECT / "Makefile").read_text()
    targets = set(re.findall(r"(?:^|`|&& )make ([a-z-]+)", guide, re.MULTILINE))

    assert secrets == {"stripe-key", "stripe-webhook"} <= set(secrets_of(DEV))
    assert {"deploy", "smoke", "preflight"} <= targets
    assert targets <= set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))


def test_every_command_of_stripemeter_in_the_documents_exists() -> None:
    command = get_command(main)
    assert isinstance(command, TyperGroup)
    named = {
        name
        for document in DOCUMENTS
        for name in re.findall(r"\.venv/bin/stripemeter ([a-z]+)", document.read_text())
    }

    assert {"tenant", "canary", "archive", "outputs"} <= named
    assert named <= set(command.commands)
