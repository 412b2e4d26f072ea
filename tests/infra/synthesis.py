"""The templates of four deployments, synthesized once for all tests and all their processes.

`dev` and `prod` are those of `cdk.json`; `full` has everything that a deployment can have, and
`bare` leaves away what can be. The code of the functions is left out: assets are another matter,
and a template only holds their hash.
"""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).parents[2]
BUILD = PROJECT / "build/infra-tests"
CONTEXT: dict[str, Any] = json.loads((PROJECT / "cdk.json").read_text())["context"]
FULL = {
    "keeps_data": True,
    "log_days": 365,
    "alarm_email": "oncall@example.com",
    "domain": {
        "name": "usage.example.com",
        "certificate_arn": "arn:aws:acm:us-east-1:111111111111:certificate/0a1b",
    },
    "capacity": {
        "write_units_min": 100,
        "write_units_max": 4_000,
        "read_units_min": 50,
        "read_units_max": 1_000,
    },
    "event_index": True,
    "lateness_h": 72,
    "schedules_s": {"reconciler": 900},
    "reserved_concurrency": {"writer": 1},
    "shadow": True,
    "tracing": True,
    "warehouse": True,
    "partner_event_bus": "aws.partner/stripe.com/ed_test_1",
}
BARE = {
    "keeps_data": False,
    "log_days": 1,
    "canary": False,
    "alarm_topic_arn": "arn:aws:sns:us-east-1:111111111111:pager",
}
DEPLOYMENTS: dict[str, dict[str, Any]] = {
    "dev": CONTEXT | {"env": "dev"},
    "prod": CONTEXT | {"env": "prod"},
    "full": CONTEXT | {"env": "full", "stripemeter:full": FULL},
    "bare": CONTEXT | {"env": "bare", "stripemeter:bare": BARE},
}
_MADE_FROM = ("infra/**/*.py", "cdk.json", "layers/metering/python/metering/config.py")


def synthesized() -> Path:
    """A folder with a cloud assembly for each of the deployments; made anew when its source is."""
    BUILD.mkdir(parents=True, exist_ok=True)
    with (BUILD / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = BUILD / _digest()
        if not done.exists():
            _make(done)
        return done


def _digest() -> str:
    digest = hashlib.sha256()
    sources = [path for pattern in _MADE_FROM for path in PROJECT.glob(pattern)]
    for path in [*sorted(sources), Path(__file__)]:
        digest.update(str(path.relative_to(PROJECT)).encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def _make(done: Path) -> None:
    for old in BUILD.iterdir():
        if old.is_dir():
            shutil.rmtree(old)
    unfinished = BUILD / "unfinished"
    command = [sys.executable, "-m", "tests.infra.synthesis", str(unfinished)]
    environment = os.environ | {"PYTHONWARNINGS": ""}
    made = subprocess.run(
        command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False
    )
    if made.returncode:
        raise RuntimeError(f"the app cannot be synthesized:\n{made.stderr[-4000:]}")
    unfinished.rename(done)


def main(out: Path) -> None:
    """What the process of its own does: the CDK's and its Node's memory go with it."""
    from aws_cdk import App, Validations  # noqa: PLC0415
    from cdk_nag import AwsSolutionsChecks  # noqa: PLC0415

    import infra.cdk.app as ours  # noqa: PLC0415 (only here: it starts Node)
    from infra.context import deployment_from  # noqa: PLC0415

    assets = {name: out / "assets" / name for name in ("functions", "runtime", "stripe")}
    for name, folder in assets.items():
        folder.mkdir(parents=True)
        (folder / "stands-for").write_text(name)
    for name, context in DEPLOYMENTS.items():
        app = App(context=context, outdir=str(out / name))
        ours.compose(app, deployment_from(context), assets)
        Validations.of(app).add_plugins(AwsSolutionsChecks(app))
        try:
            app.synth()
        except RuntimeError as error:
            # What cdk-nag finds is judged by a test; the templates are written all the same.
            if "ValidationFailed" not in str(error):
                raise


if __name__ == "__main__":
    main(Path(sys.argv[1]))
