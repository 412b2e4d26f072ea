"""The role of one function: what `infra.permissions` says, and nothing else."""

from aws_cdk import aws_iam as iam
from constructs import Construct

from infra.cdk.arns import Arns
from infra.deployments import Deployment
from infra.functions import Function
from infra.permissions import statements_of


class FunctionRole(iam.Role):
    """One inline policy; no managed ones, and no grants by the CDK, which are wider."""

    def __init__(
        self, scope: Construct, function: Function, deployment: Deployment, arns: Arns
    ) -> None:
        allowed = [
            iam.PolicyStatement(
                actions=list(permission.actions), resources=[arns.of(permission.on, function)]
            )
            for permission in statements_of(function, deployment)
        ]
        super().__init__(
            scope,
            "Role",
            description=f"What {deployment.prefix}{function.name} may do",
            assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"),
            inline_policies={"allowed": iam.PolicyDocument(statements=allowed, minimize=False)},
        )
