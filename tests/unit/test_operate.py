"""The operator's commands where no deployment is needed: preflight, outputs, destroy, archive."""

import gzip
import io
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws
from rich.console import Console
from typer.testing import CliRunner

from infra.deployments import DEV, PROD
from infra.functions import FUNCTIONS
from infra.operate import archive, checks, destroy, outputs, place, preflight
from infra.operate.checks import Check
from infra.operate.cli import main
from infra.tables import TABLES
from metering.adapters.dynamodb.ledger_item import to_item
from metering.archive import EVER, State, Window
from tests.builders import an_entry

# --- preflight ---


def node(version: str) -> preflight.Run:
    return lambda command: {"node": version}[command[0]]


def no_node(command: list[str]) -> str:
    raise FileNotFoundError(command[0])


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> Iterator[boto3.Session]:
    with mock_aws():
        yield boto3.Session(region_name="us-east-1")


def bootstrapped(session: boto3.Session, version: int) -> None:
    parameter = {"Name": preflight.BOOTSTRAP_PARAMETER, "Value": str(version), "Type": "String"}
    session.client("ssm").put_parameter(**parameter)


def wrong(
    session: boto3.Session, program: preflight.Run, env: str = "dev", granted: int = 1_000
) -> dict[str, str]:
    made = list(preflight.run(env, session=session, run_program=program, granted=lambda _: granted))
    return {one.name: one.fix for one in made if not one.is_right and one.name != "CDK"}


def test_all_is_right_where_cdk_was_bootstrapped(session: boto3.Session) -> None:
    bootstrapped(session, 27)

    assert wrong(session, node("v22.11.0\n")) == {}


def test_each_thing_that_is_missing_is_told_with_its_fix(session: boto3.Session) -> None:
    found = wrong(session, no_node, env="live")

    assert found.keys() == {"deployment", "Node", "CDK bootstrap"}
    assert "-c env=" in found["deployment"]
    bootstrap = "npx cdk bootstrap aws://123456789012/us-east-1"
    assert found["CDK bootstrap"] == f"make setup-deploy && {bootstrap}"


@pytest.mark.parametrize("version", ["v18.20.0", "v9.0.0", "nonsense"])
def test_a_node_that_is_too_old_is_told(session: boto3.Session, version: str) -> None:
    bootstrapped(session, 27)

    assert wrong(session, node(version)).keys() == {"Node"}


def test_a_bootstrap_that_is_too_old_is_told(session: boto3.Session) -> None:
    bootstrapped(session, 5)

    assert wrong(session, node("v24.1.0")).keys() == {"CDK bootstrap"}


def test_an_account_that_may_run_less_at_once_than_is_counted_on_is_told(
    session: boto3.Session,
) -> None:
    bootstrapped(session, 27)

    found = wrong(session, node("v24.1.0"), granted=10)

    assert found.keys() == {"Lambda concurrency"}
    assert '"concurrency": 10 under "stripemeter:dev"' in found["Lambda concurrency"]


def test_without_credentials_and_region_nothing_else_of_aws_is_asked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))

    found = wrong(boto3.Session(), node("v22.0.0"))

    assert found.keys() == {"region", "credentials"}
    assert "aws sso login" in found["credentials"]


def test_checks_are_printed_with_their_fixes_and_make_the_exit_code() -> None:
    out = Console(file=io.StringIO(), width=200)
    good, bad = Check("one", True, "fine"), Check("two", False, "[no]", "do [this]")  # noqa: FBT003

    assert checks.show("Title", [good], console=out) == 0
    assert checks.show("Title", [good, bad], console=out) == 1
    assert isinstance(out.file, io.StringIO)
    assert out.file.getvalue().splitlines()[-3:] == [
        "  ✓ one: fine",
        "  ✗ two: [no]",
        "    fix: do [this]",
    ]


# --- outputs ---


def written(folder: Path, stacks: dict[str, Any]) -> Path:
    (folder / "outputs-dev.json").write_text(json.dumps(stacks))
    return folder


def test_the_outputs_of_all_stacks_are_one(tmp_path: Path) -> None:
    build = written(
        tmp_path,
        {
            "a": {"ApiUrl": "https://x.example/", "ExportsOutputRefApiCD79AAA0": "abc"},
            "b": {"QueueUrl": "https://q"},
        },
    )

    assert place.outputs_of("dev", build) == {
        "ApiUrl": "https://x.example/",
        "QueueUrl": "https://q",
    }
    assert place.api_url_of("dev", build) == "https://x.example"


def test_outputs_that_are_not_there_say_what_writes_them(tmp_path: Path) -> None:
    with pytest.raises(place.MissingOutputsError, match="make deploy ENV=dev"):
        place.outputs_of("dev", tmp_path)
    with pytest.raises(place.MissingOutputsError, match="ApiUrl"):
        place.api_url_of("dev", written(tmp_path, {"a": {}}))


