"""The event source mappings: what Lambda reads for us, setting by setting.

They are CloudFormation's own resources, because the CDK's event sources also widen roles.
"""

import json

from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from infra.cdk.arns import bucket_arn
from infra.deployments import Deployment
from infra.functions import Queue, TableStream


class LedgerStreamMapping(lambda_.CfnEventSourceMapping):
    """The ledger's stream to the aggregator, so that every record is folded exactly once.

    The tumbling window is there to be told the shard; one batch a shard at a time keeps each lane's
    order; a batch that fails partly comes again from its first failed record, and is cut in two
    around one that fails always. What fails for 23 hours is put whole into the failures bucket.
    """

    def __init__(
        self,
        scope: Construct,
        stream: TableStream,
        function: lambda_.IFunction,
        stream_arn: str,
        deployment: Deployment,
    ) -> None:
        super().__init__(
            scope,
            "Mapping",
            function_name=function.function_arn,
            event_source_arn=stream_arn,
            starting_position="TRIM_HORIZON",
            batch_size=stream.batch_size,
            maximum_batching_window_in_seconds=stream.batching_window_s,
            tumbling_window_in_seconds=stream.tumbling_window_s,
            parallelization_factor=1,
            bisect_batch_on_function_error=stream.bisects_on_error,
            function_response_types=["ReportBatchItemFailures"],
            maximum_retry_attempts=stream.retries_max,
            maximum_record_age_in_seconds=stream.record_age_max_s,
            # How many records were given up, for an alarm.
            metrics_config=self.MetricsConfigProperty(metrics=["EventCount"]),
            filter_criteria=_filter({"eventName": ["INSERT"]}),
            destination_config=self.DestinationConfigProperty(
                on_failure=self.OnFailureProperty(destination=bucket_arn(deployment, "failures"))
            ),
        )


class QueueMapping(lambda_.CfnEventSourceMapping):
    """The queue of usage events to the ledger; a message that fails comes back alone."""

    def __init__(
        self,
        scope: Construct,
        queue: Queue,
        function: lambda_.IFunction,
        source: sqs.IQueue,
        deployment: Deployment,
    ) -> None:
        super().__init__(
            scope,
            "Mapping",
            function_name=function.function_arn,
            event_source_arn=source.queue_arn,
            batch_size=queue.batch_size,
            maximum_batching_window_in_seconds=queue.batching_window_s,
            function_response_types=["ReportBatchItemFailures"],
            scaling_config=self.ScalingConfigProperty(
                maximum_concurrency=deployment.queue_concurrency
            ),
        )


def _filter(pattern: object) -> lambda_.CfnEventSourceMapping.FilterCriteriaProperty:
    made = lambda_.CfnEventSourceMapping
    return made.FilterCriteriaProperty(
        filters=[made.FilterProperty(pattern=json.dumps(pattern, separators=(",", ":")))]
    )
