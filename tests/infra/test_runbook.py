"""The runbook has a section for each alarm and names nothing that does not exist."""

import json
import re
from pathlib import Path

import pytest

from functions.api.description import document_of
from functions.api.handler import app
from infra.alarms import alarms_of
from infra.deployments import PROD
from infra.environment import secret_name, secrets_of
from infra.functions import FUNCTIONS, STRIPE_WEBHOOK, Queue, Schedule
from infra.tables import TABLES
from metering.adapters.emf import RULES
from tests.infra.test_alarms import WHOLE

ROOT = Path(__file__).parents[2]
RUNBOOK = (ROOT / "docs/runbook.md").read_text()
ALARMS, PROCEDURES = RUNBOOK.split("## Alarms\n")[1].split("## Procedures\n")
PARTS = ("What it means", "What is at stake", "Look", "Mend", "Over when")


def sections(text: str) -> dict[str, str]:
    """By anchor, as GitHub makes it of the heading."""
    parts = re.split(r"^### (.+)\n", text, flags=re.MULTILINE)[1:]
    return {anchor_of(heading): body for heading, body in zip(parts[::2], parts[1::2], strict=True)}


def anchor_of(heading: str) -> str:
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def test_every_alarm_has_its_section_and_every_section_its_alarm() -> None:
    named = {alarm.section for alarm in alarms_of(WHOLE)}

    assert set(sections(ALARMS)) == named


@pytest.mark.parametrize("section", sections(ALARMS))
def test_a_section_says_what_it_means_what_is_lost_how_to_look_and_how_to_mend(
    section: str,
) -> None:
    body = sections(ALARMS)[section]

    assert tuple(re.findall(r"^\*\*([^*]+?)\.\*\* ", body, re.MULTILINE)) == PARTS


def test_links_within_the_runbook_lead_somewhere() -> None:
    anchors = set(sections(ALARMS)) | set(sections(PROCEDURES))
    anchors |= {"alarms", "procedures"} | set(re.findall(r'<a id="([\w-]+)">', RUNBOOK))

    assert set(re.findall(r"\]\(#([\w-]+)\)", RUNBOOK)) <= anchors


def test_every_procedure_that_was_promised_is_there() -> None:
    assert set(sections(PROCEDURES)) == {
        "rebuild-counters",
        "redrive-dead-letters",
        "what-was-given-up-and-whose-it-is",
        "rotate-the-stripe-key",
        "replay-events",
        "restore-from-a-backup",
        "a-region-is-lost",
    }


def test_every_resource_that_is_named_exists() -> None:
    names = {one.name for one in FUNCTIONS} | {one.name for one in TABLES}
    names |= {"api", "failures", "schedules-dead", "pipeline"}
    for function in FUNCTIONS:
        if isinstance(function.trigger, Queue):
            names |= {function.trigger.name, function.trigger.dead_letter_name}
    assert STRIPE_WEBHOOK.also is not None
    names.add(STRIPE_WEBHOOK.also.dead_letter_name)
    named = re.findall(r"stripemeter-\$ENV-([a-z][a-z_-]*[a-z])", RUNBOOK)

    assert len(named) > 20
    assert {name.removesuffix("-restored").removesuffix("-") for name in named} <= names


def test_every_function_that_is_run_or_read_exists_and_every_schedule_is_turned_off() -> None:
    called = set(re.findall(r"`(?:run|logs) ([a-z_]+)", RUNBOOK))
    scheduled = {one.name for one in FUNCTIONS if isinstance(one.trigger, Schedule)}

    assert called <= {one.name for one in FUNCTIONS}
    for listed in re.findall(r"for f in ([a-z_ ]+); do\n", RUNBOOK):
        assert set(listed.split()) == scheduled


def test_every_payload_is_json_that_its_function_knows() -> None:
    known = {"tenantId", "period", "verify", "customerRefs", "raiseIncarnation", "force"}
    payloads = re.findall(r"run ([a-z_]+) '([^']+)'", RUNBOOK)

    assert len(payloads) > 8
    for function, payload in payloads:
        handler = (ROOT / "functions" / function / "handler.py").read_text()
        for name in json.loads(payload):
            assert name in known
            assert f'"{name}"' in handler, (function, name)


def test_every_number_that_is_read_is_written() -> None:
    assert set(re.findall(r"`number (\w+)`", RUNBOOK)) <= set(RULES)


def test_every_route_exists() -> None:
    paths = set(json.loads(document_of(app))["paths"])
    named = re.findall(r"(?:\$API|(?:GET|PUT|POST) )(/[a-z][^\s\"`?]*)", RUNBOOK)

    assert len(named) > 15
    for path in named:
        assert any(matches(path, known) for known in paths), path


def matches(path: str, known: str) -> bool:
    given, parts = path.split("/"), known.split("/")
    return len(given) == len(parts) and all(
        one == other or other.startswith("{") for one, other in zip(given, parts, strict=True)
    )


def test_every_secret_exists() -> None:
    named = set(re.findall(r"stripemeter/\$ENV/([\w-]+)", RUNBOOK))

    assert named <= set(secrets_of(WHOLE))
    assert secret_name(PROD, "stripe-key") == "stripemeter/prod/stripe-key"
