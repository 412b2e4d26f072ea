"""X-Ray's sampling rule for a deployment's functions."""

from aws_cdk import aws_xray as xray
from constructs import Construct

from infra.deployments import Deployment
from infra.tracing import EVERY_SECOND, TRACED_SHARE

PRIORITY = 1000
"""Before X-Ray's default rule, which comes last with 10,000; after rules that an account has for
something special."""


class TracedShare(Construct):
    """Holds the deployment's traces to what `infra.tracing` says."""

    def __init__(self, scope: Construct, deployment: Deployment) -> None:
        super().__init__(scope, "Tracing")
        xray.CfnSamplingRule(
            self,
            "Rule",
            sampling_rule=xray.CfnSamplingRule.SamplingRuleProperty(
                rule_name=f"{deployment.prefix}traces",
                priority=PRIORITY,
                fixed_rate=float(TRACED_SHARE),
                reservoir_size=EVERY_SECOND,
                service_name=f"{deployment.prefix}*",
                service_type="*",
                host="*",
                http_method="*",
                url_path="*",
                resource_arn="*",
                version=1,
            ),
        )
