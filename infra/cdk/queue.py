"""SQS queues: dead letters, and the queue of usage events."""

import aws_cdk as cdk
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from infra.deployments import Deployment
from infra.functions import Queue

EVENTS_KEPT = cdk.Duration.days(7)
"""An outage of a long weekend loses nothing."""
DEAD_LETTERS_KEPT = cdk.Duration.days(14)
"""The longest there is. A message ages from when it was sent, so a week is left at least."""


class DeadLetters(sqs.Queue):
    """Where something waits for a person, who finds it by an alarm."""

    def __init__(self, scope: Construct, construct_id: str, name: str) -> None:
        super().__init__(
            scope,
            construct_id,
            queue_name=name,
            retention_period=DEAD_LETTERS_KEPT,
            encryption=sqs.QueueEncryption.SQS_MANAGED,
            enforce_ssl=True,
        )


class EventQueue(sqs.Queue):
    """Where producers put usage events who would rather not wait for an answer."""

    def __init__(
        self, scope: Construct, queue: Queue, deployment: Deployment, *, timeout_s: int
    ) -> None:
        dead = DeadLetters(scope, "DeadLetters", deployment.prefix + queue.dead_letter_name)
        super().__init__(
            scope,
            "Queue",
            queue_name=deployment.prefix + queue.name,
            visibility_timeout=cdk.Duration.seconds(queue.visibility_s(timeout_s=timeout_s)),
            retention_period=EVENTS_KEPT,
            dead_letter_queue=sqs.DeadLetterQueue(queue=dead, max_receive_count=queue.receives_max),
            encryption=sqs.QueueEncryption.SQS_MANAGED,
            enforce_ssl=True,
        )
