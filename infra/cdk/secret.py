"""One secret of Secrets Manager."""

import aws_cdk as cdk
from aws_cdk import aws_secretsmanager as secretsmanager
from constructs import Construct

from infra.cdk.construct_id import construct_id
from infra.deployments import Deployment
from infra.environment import secret_name
from metering.config import SECRET_NOT_SET


class MeterSecret(Construct):
    """A place for a secret that a person fills in; until then the functions say that it is missing.

    Its template never changes, so that no deployment puts the placeholder back.
    """

    def __init__(self, scope: Construct, name: str, purpose: str, deployment: Deployment) -> None:
        super().__init__(scope, f"{construct_id(name)}Secret")
        keeps = deployment.keeps_data
        self.secret = secretsmanager.Secret(
            self,
            "Secret",
            secret_name=secret_name(deployment, name),
            description=purpose,
            secret_string_value=cdk.SecretValue.unsafe_plain_text(SECRET_NOT_SET),
            removal_policy=cdk.RemovalPolicy.RETAIN if keeps else cdk.RemovalPolicy.DESTROY,
        )
