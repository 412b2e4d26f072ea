"""Reconciliation reports in the `billing` table.

    heads   pk = tenant, month   sk = when it was made
    rows    pk = report id       sk = number of the chunk

A report's rows may be thousands, and an item holds 400 KB, so they are kept in chunks, compressed.
The head is written last: a report that has a head is whole. A head that is followed by a newer one
is given time to live, with its chunks.
"""

import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from metering import times
from metering.adapters.dynamodb.push_item import Item, key
from metering.adapters.dynamodb.refusals import retryable
from metering.config import Config
from metering.counter import CounterKey
from metering.keys import join
from metering.names import CustomerRef, Metric, TenantId
from metering.period import Span
from metering.quantity import canonical
from metering.reconciliation import Cause, Finding, Report, Row, Status

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient

CHUNK_BYTES = 350_000
"""Of JSON before compression, so that even what cannot be compressed fits an item."""
KEPT_WHEN_SUPERSEDED = timedelta(days=90)


class DynamoReports:
    """The `Reports` port on DynamoDB."""

    def __init__(self, client: "DynamoDBClient", config: Config) -> None:
        self._client = client
        self._table = config.table_prefix + "billing"

    def save(self, report: Report) -> None:
        """See `Reports.save`; the rows first, then the head, then the former report's end."""
        former = self._head(report.tenant, report.month)
        chunks = list(_chunks(report.rows))
        for number, chunk in enumerate(chunks):
            self._put(_chunk_key(report.id, number) | {"rows": {"B": chunk}})
        self._put(_head_item(report, len(chunks)))
        if former is not None and former["report"]["S"] != report.id:
            self._expire(former, report.created_at + KEPT_WHEN_SUPERSEDED)

    def latest(self, tenant: TenantId, month: str) -> Report | None:
        """See `Reports.latest`."""
        head = self._head(tenant, month)
        if head is None:
            return None
        return Report(
            id=head["report"]["S"],
            tenant=tenant,
            month=month,
            created_at=times.from_text(head["sk"]["S"]),
            rows=tuple(self._rows(head)),
            stripe_reads=int(head["stripe_reads"]["N"]),
        )

    def _head(self, tenant: TenantId, month: str) -> Item | None:
        with retryable():
            answer = self._client.query(
                TableName=self._table,
                KeyConditionExpression="pk = :pk",
                ExpressionAttributeValues={":pk": {"S": _heads_partition(tenant, month)}},
                ConsistentRead=True,
                ScanIndexForward=False,
                Limit=1,
            )
        return dict(answer["Items"][0]) if answer["Items"] else None

    def _rows(self, head: Item) -> Iterator[Row]:
        for number in range(int(head["chunks"]["N"])):
            with retryable():
                answer = self._client.get_item(
                    TableName=self._table,
                    Key=_chunk_key(head["report"]["S"], number),
                    ConsistentRead=True,
                )
            text = zlib.decompress(answer["Item"]["rows"]["B"])
            yield from map(_read_row, json.loads(text))

    def _put(self, item: Item) -> None:
        with retryable():
            self._client.put_item(TableName=self._table, Item=item)

    def _expire(self, head: Item, at: datetime) -> None:
        keys = [{"pk": head["pk"], "sk": head["sk"]}]
        chunks = range(int(head["chunks"]["N"]))
        keys += [_chunk_key(head["report"]["S"], number) for number in chunks]
        for one in keys:
            with retryable():
                self._client.update_item(
                    TableName=self._table,
                    Key=one,
                    UpdateExpression="SET expires = :at",
                    ExpressionAttributeValues={":at": {"N": str(int(at.timestamp()))}},
                )


def _heads_partition(tenant: TenantId, month: str) -> str:
    return join("reports", tenant, month)


def _head_item(report: Report, chunks: int) -> Item:
    return key(_heads_partition(report.tenant, report.month), times.to_text(report.created_at)) | {
        "report": {"S": report.id},
        "chunks": {"N": str(chunks)},
        "stripe_reads": {"N": str(report.stripe_reads)},
    }


def _chunk_key(report_id: str, number: int) -> Item:
    return key(join("report", report_id), f"{number:06d}")


# --- rows -----------------------------------------------------------------------------------------


def _chunks(rows: Sequence[Row]) -> Iterator[bytes]:
    """Compressed JSON lists of rows, each within the limit before compression."""
    texts: list[str] = []
    size = 0
    for text in (json.dumps(_row_object(row), ensure_ascii=False) for row in rows):
        length = len(text.encode()) + 1
        if texts and size + length > CHUNK_BYTES:
            yield _packed(texts)
            texts, size = [], 0
        texts.append(text)
        size += length
    if texts:
        yield _packed(texts)


def _packed(texts: Sequence[str]) -> bytes:
    return zlib.compress(f"[{','.join(texts)}]".encode())


def _row_object(row: Row) -> dict[str, Any]:
    return {
        "counter": list(row.counter),
        "period": [times.to_text(row.period.start), times.to_text(row.period.end)],
        "item": row.subscription_item_id,
        "ledger": canonical(row.ledger),
        "counted": canonical(row.counted),
        "pushed": canonical(row.pushed),
        "stripe": None if row.stripe is None else canonical(row.stripe),
        "read_at": None if row.stripe_read_at is None else times.to_text(row.stripe_read_at),
        "status": row.status,
        "findings": [
            [finding.cause, canonical(finding.amount), finding.explanation]
            for finding in row.findings
        ],
    }


def _read_row(kept: Mapping[str, Any]) -> Row:
    tenant, customer, metric = kept["counter"]
    start, end = kept["period"]
    return Row(
        counter=CounterKey(TenantId(tenant), CustomerRef(customer), Metric(metric)),
        period=Span(times.from_text(start), times.from_text(end)),
        subscription_item_id=kept["item"],
        ledger=Decimal(kept["ledger"]),
        counted=Decimal(kept["counted"]),
        pushed=Decimal(kept["pushed"]),
        stripe=None if kept["stripe"] is None else Decimal(kept["stripe"]),
        stripe_read_at=None if kept["read_at"] is None else times.from_text(kept["read_at"]),
        findings=tuple(
            Finding(Cause(cause), Decimal(amount), text) for cause, amount, text in kept["findings"]
        ),
        status=Status(kept["status"]),
    )
