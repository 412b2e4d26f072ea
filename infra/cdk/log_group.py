"""One log group."""

import aws_cdk as cdk
from aws_cdk import aws_logs as logs
from constructs import Construct

from infra.deployments import Deployment


class MeterLogs(logs.LogGroup):
    """Kept for the deployment's number of days.

    It goes with its stack: a log group left behind would be in the way of the next deployment.
    """

    def __init__(self, scope: Construct, name: str, deployment: Deployment) -> None:
        super().__init__(
            scope, "Logs", log_group_name=name, removal_policy=cdk.RemovalPolicy.DESTROY
        )
        # The CDK has a word of its own for each number of days.
        made = self.node.default_child
        assert isinstance(made, logs.CfnLogGroup)
        made.retention_in_days = deployment.log_days
