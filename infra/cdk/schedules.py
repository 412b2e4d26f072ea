"""What runs by the clock, by EventBridge Scheduler."""

from collections.abc import Sequence
from dataclasses import dataclass

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_scheduler as scheduler
from aws_cdk import aws_scheduler_targets as targets
from constructs import Construct

from infra.cdk.construct_id import construct_id
from infra.cdk.queue import DeadLetters
from infra.deployments import Deployment
from infra.functions import Function, Schedule

DELIVERY_ATTEMPTS = 3
RUNS_AGAIN_FROM_S = 3600
"""A run that failed and comes this rarely is tried twice more; others' next run does the work."""
_AGE_MIN_S = 60
_AGE_MAX_S = 6 * 3600


@dataclass(frozen=True, slots=True)
class Scheduled:
    """A function and its schedule."""

    function: Function
    schedule: Schedule
    deployed: lambda_.Function


class Schedules(Construct):
    """One schedule a function, one role for all of them, one queue for what would not start."""

    def __init__(
        self, scope: Construct, scheduled: Sequence[Scheduled], deployment: Deployment
    ) -> None:
        super().__init__(scope, "Schedules")
        self.dead_letters = DeadLetters(self, "DeadLetters", f"{deployment.prefix}schedules-dead")
        role = self._role([one.deployed for one in scheduled])
        for one in scheduled:
            every_s = deployment.every_s(one.function.name, one.schedule)
            self._add(one, every_s, role, deployment)

    def _role(self, functions: Sequence[lambda_.IFunction]) -> iam.IRole:
        """Exact: the CDK's own would allow every version of the functions."""
        statements = [
            iam.PolicyStatement(
                actions=["lambda:InvokeFunction"],
                resources=[one.function_arn for one in functions],
            ),
            iam.PolicyStatement(
                actions=["sqs:SendMessage"], resources=[self.dead_letters.queue_arn]
            ),
        ]
        role = iam.Role(
            self,
            "Role",
            assumed_by=iam.ServicePrincipal("scheduler.amazonaws.com"),
            inline_policies={"start": iam.PolicyDocument(statements=statements)},
        )
        return role.without_policy_updates()

    def _add(self, one: Scheduled, every_s: int, role: iam.IRole, deployment: Deployment) -> None:
        age = cdk.Duration.seconds(min(max(every_s, _AGE_MIN_S), _AGE_MAX_S))
        target = targets.LambdaInvoke(
            one.deployed,
            dead_letter_queue=self.dead_letters,
            input=scheduler.ScheduleTargetInput.from_object({}),
            max_event_age=age,
            retry_attempts=DELIVERY_ATTEMPTS,
            role=role,
        )
        scheduler.Schedule(
            self,
            construct_id(one.function.name),
            schedule_name=deployment.prefix + one.function.name,
            description=one.function.purpose,
            schedule=scheduler.ScheduleExpression.rate(cdk.Duration.seconds(every_s)),
            target=target,
        )
        # Scheduler only hands over; whether a run that fails is repeated is Lambda's part.
        lambda_.EventInvokeConfig(
            self,
            f"{construct_id(one.function.name)}Attempts",
            function=one.deployed,
            max_event_age=age,
            retry_attempts=2 if every_s >= RUNS_AGAIN_FROM_S else 0,
        )
