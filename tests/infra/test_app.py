"""`app.py` as the command `cdk` runs it, from the real assets and without credentials."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from infra.packaging import assets
from tests.infra.synthesis import CONTEXT, PROJECT

CDK_JSON = json.loads((PROJECT / "cdk.json").read_text())


def _run(out: Path, context: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    handed_over = {"CDK_OUTDIR": str(out), "CDK_CONTEXT_JSON": json.dumps(context)}
    without = {name: one for name, one in os.environ.items() if not name.startswith("AWS_")}
    return subprocess.run(
        CDK_JSON["app"].split(),
        cwd=PROJECT,
        env=without | handed_over,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_app_is_synthesized_from_its_assets_without_credentials(tmp_path: Path) -> None:
    assets.built("aarch64")

    ran = _run(tmp_path, CONTEXT)

    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")
    assert {one.name for one in tmp_path.glob("*.template.json")} == {
        f"stripemeter-dev-{stack}.template.json" for stack in ("data", "pipeline", "observability")
    }
    packed = {one.name for asset in tmp_path.glob("asset.*") for one in asset.iterdir()}
    assert {"functions", "metering", "python"} <= packed


def test_the_app_says_in_one_line_what_cannot_be_deployed(tmp_path: Path) -> None:
    ran = _run(tmp_path, CONTEXT | {"env": "prod", "lateness_h": "-1"})

    assert ran.returncode == 1
    assert ran.stderr == (
        "error: -c at the command line: lateness_h must be a whole number from 0 to 8784,"
        " not '-1'\n"
    )
