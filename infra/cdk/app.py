"""The app: three stacks of one deployment.

    data             tables, buckets, secrets        kept when all else goes
    pipeline         HTTP API, queue, functions      can be made anew at any time
    observability    alarms, topics, dashboard       says when one of the above is wrong

Synthesis needs no credentials, no Docker, and no network once the assets are built.
"""

import sys
from collections.abc import Mapping
from pathlib import Path

import aws_cdk as cdk

from infra.cdk.data_stack import DataStack
from infra.cdk.observability_stack import ObservabilityStack
from infra.cdk.pipeline_stack import PipelineStack
from infra.context import DeploymentError, deployment_from
from infra.deployments import Deployment
from infra.packaging import assets


def main() -> None:
    """What the command `cdk` runs."""
    app = cdk.App()
    try:
        deployment = deployment_from(app.node.get_all_context())
    except DeploymentError as error:
        sys.exit(f"error: {error}")
    compose(app, deployment, assets.built("aarch64"))
    app.synth()


def compose(app: cdk.App, deployment: Deployment, built: Mapping[str, Path]) -> None:
    """Put the stacks of a deployment into an app."""
    data = DataStack(app, deployment)
    pipeline = PipelineStack(app, deployment, data, built)
    # By their names too, not only by what CloudFormation sees.
    pipeline.add_stack_dependency(data, "its functions find tables, buckets and secrets by name")
    ObservabilityStack(app, deployment, pipeline)
    cdk.Tags.of(app).add("application", "stripemeter")
    cdk.Tags.of(app).add("deployment", deployment.name)
