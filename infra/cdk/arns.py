"""From the symbols of `infra.permissions` to ARNs of one deployment."""

import aws_cdk as cdk

from infra.deployments import Deployment
from infra.environment import bucket_name, secret_name
from infra.functions import Function
from infra.permissions import (
    BucketResource,
    Everything,
    ExportResource,
    IndexResource,
    ObjectsResource,
    OwnLogs,
    QueueResource,
    Resource,
    SecretResource,
    StreamResource,
    TableResource,
)


class Arns:
    """The resources of a deployment, most of them by the names that we gave them."""

    def __init__(self, stack: cdk.Stack, deployment: Deployment, ledger_stream: str) -> None:
        self._stack = stack
        self._deployment = deployment
        self._ledger_stream = ledger_stream

    def of(self, resource: Resource, function: Function) -> str:  # noqa: C901, PLR0911 (a table)
        """The ARN of what a function may touch."""
        prefix = self._deployment.prefix
        match resource:
            case TableResource(table):
                return self._arn("dynamodb", f"table/{prefix}{table}")
            case IndexResource(table, index):
                return self._arn("dynamodb", f"table/{prefix}{table}/index/{index}")
            case ExportResource(table):
                return self._arn("dynamodb", f"table/{prefix}{table}/export/*")
            case StreamResource():
                return self._ledger_stream
            case QueueResource(name):
                return self._arn("sqs", prefix + name)
            case SecretResource(name):
                # Secrets Manager puts a hyphen and six characters of its own behind a name.
                named = secret_name(self._deployment, name)
                return self._arn("secretsmanager", f"secret:{named}-??????")
            case BucketResource(name):
                return self._bucket(name)
            case ObjectsResource(bucket, begins_with):
                return f"{self._bucket(bucket)}/{begins_with}*"
            case OwnLogs():
                return self._arn("logs", f"log-group:/aws/lambda/{prefix}{function.name}:*")
            case Everything():
                return "*"

    def _arn(self, service: str, rest: str) -> str:
        stack = self._stack
        return f"arn:{stack.partition}:{service}:{stack.region}:{stack.account}:{rest}"

    def _bucket(self, name: str) -> str:
        return bucket_arn(self._deployment, name)


def bucket_arn(deployment: Deployment, name: str) -> str:
    """The ARN of a bucket of the deployment."""
    return cdk.Fn.sub(f"arn:${{AWS::Partition}}:s3:::{bucket_name(deployment, name)}")
