"""When what is done from time to time was last done: one item per round, in `billing`."""

from datetime import datetime
from typing import TYPE_CHECKING

from metering import times
from metering.adapters.dynamodb.push_item import key
from metering.adapters.dynamodb.refusals import retryable
from metering.config import Config
from metering.keys import join

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient


class DynamoRounds:
    """The `Rounds` port on DynamoDB."""

    def __init__(self, client: "DynamoDBClient", config: Config) -> None:
        self._client = client
        self._table = config.table_prefix + "billing"

    def last(self, name: str) -> datetime | None:
        """See `Rounds.last`."""
        with retryable():
            answer = self._client.get_item(
                TableName=self._table, Key=key(join("round"), name), ConsistentRead=True
            )
        return times.from_text(answer["Item"]["at"]["S"]) if "Item" in answer else None

    def note(self, name: str, finished_at: datetime) -> None:
        """See `Rounds.note`."""
        item = key(join("round"), name) | {"at": {"S": times.to_text(finished_at)}}
        with retryable():
            self._client.put_item(TableName=self._table, Item=item)
