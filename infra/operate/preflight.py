"""What `make deploy` needs, checked before it does anything."""

import re
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from infra.operate.checks import Check
from infra.operate.place import PROJECT, UnknownDeploymentError, deployment_named

NODE_MIN = 20
"""CDK's Python library is a client of a Node process; of 20 it says that its end has come."""
BOOTSTRAP_VERSION_MIN = 6
"""Of the stack that CDK deploys through; what its default synthesizer asks for."""
BOOTSTRAP_PARAMETER = "/cdk-bootstrap/hnb659fds/version"

type Run = Callable[[list[str]], str]
"""What a program prints; raises `OSError` or `CalledProcessError`."""
type Granted = Callable[[boto3.Session], int]
"""How many invocations at once Lambda grants the account; raises botocore's errors."""


def run(
    env: str,
    *,
    session: boto3.Session | None = None,
    run_program: Run | None = None,
    granted: Granted | None = None,
) -> Iterator[Check]:
    """Each check, in the order in which they build on each other; AWS is only read."""
    program = run_program or _printed
    yield _deployment(env)
    yield _node(program)
    yield _cdk()
    found = session or boto3.Session()
    region = _region(found)
    yield region
    account = _account(found)
    yield account
    if region.is_right and account.is_right:
        yield _bootstrap(found, account.said)
        yield _concurrency(env, found, granted or _granted)


def _deployment(env: str) -> Check:
    name = "deployment"
    try:
        deployment = deployment_named(env)
    except UnknownDeploymentError as error:
        return Check(name, is_right=False, said=repr(env), fix=str(error))
    keeps = "keeps" if deployment.keeps_data else "does not keep"
    return Check(name, is_right=True, said=f"{env}, which {keeps} its data when it is destroyed")


def _node(program: Run) -> Check:
    fix = "install Node 22 or 24 (https://nodejs.org), and see `node --version` say so"
    try:
        said = program(["node", "--version"]).strip()
    except (OSError, subprocess.CalledProcessError):
        return Check("Node", is_right=False, said="not found", fix=fix)
    major = re.match(r"v(\d+)\.", said)
    is_right = major is not None and int(major[1]) >= NODE_MIN
    return Check("Node", is_right, said, fix)


def _cdk() -> Check:
    path = PROJECT / "node_modules" / "aws-cdk" / "package.json"
    said = "in node_modules" if path.exists() else "not installed"
    return Check("CDK", path.exists(), said, fix="make setup-deploy")


def _region(session: boto3.Session) -> Check:
    fix = "export AWS_REGION=us-east-1 (or yours), or set one with `aws configure set region ...`"
    return Check(
        "region", session.region_name is not None, session.region_name or "none is set", fix
    )


def _account(session: boto3.Session) -> Check:
    """Its `said` is the account's number when it is right."""
    fix = "`aws sso login`, or export AWS_PROFILE=...; then `aws sts get-caller-identity` answers"
    try:
        # Any region knows who we are; a missing one is a check of its own.
        sts = session.client("sts", region_name=session.region_name or "us-east-1")
        identity: Any = sts.get_caller_identity()
    except (BotoCoreError, ClientError) as error:
        return Check("credentials", is_right=False, said=str(error), fix=fix)
    return Check("credentials", is_right=True, said=identity["Account"])


def _bootstrap(session: boto3.Session, account: str) -> Check:
    name = "CDK bootstrap"
    fix = f"make setup-deploy && npx cdk bootstrap aws://{account}/{session.region_name}"
    try:
        answer = session.client("ssm").get_parameter(Name=BOOTSTRAP_PARAMETER)
    except (BotoCoreError, ClientError) as error:
        is_absent = "ParameterNotFound" in str(error)
        said = f"none in {session.region_name}" if is_absent else str(error)
        return Check(name, is_right=False, said=said, fix=fix)
    version = int(answer["Parameter"]["Value"])
    return Check(name, version >= BOOTSTRAP_VERSION_MIN, f"version {version}", fix)


def _concurrency(env: str, session: boto3.Session, granted: Granted) -> Check:
    """New accounts have 10 and not 1,000: the functions throttle, and their alarm sees nothing."""
    name = "Lambda concurrency"
    try:
        there_are, counted_on = granted(session), deployment_named(env).concurrency
    except (UnknownDeploymentError, BotoCoreError, ClientError):
        return Check(name, is_right=True, said="not known; 1,000 at once are counted on")
    fix = (
        f'ask Service Quotas for {counted_on}, or set "concurrency": {there_are} under'
        f' "stripemeter:{env}" in cdk.json, so that the alarm knows'
    )
    said = f"{there_are} at once, {counted_on} are counted on"
    return Check(name, there_are >= counted_on, said, fix)


def _granted(session: boto3.Session) -> int:
    settings: Any = session.client("lambda").get_account_settings()
    return int(settings["AccountLimit"]["ConcurrentExecutions"])


def _printed(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, check=True, text=True, timeout=30).stdout  # noqa: S603 (our own words)
