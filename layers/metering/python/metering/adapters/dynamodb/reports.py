"""Reconciliation reports in the `billing` table.

    heads   pk = tenant, month   sk = when it was made   (the shadow's in partitions of their own)
    rows    pk = report id       sk = number of the chunk

A report's rows may be thousands, and an item holds 400 KB, so they are kept in chunks, compressed;
repairs and proposals stand in the same chunks, after the rows. The head is written last: a report
that has a head is whole. A head that is followed by a newer one is given time to live, with its
chunks.
"""

import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import chain
from typing import TYPE_CHECKING, Any

from metering import times
from metering.adapters.dynamodb.push_item import Item, key
from metering.adapters.dynamodb.refusals import retryable
from metering.config import Config
from metering.counter import CounterKey
from metering.keys import join
from metering.names import CustomerRef, Metric, TenantId
from metering.period import Span
from metering.push import Role
from metering.quantity import canonical
from metering.reconciliation import (
    Cause,
    Finding,
    InvoiceNumber,
    Look,
    Proposal,
    Repair,
    Report,
    Row,
    Status,
)

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient

CHUNK_BYTES = 350_000
"""Of JSON before compression, so that even what cannot be compressed fits an item."""
KEPT_WHEN_SUPERSEDED = timedelta(days=90)


class DynamoReports:
    """The `Reports` port on DynamoDB."""

    def __init__(self, client: "DynamoDBClient", config: Config, role: Role = Role.PRIMARY) -> None:
        self._role = role
        self._client = client
        self._table = config.table_prefix + "billing"

    def save(self, report: Report) -> None:
        """See `Reports.save`; the rows first, then the head, then the former report's end."""
        assert report.role is self._role, f"{report.id} is not the {self._role}'s"
        former = self._head(report.tenant, report.month)
        chunks = list(_chunks(_texts_of(report)))
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
        parts: dict[str, list[Any]] = {"row": [], "repair": [], "proposal": []}
        for part in self._parts(head):
            parts[part.get("part", "row")].append(part)
        return Report(
            id=head["report"]["S"],
            tenant=tenant,
            month=month,
            created_at=times.from_text(head["sk"]["S"]),
            rows=tuple(map(_read_row, parts["row"])),
            stripe_reads=int(head["stripe_reads"]["N"]),
            repairs=tuple(map(_read_repair, parts["repair"])),
            proposals=tuple(map(_read_proposal, parts["proposal"])),
            role=self._role,
        )

    def _head(self, tenant: TenantId, month: str) -> Item | None:
        with retryable():
            answer = self._client.query(
                TableName=self._table,
                KeyConditionExpression="pk = :pk",
                ExpressionAttributeValues={
                    ":pk": {"S": _heads_partition(self._role, tenant, month)}
                },
                ConsistentRead=True,
                ScanIndexForward=False,
                Limit=1,
            )
        return dict(answer["Items"][0]) if answer["Items"] else None

    def _parts(self, head: Item) -> Iterator[dict[str, Any]]:
        for number in range(int(head["chunks"]["N"])):
            with retryable():
                answer = self._client.get_item(
                    TableName=self._table,
                    Key=_chunk_key(head["report"]["S"], number),
                    ConsistentRead=True,
                )
            text = zlib.decompress(answer["Item"]["rows"]["B"])
            yield from json.loads(text)

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


def _heads_partition(role: Role, tenant: TenantId, month: str) -> str:
    name = "reports" if role is Role.PRIMARY else f"{role}_reports"
    return join(name, tenant, month)


def _head_item(report: Report, chunks: int) -> Item:
    partition = _heads_partition(report.role, report.tenant, report.month)
    return key(partition, times.to_text(report.created_at)) | {
        "report": {"S": report.id},
        "chunks": {"N": str(chunks)},
        "stripe_reads": {"N": str(report.stripe_reads)},
    }


def _chunk_key(report_id: str, number: int) -> Item:
    return key(join("report", report_id), f"{number:06d}")


# --- rows -----------------------------------------------------------------------------------------


def _texts_of(report: Report) -> Iterator[str]:
    """Rows, then repairs, then proposals, each as one JSON object."""
    parts = chain(
        map(_row_object, report.rows),
        map(_repair_object, report.repairs),
        map(_proposal_object, report.proposals),
    )
    for part in parts:
        yield json.dumps(part, ensure_ascii=False)


