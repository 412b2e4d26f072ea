"""The writer's lease and cursor: one item of the `billing` table for each role.

They stand together so that a writer whose lease was taken over cannot move the cursor any more.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from metering import times
from metering.adapters.dynamodb.push_item import key
from metering.adapters.dynamodb.refusals import is_condition_failure, retryable
from metering.config import Config
from metering.keys import join
from metering.ports import Cursor, Pass
from metering.push import Role

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient

LONG_AGO = "0"
"""Before every instant's text."""


class DynamoWriterDesk:
    """The `WriterDesk` port on DynamoDB."""

    def __init__(self, client: "DynamoDBClient", config: Config, role: Role = Role.PRIMARY) -> None:
        self._client = client
        self._key = key(join("writer"), "desk" if role is Role.PRIMARY else f"{role}_desk")
        self._table = config.table_prefix + "billing"

    def take_lease(self, owner: str, now: datetime, until: datetime) -> int | None:
        """See `WriterDesk.take_lease`."""
        taken = self._update(
            "SET lease_owner = :owner, lease_until = :until"
            ", fence = if_not_exists(fence, :zero) + :one",
            "attribute_not_exists(pk) OR lease_until <= :now",
            {
                ":owner": {"S": owner},
                ":until": {"S": times.to_text(until)},
                ":now": {"S": times.to_text(now)},
                ":zero": {"N": "0"},
                ":one": {"N": "1"},
            },
        )
        return int(taken["fence"]["N"]) if taken is not None else None

    def end_lease(self, fence: int) -> None:
        """See `WriterDesk.end_lease`."""
        values = {":ended": {"S": LONG_AGO}, ":fence": {"N": str(fence)}}
        self._update("SET lease_until = :ended", "fence = :fence", values)

    def cursor(self) -> Cursor | None:
        """See `WriterDesk.cursor`."""
        with retryable():
            answer = self._client.get_item(
                TableName=self._table, Key=self._key, ConsistentRead=True
            )
        item = answer.get("Item", {})
        return _read_cursor(item["looked"]["M"]) if "looked" in item else None

    def move_cursor(self, cursor: Cursor, fence: int) -> bool:
        """See `WriterDesk.move_cursor`."""
        values = {":moved": {"M": _cursor_attributes(cursor)}, ":fence": {"N": str(fence)}}
        return self._update("SET looked = :moved", "fence = :fence", values) is not None

    def _update(self, update: str, condition: str, values: Any) -> Mapping[str, Any] | None:
        """The item's changed attributes; None when the condition does not hold."""
        try:
            with retryable():
                answer = self._client.update_item(
                    TableName=self._table,
                    Key=self._key,
                    UpdateExpression=update,
                    ConditionExpression=condition,
                    ExpressionAttributeValues=values,
                    ReturnValues="UPDATED_NEW",
                )
        except ClientError as error:
            if is_condition_failure(error):
                return None
            raise
        return answer["Attributes"]


def _cursor_attributes(cursor: Cursor) -> dict[str, Any]:
    attributes: dict[str, Any] = {
        "looked_from": {"S": times.to_text(cursor.looked_from)},
        "swept_from": {"S": times.to_text(cursor.swept_from)},
    }
    if cursor.unfinished is not None:
        began_at, is_sweep, after, must_return = cursor.unfinished
        attributes["began_at"] = {"S": times.to_text(began_at)}
        attributes["is_sweep"] = {"BOOL": is_sweep}
        attributes["after"] = {"S": after}
        attributes["must_return"] = {"BOOL": must_return}
    return attributes


def _read_cursor(item: Mapping[str, Any]) -> Cursor:
    return Cursor(
        times.from_text(item["looked_from"]["S"]),
        times.from_text(item["swept_from"]["S"]),
        _read_pass(item) if "began_at" in item else None,
    )


def _read_pass(item: Mapping[str, Any]) -> Pass:
    began_at = times.from_text(item["began_at"]["S"])
    # One that was left before this was written down may have left something, too.
    must_return = item.get("must_return", {"BOOL": True})["BOOL"]
    return Pass(began_at, item["is_sweep"]["BOOL"], item["after"]["S"], must_return)
