"""A second reader of the ledger's stream, for whoever analyses usage elsewhere.

It costs $0.40 a million events for the pipe, about $0.15 for Firehose, which counts each event as
5 KB at least, and the bucket. It takes the stream's second and last reader: no third one may be
added. It delivers at least once, in no order: count by the aggregator's numbers, not by these.
"""

import json

from aws_cdk import aws_iam as iam
from aws_cdk import aws_kinesisfirehose as firehose
from aws_cdk import aws_pipes as pipes
from constructs import Construct

from infra.cdk.arns import bucket_arn
from infra.cdk.log_group import MeterLogs
from infra.cdk.queue import DeadLetters
from infra.deployments import Deployment

BUFFERED_MB = 64
BUFFERED_S = 300
BATCH = 500
"""The most that Firehose takes in one call."""
RECORD_AGE_MAX_S = 23 * 3600
"""As the aggregator's: an hour before the stream forgets it."""


class Warehouse(Construct):
    """Stream → EventBridge Pipe → Firehose → bucket: JSON lines, zipped, by the hour of arrival."""

    def __init__(self, scope: Construct, stream_arn: str, deployment: Deployment) -> None:
        super().__init__(scope, "Warehouse")
        self._deployment = deployment
        self._logs = MeterLogs(self, f"/aws/firehose/{deployment.prefix}warehouse", deployment)
        delivery = self._delivery_stream()
        self.dead_letters = DeadLetters(self, "DeadLetters", f"{deployment.prefix}warehouse-dead")
        self._pipe(stream_arn, delivery)

    def _delivery_stream(self) -> firehose.CfnDeliveryStream:
        made = firehose.CfnDeliveryStream
        arn = bucket_arn(self._deployment, "warehouse")
        log_stream = self._logs.add_stream("Objects", log_stream_name="objects")
        return made(
            self,
            "Delivery",
            delivery_stream_name=f"{self._deployment.prefix}warehouse",
            delivery_stream_type="DirectPut",
            delivery_stream_encryption_configuration_input=(
                made.DeliveryStreamEncryptionConfigurationInputProperty(key_type="AWS_OWNED_CMK")
            ),
            extended_s3_destination_configuration=made.ExtendedS3DestinationConfigurationProperty(
                bucket_arn=arn,
                role_arn=self._firehose_role(arn).role_arn,
                prefix="events/",
                error_output_prefix="failed/!{firehose:error-output-type}/",
                compression_format="GZIP",
                buffering_hints=made.BufferingHintsProperty(
                    size_in_m_bs=BUFFERED_MB, interval_in_seconds=BUFFERED_S
                ),
                cloud_watch_logging_options=made.CloudWatchLoggingOptionsProperty(
                    enabled=True,
                    log_group_name=self._logs.log_group_name,
                    log_stream_name=log_stream.log_stream_name,
                ),
            ),
        )

    def _pipe(self, stream_arn: str, delivery: firehose.CfnDeliveryStream) -> None:
        made = pipes.CfnPipe
        only_new = made.FilterProperty(pattern=json.dumps({"eventName": ["INSERT"]}))
        source = made.PipeSourceDynamoDBStreamParametersProperty(
            starting_position="TRIM_HORIZON",
            batch_size=BATCH,
            maximum_batching_window_in_seconds=BUFFERED_S,
            maximum_record_age_in_seconds=RECORD_AGE_MAX_S,
            on_partial_batch_item_failure="AUTOMATIC_BISECT",
            dead_letter_config=made.DeadLetterConfigProperty(arn=self.dead_letters.queue_arn),
        )
        made(
            self,
            "Pipe",
            name=f"{self._deployment.prefix}warehouse",
            description="New entries of the ledger to the warehouse's bucket",
            role_arn=self._pipe_role(stream_arn, delivery.attr_arn).role_arn,
            source=stream_arn,
            source_parameters=made.PipeSourceParametersProperty(
                dynamo_db_stream_parameters=source,
                filter_criteria=made.FilterCriteriaProperty(filters=[only_new]),
            ),
            target=delivery.attr_arn,
            # A line each: Firehose puts records together with nothing in between.
            target_parameters=made.PipeTargetParametersProperty(
                input_template="<$.dynamodb.NewImage>\n"
            ),
        )

    def _firehose_role(self, bucket_arn: str) -> iam.Role:
        # Firehose asks for these three on the bucket, and two on what it writes.
        on_bucket = ["s3:GetBucketLocation", "s3:ListBucket", "s3:ListBucketMultipartUploads"]
        statements = [
            _allow(on_bucket, bucket_arn),
            _allow(["s3:PutObject", "s3:AbortMultipartUpload"], f"{bucket_arn}/*"),
            _allow(["logs:PutLogEvents"], self._logs.log_group_arn),
        ]
        return _role(self, "DeliveryRole", "firehose", statements)

    def _pipe_role(self, stream_arn: str, delivery_arn: str) -> iam.Role:
        # Both writes, for Pipes says of neither when it takes which.
        reading = ["DescribeStream", "GetRecords", "GetShardIterator", "ListStreams"]
        statements = [
            _allow([f"dynamodb:{action}" for action in reading], stream_arn),
            _allow(["firehose:PutRecord", "firehose:PutRecordBatch"], delivery_arn),
            _allow(["sqs:SendMessage"], self.dead_letters.queue_arn),
        ]
        return _role(self, "PipeRole", "pipes", statements)


def _allow(actions: list[str], resource: str) -> iam.PolicyStatement:
    return iam.PolicyStatement(actions=actions, resources=[resource])


def _role(
    scope: Construct, name: str, service: str, statements: list[iam.PolicyStatement]
) -> iam.Role:
    return iam.Role(
        scope,
        name,
        assumed_by=iam.ServicePrincipal(f"{service}.amazonaws.com"),
        inline_policies={"allowed": iam.PolicyDocument(statements=statements)},
    )