def _chunks(parts: Iterable[str]) -> Iterator[bytes]:
    """Compressed JSON lists, each within the limit before compression."""
    texts: list[str] = []
    size = 0
    for text in parts:
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
    kept = _place(row.counter, row.period) | {
        "item": row.subscription_item_id,
        "ledger": canonical(row.ledger),
        "counted": canonical(row.counted),
        "pushed": canonical(row.pushed),
        "stripe": _optional(row.stripe, canonical),
        "read_at": _optional(row.stripe_read_at, times.to_text),
        "told": _optional(row.told_at_reading, canonical),
        "status": row.status,
        "findings": [_finding_object(finding) for finding in row.findings],
    }
    if row.recounted_at is not None:
        kept |= {"recounted_at": times.to_text(row.recounted_at), "mark": row.usage_mark}
    if row.invoice is not None:
        invoice, quantity, is_final = row.invoice
        kept["invoice"] = [invoice, canonical(quantity), is_final]
    return kept


def _read_row(kept: Mapping[str, Any]) -> Row:
    counter, period = _read_place(kept)
    invoice = kept.get("invoice")
    return Row(
        counter=counter,
        period=period,
        subscription_item_id=kept["item"],
        ledger=Decimal(kept["ledger"]),
        counted=Decimal(kept["counted"]),
        pushed=Decimal(kept["pushed"]),
        stripe=_optional(kept["stripe"], Decimal),
        stripe_read_at=_optional(kept["read_at"], times.from_text),
        findings=tuple(map(_read_finding, kept["findings"])),
        status=Status(kept["status"]),
        invoice=InvoiceNumber(invoice[0], Decimal(invoice[1]), invoice[2]) if invoice else None,
        told_at_reading=_optional(kept.get("told"), Decimal),
        recounted_at=_optional(kept.get("recounted_at"), times.from_text),
        usage_mark=kept.get("mark", ""),
    )


def _finding_object(finding: Finding) -> list[Any]:
    kept: list[Any] = [finding.cause, canonical(finding.amount), finding.explanation]
    if finding.looks or finding.is_settled:
        kept += [finding.is_settled, [_look_object(look) for look in finding.looks]]
    return kept


def _read_finding(kept: Sequence[Any]) -> Finding:
    cause, amount, text, *more = kept
    is_settled, looks = more or (False, [])
    return Finding(
        Cause(cause), Decimal(amount), text, tuple(map(_read_look, looks)), is_settled=is_settled
    )


def _look_object(look: Look) -> list[Any]:
    first = _optional(look.first_seen_at, times.to_text)
    numbers = (canonical(look.expected), canonical(look.seen))
    return [*map(times.to_text, look.span), *numbers, look.identifier, first]


def _read_look(kept: Sequence[Any]) -> Look:
    start, end, expected, seen, identifier, first = kept
    return Look(
        Span(times.from_text(start), times.from_text(end)),
        Decimal(expected),
        Decimal(seen),
        identifier,
        _optional(first, times.from_text),
    )


def _repair_object(repair: Repair) -> dict[str, Any]:
    return _place(repair.counter, repair.period) | {
        "part": "repair",
        "cause": repair.cause,
        "amount": canonical(repair.amount),
        "identifier": repair.identifier,
        "text": repair.text,
    }


def _read_repair(kept: Mapping[str, Any]) -> Repair:
    counter, period = _read_place(kept)
    amount = Decimal(kept["amount"])
    return Repair(counter, period, Cause(kept["cause"]), amount, kept["identifier"], kept["text"])


def _proposal_object(proposal: Proposal) -> dict[str, Any]:
    return _place(proposal.counter, proposal.period) | {
        "part": "proposal",
        "cause": proposal.cause,
        "amount": canonical(proposal.amount),
        "text": proposal.text,
    }


def _read_proposal(kept: Mapping[str, Any]) -> Proposal:
    return Proposal(*_read_place(kept), Cause(kept["cause"]), Decimal(kept["amount"]), kept["text"])


def _place(counter: CounterKey, period: Span) -> dict[str, Any]:
    bounds = [times.to_text(period.start), times.to_text(period.end)]
    return {"counter": list(counter), "period": bounds}


def _read_place(kept: Mapping[str, Any]) -> tuple[CounterKey, Span]:
    tenant, customer, metric = kept["counter"]
    start, end = kept["period"]
    counter = CounterKey(TenantId(tenant), CustomerRef(customer), Metric(metric))
    return counter, Span(times.from_text(start), times.from_text(end))


def _optional[T, U](value: T | None, convert: Callable[[T], U]) -> U | None:
    return None if value is None else convert(value)
