"""Suspicions that Stripe did not count what it took, in the `billing` table.

suspects    pk = suspects    sk = suspicion id

One partition: a suspicion is written once and read by one reconciler, and Stripe names few samples.
One that nobody settled is dropped after 35 days, when whole periods have been compared without it.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from metering import times
from metering.adapters.dynamodb.push_item import Item, key
from metering.adapters.dynamodb.refusals import is_condition_failure, items_of, retryable
from metering.config import Config
from metering.error_report import Suspicion
from metering.keys import join
from metering.names import Identifier
from metering.period import Span

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient

KEPT_FOR = timedelta(days=35)
_PARTITION = join("suspects")
_STANDS = "attribute_exists(pk)"
_STANDS_NOT = "attribute_not_exists(pk)"


class DynamoSuspects:
    """The `Suspects` port on DynamoDB."""

    def __init__(self, client: "DynamoDBClient", config: Config) -> None:
        self._client = client
        self._table = config.table_prefix + "billing"

    def add(self, suspicions: Sequence[Suspicion]) -> None:
        """See `Suspects.add`."""
        for suspicion in suspicions:
            self._put(suspicion, only_if=_STANDS_NOT)

    def change(self, suspicion: Suspicion) -> None:
        """See `Suspects.change`."""
        self._put(suspicion, only_if=_STANDS)

    def _put(self, suspicion: Suspicion, *, only_if: str) -> None:
        try:
            with retryable():
                self._client.put_item(
                    TableName=self._table, Item=_item(suspicion), ConditionExpression=only_if
                )
        except ClientError as error:
            if not is_condition_failure(error):
                raise

    def open(self) -> Iterator[Suspicion]:
        """See `Suspects.open`."""
        pages = self._client.get_paginator("query").paginate(
            TableName=self._table,
            KeyConditionExpression="pk = :pk",
            ExpressionAttributeValues={":pk": {"S": _PARTITION}},
            ConsistentRead=True,
        )
        return map(_read, items_of(pages))

    def done(self, suspicion: Suspicion) -> None:
        """See `Suspects.done`."""
        with retryable():
            self._client.delete_item(TableName=self._table, Key=key(_PARTITION, suspicion.id))


def _item(suspicion: Suspicion) -> Item:
    item = key(_PARTITION, suspicion.id) | {
        "code": {"S": suspicion.code},
        "message": {"S": suspicion.message},
        "count": {"N": str(suspicion.count)},
        "window_start": {"S": times.to_text(suspicion.window.start)},
        "window_end": {"S": times.to_text(suspicion.window.end)},
        "account": {"S": suspicion.account},
        "live": {"BOOL": suspicion.is_live},
        "reported_at": {"S": times.to_text(suspicion.reported_at)},
        "expires": {"N": str(int((suspicion.reported_at + KEPT_FOR).timestamp()))},
    }
    if suspicion.identifier is not None:
        item["identifier"] = {"S": suspicion.identifier}
    if suspicion.meter_id is not None:
        item["meter"] = {"S": suspicion.meter_id}
    if suspicion.seen_empty_at is not None:
        item["seen_empty_at"] = {"S": times.to_text(suspicion.seen_empty_at)}
    return item


def _read(item: Mapping[str, Any]) -> Suspicion:
    seen_empty_at = item.get("seen_empty_at")
    return Suspicion(
        id=item["sk"]["S"],
        identifier=Identifier(item["identifier"]["S"]) if "identifier" in item else None,
        meter_id=item["meter"]["S"] if "meter" in item else None,
        code=item["code"]["S"],
        message=item["message"]["S"],
        count=int(item["count"]["N"]),
        window=Span(
            times.from_text(item["window_start"]["S"]), times.from_text(item["window_end"]["S"])
        ),
        account=item["account"]["S"],
        is_live=item["live"]["BOOL"],
        reported_at=times.from_text(item["reported_at"]["S"]),
        seen_empty_at=times.from_text(seen_empty_at["S"]) if seen_empty_at else None,
    )
