"""Reading a DynamoDB stream: its shards and their records, in the form in which Lambda gets them.

DynamoDB's JSON on the wire already is Lambda's (numbers as text, binaries in base64, times as
seconds). botocore would turn it into Python values, 75 µs a record, only for us to turn it back, so
the records are taken from the answer before botocore parses it: 5 µs a record.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config as BotoConfig

from local.dynamodb_local import ACCESS_KEY, REGION, SECRET_KEY

if TYPE_CHECKING:
    from types_boto3_dynamodbstreams import DynamoDBStreamsClient

type Record = dict[str, Any]

PAGE = 1000
"""The most that GetRecords gives."""
_OK = 200


@dataclass(frozen=True, slots=True)
class StreamShard:
    """A shard as DescribeStream tells of it."""

    id: str
    parent: str | None
    is_closed: bool
    """Whether no record will come any more."""


def sequence_number(record: Record) -> str:
    """Where a record stands in its shard."""
    return str(record["dynamodb"]["SequenceNumber"])


def make_client(endpoint: str) -> "DynamoDBStreamsClient":
    """A stream client whose GetRecords answers records as they are on the wire."""
    client = boto3.client(
        "dynamodbstreams",
        endpoint_url=endpoint,
        region_name=REGION,
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
        config=BotoConfig(
            parameter_validation=False,
            retries={"mode": "standard", "total_max_attempts": 3},
            max_pool_connections=32,
        ),
    )
    client.meta.events.register("before-parse.dynamodb-streams.GetRecords", _keep_as_sent)
    return client


def _keep_as_sent(
    response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: Any
) -> None:
    if response_dict["status_code"] == _OK:
        customized_response_dict.update(json.loads(response_dict["body"]))
        response_dict["body"] = b"{}"


class StreamReader:
    """One stream's shards and records."""

    def __init__(self, client: "DynamoDBStreamsClient", stream_arn: str) -> None:
        self._client = client
        self.arn = stream_arn

    def shards(self) -> list[StreamShard]:
        """All shards that the stream still has, oldest first as far as the service says."""
        shards: list[StreamShard] = []
        start: dict[str, Any] = {}
        while True:
            answer = self._client.describe_stream(StreamArn=self.arn, **start)
            described = answer["StreamDescription"]
            shards += [
                StreamShard(
                    shard["ShardId"],
                    shard.get("ParentShardId"),
                    "EndingSequenceNumber" in shard["SequenceNumberRange"],
                )
                for shard in described["Shards"]
            ]
            last = described.get("LastEvaluatedShardId")
            if not last:
                return shards
            start = {"ExclusiveStartShardId": last}

    def pages(self, shard: str, *, after: str | None) -> Iterator[list[Record]]:
        """A shard's records page by page, empty ones when nothing is new; ends with the shard.

        An iterator that expired (15 min) or whose position was trimmed (24 h) is taken anew.
        """
        iterator: str | None = self._iterator(shard, after)
        while iterator is not None:
            try:
                answer = self._client.get_records(ShardIterator=iterator, Limit=PAGE)
            except self._client.exceptions.ExpiredIteratorException:
                iterator = self._iterator(shard, after)
                continue
            except self._client.exceptions.TrimmedDataAccessException:
                iterator = self._iterator(shard, None)
                continue
            records = [self._as_lambda_gets_it(record) for record in answer["Records"]]
            if records:
                after = sequence_number(records[-1])
            yield records
            iterator = answer.get("NextShardIterator")

    def _iterator(self, shard: str, after: str | None) -> str:
        where: dict[str, Any] = {"ShardIteratorType": "TRIM_HORIZON"}
        if after is not None:
            where = {"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "SequenceNumber": after}
        try:
            answer = self._client.get_shard_iterator(StreamArn=self.arn, ShardId=shard, **where)
        except self._client.exceptions.TrimmedDataAccessException:
            answer = self._client.get_shard_iterator(
                StreamArn=self.arn, ShardId=shard, ShardIteratorType="TRIM_HORIZON"
            )
        return answer["ShardIterator"]

    def _as_lambda_gets_it(self, record: Any) -> Record:
        record["eventSourceARN"] = self.arn
        record["awsRegion"] = REGION
        sent: Record = record
        return sent
