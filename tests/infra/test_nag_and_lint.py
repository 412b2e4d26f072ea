"""What cdk-nag and cfn-lint think of the templates."""

import json
import subprocess
import sys
from fnmatch import fnmatchcase
from pathlib import Path

from infra.acknowledgements import ACKNOWLEDGEMENTS, Acknowledgement
from tests.infra.synthesis import DEPLOYMENTS

LINT_LEFT_OUT = {"W3005": "the CDK states dependencies also where a reference implies them"}


def _findings(assembly: Path) -> set[tuple[str, str]]:
    """Rule and construct, the deployment's name cut off its stack's."""
    found = set()
    for name in DEPLOYMENTS:
        report = json.loads((assembly / name / "validation-report.json").read_text())
        for plugin in report["pluginReports"]:
            for violation in plugin["violations"]:
                for construct in violation["violatingConstructs"]:
                    path = construct["constructPath"].removeprefix(f"stripemeter-{name}-")
                    found.add((violation["ruleName"], path))
    return found


def _is_meant(finding: tuple[str, str], by: Acknowledgement) -> bool:
    rule, path = finding
    return fnmatchcase(rule, by.rule) and fnmatchcase(path, by.path)


def test_every_finding_of_cdk_nag_is_acknowledged(assembly: Path) -> None:
    findings = _findings(assembly)

    assert len(findings) > 30
    assert [one for one in sorted(findings) if not _meant(one)] == []


def _meant(finding: tuple[str, str]) -> list[Acknowledgement]:
    return [one for one in ACKNOWLEDGEMENTS if _is_meant(finding, one)]


def test_no_acknowledgement_outlives_its_finding(assembly: Path) -> None:
    findings = _findings(assembly)

    unused = [
        one for one in ACKNOWLEDGEMENTS if not any(_is_meant(finding, one) for finding in findings)
    ]
    assert unused == []


def test_every_acknowledgement_says_why() -> None:
    assert all(len(one.why.split()) > 6 for one in ACKNOWLEDGEMENTS)


def test_cfn_lint_finds_nothing(assembly: Path) -> None:
    templates = [str(path) for path in sorted(assembly.glob("*/*.template.json"))]
    lint = str(Path(sys.executable).with_name("cfn-lint"))
    command = [lint, "--ignore-checks", *LINT_LEFT_OUT, "-t", *templates]

    linted = subprocess.run(command, capture_output=True, text=True, check=False)

    assert (linted.returncode, linted.stdout) == (0, "")
    assert len(templates) >= 3 * len(DEPLOYMENTS)