def test_the_box_shows_where_everything_is_and_the_next_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = written(tmp_path, {"a": {"ApiUrl": "https://x.example", "DashboardUrl": "https://d"}})
    monkeypatch.setattr(outputs, "outputs_of", lambda env: place.outputs_of(env, build))
    out = Console(file=io.StringIO(), width=200)

    outputs.show("dev", console=out)

    assert isinstance(out.file, io.StringIO)
    text = out.file.getvalue()
    assert "StripeMeter dev on AWS" in text
    assert "API URL        https://x.example" in text
    assert "dashboard URL  https://d" in text
    assert "--secret-id stripemeter/dev/stripe-key" in text
    assert "STRIPEMETER_KEY=sm_... make smoke ENV=dev" in text


# --- destroy ---


def test_a_deployment_that_keeps_data_asks_for_its_name_once_more(
    capsys: pytest.CaptureFixture[str],
) -> None:
    became: list[list[str]] = []
    for confirm in ("", "dev", "yes"):
        with pytest.raises(destroy.NotConfirmedError, match="CONFIRM=prod"):
            destroy.run("prod", confirm, become=became.append)
    assert became == []

    destroy.run("prod", "prod", become=became.append)
    destroy.run("dev", "", become=became.append)

    assert became == [
        [
            *("npx", "cdk", "destroy"),
            *("stripemeter-prod-pipeline", "stripemeter-prod-observability"),
            *("-c", "env=prod"),
        ],
        ["npx", "cdk", "destroy", "--all", "-c", "env=dev"],
    ]
    said = capsys.readouterr().out
    assert all(f"stripemeter-prod-{table.name}" in said for table in TABLES)
    assert "Everything of dev goes" in said


def test_what_stays_follows_from_whether_the_deployment_keeps_its_data() -> None:
    kept = destroy.what_stays(replace(DEV, keeps_data=True))

    assert kept[1] == "The stack stripemeter-dev-data stays, protected, and costs what it stores:"
    assert destroy.what_stays(replace(PROD, keeps_data=False))[0].startswith("Everything of prod")


@pytest.mark.parametrize("command", ["destroy", "outputs", "canary", "archive list"])
def test_a_deployment_that_nobody_describes_is_an_error_and_no_trace(command: str) -> None:
    result = CliRunner().invoke(main, [*command.split(), "--env", "live"])

    assert result.exit_code == 1
    assert result.stderr.startswith("error: env is 'live'; name one of dev, prod")


def test_the_commands_help_is_there_at_once() -> None:
    """Nothing of AWS is imported before a command runs."""
    code = (
        "import sys; from infra.operate import cli;"
        "print([name for name in ('boto3', 'httpx', 'aws_cdk') if name in sys.modules])"
    )
    said = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        check=True,
        text=True,
        cwd=place.PROJECT,
    )

    assert said.stdout.strip() == "[]"


# --- archive ---


def exported(folder: Path, name: str, *records: dict[str, Any]) -> None:
    path = folder / name
    path.parent.mkdir(parents=True)
    with gzip.open(path, "wt") as file:
        file.writelines(json.dumps(record, default=bytes.hex) + "\n" for record in records)


def test_each_entry_of_an_archive_is_read_once_with_all_its_digits(tmp_path: Path) -> None:
    one, two, three = (
        to_item(an_entry(text, key=f"key-{number}"), index_shards=0)
        for number, text in enumerate(["1.10", "12345678901234.123457", "3"])
    )
    data = "AWSDynamoDB/01/data/a.json.gz"
    exported(tmp_path, f"ever--2026-11-20T1200-full/{data}", {"Item": one}, {"Item": two})
    change = {"Keys": {"pk": three["pk"]}, "NewImage": three, "Metadata": {}}
    again = {"Keys": {"pk": two["pk"]}, "NewImage": two, "Metadata": {}}
    exported(tmp_path, f"2026-11-20T1200--2026-11-21T1200/{data}", change, again)

    found = [json.loads(line) for line in archive.lines(tmp_path)]

    assert sorted((one["idempotencyKey"], Decimal(one["quantity"])) for one in found) == [
        ("key-0", Decimal("1.1")),
        ("key-1", Decimal("12345678901234.123457")),
        ("key-2", Decimal(3)),
    ]
    assert {one["receivedAt"] for one in found} == {"2026-11-20T12:00:00.000000Z"}


def test_a_window_is_one_line() -> None:
    window = Window(
        EVER,
        datetime(2026, 11, 20, 12, tzinfo=UTC),
        is_full=True,
        state=State.DONE,
        manifest="ledger/x/manifest-summary.json",
        entries=1234567,
        billed_bytes=987654321,
    )

    assert archive.line_of(window).split() == [
        "ever--2026-11-20T1200-full",
        "done",
        *("1,234,567", "entries", "987.7", "MB"),
        "ledger/x/manifest-summary.json",
    ]


def test_canary_and_archiver_are_functions_like_the_others() -> None:
    assert {"canary", "archiver"} <= {one.name for one in FUNCTIONS}
