"""Where alarms go: a topic for what wakes somebody, and one for the day."""

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sns_subscriptions as subscriptions
from constructs import Construct

from infra.alarms import Severity
from infra.deployments import Deployment

_ALARMS = iam.ServicePrincipal("cloudwatch.amazonaws.com")


class Topics(Construct):
    """Two topics, encrypted with a key of our own.

    CloudWatch may not use the key that AWS manages for SNS: its alarms would vanish without a word.
    """

    def __init__(self, scope: Construct, deployment: Deployment) -> None:
        super().__init__(scope, "Topics")
        key = kms.Key(
            self,
            "Key",
            alias=f"alias/{deployment.prefix}alarms",
            description=f"Alarms of StripeMeter {deployment.name} on their way",
            enable_key_rotation=True,
            removal_policy=cdk.RemovalPolicy.DESTROY,
        )
        key.grant_encrypt_decrypt(_ALARMS)
        self._arns = {
            severity: self._topic(severity, key, deployment).topic_arn for severity in Severity
        }

    def arn_of(self, severity: Severity) -> str:
        """The topic for alarms of this severity."""
        return self._arns[severity]

    def _topic(self, severity: Severity, key: kms.IKey, deployment: Deployment) -> sns.Topic:
        topic = sns.Topic(
            self,
            severity.title(),
            topic_name=deployment.prefix + severity,
            display_name=f"StripeMeter {deployment.name}: {severity}",
            master_key=key,
            enforce_ssl=True,
        )
        topic.grant_publish(_ALARMS)
        if deployment.alarm_email:
            topic.add_subscription(subscriptions.EmailSubscription(deployment.alarm_email))
        return topic
