"""The windows of the ledger's archive: one item each, under its start, in `billing`."""

from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from metering import times
from metering.adapters.dynamodb.push_item import key
from metering.adapters.dynamodb.refusals import is_condition_failure, items_of, retryable
from metering.archive import State, Window
from metering.config import Config
from metering.keys import join

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient

PARTITION = join("archive")


class DynamoArchiveWindows:
    """The `ArchiveWindows` port on DynamoDB."""

    def __init__(self, client: "DynamoDBClient", config: Config) -> None:
        self._client = client
        self._table = config.table_prefix + "billing"

    def all(self) -> list[Window]:
        """See `ArchiveWindows.all`."""
        pages = self._client.get_paginator("query").paginate(
            TableName=self._table,
            KeyConditionExpression="pk = :archive",
            ExpressionAttributeValues={":archive": {"S": PARTITION}},
            ConsistentRead=True,
        )
        return [_window(item) for item in items_of(pages)]

    def add(self, window: Window) -> bool:
        """See `ArchiveWindows.add`."""
        return self._put(window, ConditionExpression="attribute_not_exists(pk)")

    def change(self, before: Window, after: Window) -> bool:
        """See `ArchiveWindows.change`."""
        return self._put(
            after,
            ConditionExpression="#state = :state AND attempt = :attempt",
            ExpressionAttributeNames={"#state": "state"},
            ExpressionAttributeValues={
                ":state": {"S": before.state},
                ":attempt": {"N": str(before.attempt)},
            },
        )

    def _put(self, window: Window, **condition: Any) -> bool:
        try:
            with retryable():
                self._client.put_item(TableName=self._table, Item=_item(window), **condition)
        except ClientError as error:
            if is_condition_failure(error):
                return False
            raise
        return True


def _item(window: Window) -> dict[str, Any]:
    return key(PARTITION, times.to_text(window.start)) | {
        "until": {"S": times.to_text(window.end)},
        "full": {"BOOL": window.is_full},
        "state": {"S": window.state},
        "attempt": {"N": str(window.attempt)},
        "export": {"S": window.export},
        "manifest": {"S": window.manifest},
        "entries": {"N": str(window.entries)},
        "billed": {"N": str(window.billed_bytes)},
    }


def _window(item: dict[str, Any]) -> Window:
    return Window(
        start=times.from_text(item["sk"]["S"]),
        end=times.from_text(item["until"]["S"]),
        is_full=item["full"]["BOOL"],
        state=State(item["state"]["S"]),
        attempt=int(item["attempt"]["N"]),
        export=item["export"]["S"],
        manifest=item["manifest"]["S"],
        entries=int(item["entries"]["N"]),
        billed_bytes=int(item["billed"]["N"]),
    )
