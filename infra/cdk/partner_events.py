"""Stripe's events over EventBridge, beside or instead of webhooks."""

import aws_cdk as cdk
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_lambda_destinations as destinations
from constructs import Construct

from infra.cdk.queue import DeadLetters
from infra.deployments import Deployment
from infra.functions import EventRule

KEPT_TRYING = cdk.Duration.hours(24)
ATTEMPTS = 185
"""EventBridge's own bounds."""


class PartnerEvents(Construct):
    """A rule on the bus that Stripe fills.

    A partner's events never reach the default bus. Theirs is made by associating the partner's
    event source with the account, once and by hand, and the deployment is given its name.
    """

    def __init__(
        self,
        scope: Construct,
        rule: EventRule,
        bus_name: str,
        function: lambda_.IFunction,
        deployment: Deployment,
    ) -> None:
        super().__init__(scope, "PartnerEvents")
        dead_letters = DeadLetters(self, "DeadLetters", deployment.prefix + rule.dead_letter_name)
        events.Rule(
            self,
            "Rule",
            event_bus=events.EventBus.from_event_bus_name(self, "Bus", bus_name),
            rule_name=f"{deployment.prefix}stripe-events",
            description="What Stripe tells of invoices, subscriptions and meters",
            event_pattern=events.EventPattern(source=events.Match.prefix(rule.source_prefix)),
            targets=[
                targets.LambdaFunction(
                    function,
                    dead_letter_queue=dead_letters,
                    max_event_age=KEPT_TRYING,
                    retry_attempts=ATTEMPTS,
                )
            ],
        )
        # EventBridge's part ends when Lambda has the event; what then fails thrice lands here too.
        lambda_.EventInvokeConfig(
            self,
            "Attempts",
            function=function,
            on_failure=destinations.SqsDestination(dead_letters),
            retry_attempts=2,
        )
