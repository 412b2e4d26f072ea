"""What says that something is wrong: alarms, the topics they tell, and the dashboard."""

import aws_cdk as cdk
from constructs import Construct

from infra.alarms import Severity, alarms_of
from infra.cdk.alarm import MeterAlarm
from infra.cdk.dashboard import MeterDashboard
from infra.cdk.metric import Dimensions
from infra.cdk.pipeline_stack import PipelineStack
from infra.cdk.topics import Topics
from infra.deployments import Deployment
from infra.functions import AGGREGATOR


class ObservabilityStack(cdk.Stack):
    """Apart from what it watches, so that an alarm can be changed without touching that."""

    def __init__(self, scope: Construct, deployment: Deployment, pipeline: PipelineStack) -> None:
        super().__init__(
            scope,
            f"{deployment.prefix}observability",
            description=f"StripeMeter {deployment.name}: alarms and dashboard",
        )
        dimensions = Dimensions(
            deployment,
            {
                "api": pipeline.api.api.api_id,
                f"{AGGREGATOR.name}-mapping": pipeline.ledger_mapping_id,
            },
        )
        topics = self._topics(deployment)
        alarms = [
            MeterAlarm(self, alarm, deployment, dimensions, topics[alarm.severity])
            for alarm in alarms_of(deployment)
        ]
        MeterDashboard(self, deployment, dimensions, alarms)

    def _topics(self, deployment: Deployment) -> dict[Severity, str]:
        """By severity; the deployment's one for all, where it names one."""
        if deployment.alarm_topic_arn:
            return dict.fromkeys(Severity, deployment.alarm_topic_arn)
        topics = Topics(self, deployment)
        for severity in Severity:
            arn = topics.arn_of(severity)
            cdk.CfnOutput(self, f"{severity.title()}Topic", value=arn)
        return {severity: topics.arn_of(severity) for severity in Severity}
