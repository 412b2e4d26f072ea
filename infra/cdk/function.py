"""One Lambda function, as `infra.functions` describes it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import aws_cdk as cdk
from aws_cdk import aws_lambda as lambda_
from constructs import Construct

from infra.cdk.arns import Arns
from infra.cdk.construct_id import construct_id
from infra.cdk.log_group import MeterLogs
from infra.cdk.role import FunctionRole
from infra.deployments import Deployment
from infra.environment import environment_of
from infra.functions import Function

RUNTIME = lambda_.Runtime.PYTHON_3_13
ARCHITECTURE = lambda_.Architecture.ARM_64


class Code:
    """What all functions run: our own code, and the two layers of other people's."""

    def __init__(self, scope: Construct, assets: Mapping[str, Path]) -> None:
        self.own = lambda_.Code.from_asset(str(assets["functions"]))
        self.runtime = _layer(scope, "Runtime", "Packages of every function", assets["runtime"])
        self.stripe = _layer(scope, "Stripe", "Stripe's SDK", assets["stripe"])

    def layers_of(self, function: Function) -> list[lambda_.ILayerVersion]:
        """Nobody pays for unpacking and importing Stripe's SDK who never calls Stripe."""
        return [self.runtime, self.stripe] if function.calls_stripe else [self.runtime]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all functions of a deployment have in common."""

    deployment: Deployment
    code: Code
    arns: Arns


class MeterFunction(Construct):
    """A function with a role and a log group of its own."""

    def __init__(
        self,
        scope: Construct,
        function: Function,
        around: Surroundings,
        symbols: Mapping[str, str] | None = None,
    ) -> None:
        """`symbols` are what `${...}` stands for in its environment, beyond CloudFormation's."""
        deployment = around.deployment
        super().__init__(scope, f"{construct_id(function.name)}Function")
        name = deployment.prefix + function.name
        role = FunctionRole(self, function, deployment, around.arns)
        self.function = lambda_.Function(
            self,
            "Function",
            function_name=name,
            description=function.purpose,
            runtime=RUNTIME,
            architecture=ARCHITECTURE,
            code=around.code.own,
            handler=function.handler,
            layers=around.code.layers_of(function),
            memory_size=function.memory_mb,
            timeout=cdk.Duration.seconds(function.timeout_s),
            environment=_resolved(environment_of(function, deployment), symbols or {}),
            # The table says what the role holds; no construct may add to it.
            role=role.without_policy_updates(),
            reserved_concurrent_executions=deployment.reserved_concurrency.get(function.name),
            tracing=_tracing(deployment),
            logging_format=lambda_.LoggingFormat.JSON,
            application_log_level_v2=lambda_.ApplicationLogLevel.INFO,
            # The platform's three lines an invocation would cost more than our own one.
            system_log_level_v2=lambda_.SystemLogLevel.WARN,
            log_group=MeterLogs(self, f"/aws/lambda/{name}", deployment),
        )


def _tracing(deployment: Deployment) -> lambda_.Tracing:
    return lambda_.Tracing.ACTIVE if deployment.tracing else lambda_.Tracing.DISABLED


def _layer(scope: Construct, name: str, description: str, asset: Path) -> lambda_.LayerVersion:
    return lambda_.LayerVersion(
        scope,
        f"{name}Layer",
        description=description,
        code=lambda_.Code.from_asset(str(asset)),
        compatible_runtimes=[RUNTIME],
        compatible_architectures=[ARCHITECTURE],
    )


def _resolved(variables: Mapping[str, str], symbols: Mapping[str, str]) -> dict[str, str]:
    return {
        name: cdk.Fn.sub(value, {one: symbols[one] for one in symbols if f"${{{one}}}" in value})
        if "${" in value
        else value
        for name, value in variables.items()
    }
