"""What cdk-nag finds and we mean: every finding that is left stands here, with its reason.

A test fails on a finding that is not here, and on a row that nothing is found for.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """One rule that we break on purpose."""

    rule: str
    """As cdk-nag reports it; `*` stands for any text, in the path too."""
    path: str
    """The construct, without the name of its stack's deployment: `data/StripeKeySecret/...`."""
    why: str


ACKNOWLEDGEMENTS = (
    Acknowledgement(
        "AwsSolutions-APIG4",
        "pipeline/Api/*",
        "The functions ask for the key themselves: an authorizer of API Gateway either doubles the"
        " calls or keeps its answers, and a revoked key with them. Webhooks carry a signature, the"
        " description of the API is for everybody.",
    ),
    Acknowledgement(
        "AwsSolutions-IAM5[[]Resource::[*]]",
        "pipeline/*Function/Role/Resource",
        "X-Ray's writes and DynamoDB's ListStreams know no narrower resource.",
    ),
    Acknowledgement(
        "AwsSolutions-IAM5[[]Resource::arn:*:logs:*:log-group:/aws/lambda/*]",
        "pipeline/*Function/Role/Resource",
        "The streams of the function's own log group, whose names Lambda makes up.",
    ),
    Acknowledgement(
        "AwsSolutions-IAM5[[]Resource::arn:*:s3:::*/[*]]",
        "pipeline/*Function/Role/Resource",
        "Objects of one bucket; the keys are made when they are written.",
    ),
    Acknowledgement(
        "AwsSolutions-IAM5[[]Resource::arn:*:s3:::*/[*]]",
        "pipeline/Warehouse/DeliveryRole/Resource",
        "Objects of the warehouse's bucket; Firehose makes up their keys.",
    ),
    Acknowledgement(
        "AwsSolutions-IAM5[[]Resource::arn:*:dynamodb:*:table/*/export/[*]]",
        "pipeline/ArchiverFunction/Role/Resource",
        "The ledger's own exports, whose names DynamoDB makes up.",
    ),
    Acknowledgement(
        "AwsSolutions-L1",
        "pipeline/*Function/Function/Resource",
        "Python 3.13 until the next release moves: the bytecode of the assets is compiled for it.",
    ),
    Acknowledgement(
        "AwsSolutions-S1",
        "data/*Bucket/Bucket/Resource",
        "One role writes each bucket and a few people read; where an audit asks who, CloudTrail's"
        " data events tell it without another bucket.",
    ),
    Acknowledgement(
        "AwsSolutions-SMG4",
        "data/*Secret/Secret/Resource",
        "Stripe's keys are made in its dashboard, and ours by the API: docs/runbook.md has the"
        " steps of each rotation, which no function of Secrets Manager could do.",
    ),
    Acknowledgement(
        "AwsSolutions-SQS3",
        "pipeline/*DeadLetters/Resource",
        "Queues of dead letters themselves: of schedules, of Stripe's events and of the pipe, whose"
        " use of them the rule does not see.",
    ),
)
