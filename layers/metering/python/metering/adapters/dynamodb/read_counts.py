"""How often Stripe was read: one item per account and UTC day, in the `billing` table."""

from collections.abc import Mapping
from datetime import date
from typing import TYPE_CHECKING

from metering.adapters.dynamodb.push_item import key
from metering.adapters.dynamodb.refusals import items_of, retryable
from metering.config import Config
from metering.keys import join

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient


class DynamoReadCounts:
    """The `ReadCounts` port on DynamoDB."""

    def __init__(self, client: "DynamoDBClient", config: Config) -> None:
        self._client = client
        self._table = config.table_prefix + "billing"

    def add(self, account: str, day: date, reads: int) -> None:
        """See `ReadCounts.add`. A repeat after a lost answer counts too many, never too few."""
        with retryable():
            self._client.update_item(
                TableName=self._table,
                Key=key(_partition(account), day.isoformat()),
                UpdateExpression="ADD #reads :reads",
                ExpressionAttributeNames={"#reads": "reads"},
                ExpressionAttributeValues={":reads": {"N": str(reads)}},
            )

    def since(self, account: str, day: date) -> Mapping[date, int]:
        """See `ReadCounts.since`."""
        pages = self._client.get_paginator("query").paginate(
            TableName=self._table,
            KeyConditionExpression="pk = :partition AND sk >= :day",
            ExpressionAttributeValues={
                ":partition": {"S": _partition(account)},
                ":day": {"S": day.isoformat()},
            },
            ConsistentRead=True,
        )
        return {
            date.fromisoformat(item["sk"]["S"]): int(item["reads"]["N"]) for item in items_of(pages)
        }


def _partition(account: str) -> str:
    return join("stripe reads", account)
