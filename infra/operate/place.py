"""Which deployment is meant, and where it is: its settings, and what CDK said of it."""

import json
from pathlib import Path
from typing import Any

from infra.context import DeploymentError, deployment_from
from infra.deployments import Deployment

PROJECT = Path(__file__).parents[2]
BUILD = PROJECT / "build"
_EXPORT = "ExportsOutput"
"""Begins the outputs by which the CDK lets one stack refer to another."""


class UnknownDeploymentError(Exception):
    """There is no such deployment, or its settings cannot be."""


class MissingOutputsError(Exception):
    """Nobody has deployed it from here."""


def deployment_named(env: str) -> Deployment:
    """A deployment as `cdk.json` describes it.

    Raises:
        UnknownDeploymentError: nobody describes it.
    """
    path = PROJECT / "cdk.json"
    context = json.loads(path.read_text()).get("context", {}) if path.exists() else {}
    try:
        return deployment_from(context | {"env": env})
    except DeploymentError as error:
        raise UnknownDeploymentError(str(error)) from None


def outputs_of(env: str, build: Path = BUILD) -> dict[str, str]:
    """The outputs of all of a deployment's stacks, by their names; not what stacks tell each other.

    Raises:
        MissingOutputsError: there is no file of them.
    """
    path = build / f"outputs-{env}.json"
    if not path.exists():
        raise MissingOutputsError(
            f"{path.name} is not in {path.parent.name}/; `make deploy ENV={env}` writes it"
        )
    stacks: dict[str, dict[str, Any]] = json.loads(path.read_text())
    return {
        name: str(value)
        for stack in stacks.values()
        for name, value in stack.items()
        if not name.startswith(_EXPORT)
    }


def api_url_of(env: str, build: Path = BUILD) -> str:
    """Where the deployment's API is.

    Raises:
        MissingOutputsError: nobody has deployed it from here.
    """
    outputs = outputs_of(env, build)
    if "ApiUrl" not in outputs:
        raise MissingOutputsError(f"the outputs of {env} name no ApiUrl; deploy it again")
    return outputs["ApiUrl"].rstrip("/")
