"""A usage event, its entry in the ledger, and what makes it the same event.

Identity is over canonical forms (`1.10` is `1.1`, times in UTC, object keys sorted), so every
spelling of one event has one key and one content hash. What clients send is read in `sent_event`,
which needs pydantic; most functions only meet events that were taken long ago.
"""

import json
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from metering import quantity, times
from metering.keys import digest, join
from metering.names import CustomerRef, IdempotencyKey, Metric, TenantId

META_BYTES_MAX = 4096
RESERVED_KEYS = "adjustment:"
"""How the keys of adjustments begin; no client's key may."""
_APPROVALS = RESERVED_KEYS + "late:"
_APPROVAL_REVERTS = RESERVED_KEYS + "late-revert:"


class Source(StrEnum):
    """Where an event says it came from; not part of its identity."""

    SDK = "sdk"
    HTTP = "http"
    ETL = "etl"
    IMPORT = "import"
    SYSTEM = "system"


@dataclass(frozen=True, slots=True)
class UsageEvent:
    """One occurrence of usage: `quantity` > 0 in the metric's unit, at `occurred_at` (UTC)."""

    tenant: TenantId
    key: IdempotencyKey
    metric: Metric
    customer: CustomerRef
    resource: str | None
    quantity: Decimal
    occurred_at: datetime
    meta: str
    """Canonical JSON of an object, `{}` when there is none."""
    source: Source

    def content_hash(self) -> bytes:
        """16 bytes over all but tenant, key and source: tells a duplicate from a conflict."""
        return digest(_content(self))


class EntryKind(StrEnum):
    """What an entry of the ledger is; all but the first are decisions of people."""

    USAGE = "usage"
    ADJUSTMENT = "adjustment"
    """Its quantity, of any sign, is added to the counter's number whatever the aggregation."""
    APPROVAL = "approval"
    """A late event that was held back and counts from now on, with its own time and content."""
    APPROVAL_REVERT = "approval_revert"
    """Takes such an event out again; its quantity is the event's, negated."""


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """A usage event as the ledger holds it, for ever unchanged."""

    event: UsageEvent
    received_at: datetime
    """Stamped by the server before the write."""
    is_late: bool
    """Beyond its metric's lateness at receipt and held back for approval; decided once, here."""
    kind: EntryKind = EntryKind.USAGE
    decided_by: str = ""
    """Of a decision: who made it, `api:<key prefix>`."""


def approval_key(held: IdempotencyKey) -> IdempotencyKey:
    """The key of the one entry that approves the late event with this key."""
    return IdempotencyKey(_APPROVALS + held)


def approved_key(approval: IdempotencyKey) -> IdempotencyKey:
    """The key of the late event that an approval approves."""
    return IdempotencyKey(approval.removeprefix(_APPROVALS))


def approval_revert_key(held: IdempotencyKey) -> IdempotencyKey:
    """The key of the one entry that takes the approval of that late event back."""
    return IdempotencyKey(_APPROVAL_REVERTS + held)


def key_from_header(header: str, position: int) -> IdempotencyKey:
    """The key of one of several keyless events of a request: from the header and its position."""
    return IdempotencyKey("idem_" + digest(join(header, str(position))).hex())


def derived_key(event: UsageEvent) -> IdempotencyKey:
    """The key of an event that was sent without one: all of its content identifies it; 128 bits."""
    return IdempotencyKey("evt_" + digest(join(event.tenant, _content(event))).hex())


def _content(event: UsageEvent) -> str:
    return join(
        event.metric,
        event.customer,
        event.resource or "",
        times.to_text(event.occurred_at),
        quantity.canonical(event.quantity),
        event.meta,
    )


def canonical_json(value: object) -> str:
    """JSON with sorted keys, no blanks and canonical numbers: one text for all spellings.

    Raises:
        ValueError: not JSON (NaN, a type that JSON lacks).
    """
    match value:
        case None | bool() | str():
            return json.dumps(value, ensure_ascii=False)
        case int() | Decimal():
            return _canonical_number(Decimal(value))
        case dict():
            members = (f"{json.dumps(name, ensure_ascii=False)}:{canonical_json(value[name])}"
                       for name in sorted(value))  # fmt: skip
            return "{" + ",".join(members) + "}"
        case list():
            return "[" + ",".join(map(canonical_json, value)) + "]"
    raise ValueError(f"{type(value).__name__} is not JSON")


def _canonical_number(number: Decimal) -> str:
    if not number.is_finite():
        raise ValueError(f"{number} is not JSON")
    if number and abs(number.adjusted()) > META_BYTES_MAX:
        # Plain notation of 1e999999 would be a megabyte of zeros.
        return str(quantity.without_trailing_zeros(number))
    return quantity.canonical(number)
