"""Reading the ledger's archive: which windows there are, and the events in what was fetched."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from infra.operate.place import deployment_named
from metering import quantity, times
from metering.adapters.dynamodb.archive_windows import DynamoArchiveWindows
from metering.adapters.dynamodb.client import make_client
from metering.adapters.dynamodb.ledger_item import from_item
from metering.archive import Window
from metering.config import Config
from metering.event import LedgerEntry


def show(env: str) -> None:
    """Print every window of a deployment's archive, oldest first."""
    config = Config(table_prefix=deployment_named(env).prefix)
    for window in DynamoArchiveWindows(make_client(config), config).all():
        print(line_of(window))  # noqa: T201 (a command)


def line_of(window: Window) -> str:
    """One window for people."""
    size = f"{window.entries:>12,} entries {window.billed_bytes / 1e6:>10,.1f} MB"
    return f"{window.name:<40} {window.state:<9} {size}  {window.manifest}".rstrip()


def lines(folder: Path) -> Iterator[str]:
    """Each event in a folder of exports once, as a line of JSON with every digit.

    An entry may stand in two exports: the first one of the whole ledger, or one that was asked for
    again after eight hours. They are the same, because an entry never changes.
    """
    seen: set[str] = set()
    for path in sorted(folder.rglob("*.json.gz")):
        for item in _items(path):
            key = item["pk"]["S"]
            if key not in seen:
                seen.add(key)
                yield _line(from_item(item))


def _items(path: Path) -> Iterator[dict[str, Any]]:
    """The items of one data file; manifests have other names."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for line in file:
            record = json.loads(line)
            # An export of the whole table has `Item`, one of changes `NewImage`.
            item = record.get("Item") or record.get("NewImage")
            if item is not None:
                yield item


def _line(entry: LedgerEntry) -> str:
    event = entry.event
    said = {
        "tenantId": event.tenant,
        "idempotencyKey": event.key,
        "metric": event.metric,
        "customerRef": event.customer,
        "resourceId": event.resource,
        "ts": times.to_text(event.occurred_at),
        "receivedAt": times.to_text(entry.received_at),
        "quantity": quantity.canonical(event.quantity),
        "kind": entry.kind,
        "late": entry.is_late,
        "meta": event.meta,
    }
    return json.dumps(said, ensure_ascii=False)
