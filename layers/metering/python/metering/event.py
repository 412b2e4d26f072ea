"""A usage event: what a client sends, how it is checked, and what makes it the same event.

Identity is over canonical forms (`1.10` is `1.1`, times in UTC, object keys sorted), so every
spelling of one event has one key and one content hash.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Annotated

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from metering import quantity, times
from metering.errors import Refusal
from metering.keys import digest, join
from metering.names import CustomerRef, IdempotencyKey, Metric, TenantId

META_BYTES_MAX = 4096
KEY_CHARACTERS_MAX = 255
METRIC_CHARACTERS_MAX = 100
TENANT_CHARACTERS_MAX = 100
CUSTOMER_CHARACTERS_MAX = 255
RESOURCE_CHARACTERS_MAX = 255
RESERVED_KEYS = "adjustment:"
"""How the keys of adjustments begin; no client's key may."""
_APPROVALS = RESERVED_KEYS + "late:"
_APPROVAL_REVERTS = RESERVED_KEYS + "late-revert:"
BYTES_A_CHARACTER = 2
"""On average, of the names that are joined in a sort key: 455 characters make 910 bytes."""


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


def _content(event: UsageEvent) -> str:
    return join(
        event.metric,
        event.customer,
        event.resource or "",
        times.to_text(event.occurred_at),
        quantity.canonical(event.quantity),
        event.meta,
    )


# --- reading what a client sent -------------------------------------------------------------------


def _checker(
    *, longest: int, in_key: bool = False, controls_allowed: bool = False
) -> Callable[[object], str]:
    """A check for a name: not blank, not too long, printable, and valid Unicode.

    DynamoDB bounds a sort key to 1,024 bytes. Tenant, customer and metric stand in one together, so
    each is bounded in bytes too; ASCII never meets that bound.
    """
    bytes_max = longest * BYTES_A_CHARACTER

    def check(value: object) -> str:
        if not isinstance(value, str):
            raise PydanticCustomError("text", "must be a string")
        if not value:
            raise PydanticCustomError("text", "String must contain at least 1 character(s)")
        if len(value) > longest:
            raise PydanticCustomError(
                "text",
                "String must contain at most {longest} character(s), got {length}",
                {"longest": longest, "length": len(value)},
            )
        if not value.isascii():
            _check_encoding(value, bytes_max=bytes_max if in_key else None)
        if not controls_allowed and not value.isprintable():
            raise PydanticCustomError("text", "must not contain control or invisible characters")
        return value

    return check


def _check_encoding(value: str, *, bytes_max: int | None) -> None:
    """Pass text that UTF-8 can hold, in so many bytes where there is a bound."""
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise PydanticCustomError("text", "must be valid Unicode (it holds half a surrogate pair)")
    if bytes_max is not None and len(value.encode()) > bytes_max:
        raise PydanticCustomError(
            "text",
            "must take at most {limit} bytes in UTF-8, got {size}",
            {"limit": bytes_max, "size": len(value.encode())},
        )


_check_tenant = _checker(longest=TENANT_CHARACTERS_MAX, in_key=True)
_check_metric = _checker(longest=METRIC_CHARACTERS_MAX, in_key=True)
_check_customer = _checker(longest=CUSTOMER_CHARACTERS_MAX, in_key=True)
_check_resource = _checker(longest=RESOURCE_CHARACTERS_MAX)
_check_key_text = _checker(longest=KEY_CHARACTERS_MAX, controls_allowed=True)


def _check_key(value: object) -> str:
    key = _check_key_text(value)
    if key.startswith(RESERVED_KEYS):
        raise PydanticCustomError(
            "text",
            "must not begin with '{prefix}': such keys are kept for adjustments",
            {"prefix": RESERVED_KEYS},
        )
    return key


def tenant_named(name: object) -> TenantId:
    """The tenant that a request names where no API key proves one.

    Raises:
        ValueError: no valid name.
    """
    return TenantId(_check_tenant(name))


def metric_named(name: object) -> Metric:
    """The metric that a request names.

    Raises:
        ValueError: no valid name.
    """
    return Metric(_check_metric(name))


def customer_named(name: object) -> CustomerRef:
    """The customer that a request names.

    Raises:
        ValueError: no valid name.
    """
    return CustomerRef(_check_customer(name))


def key_given(key: object) -> IdempotencyKey:
    """The idempotency key that a request's header gives.

    Raises:
        ValueError: no valid key.
    """
    return IdempotencyKey(_check_key(key))


def _absent_if_empty(value: object) -> object:
    return None if value == "" else value


def _quantity(value: object) -> Decimal:
    try:
        return quantity.parse_quantity(value)
    except quantity.InvalidQuantityError as error:
        raise PydanticCustomError("quantity", "{reason}", {"reason": str(error)}) from None


def _timestamp(value: object) -> datetime:
    try:
        return times.parse_rfc3339(value)
    except times.InvalidTimestampError as error:
        raise PydanticCustomError("ts", "{reason}", {"reason": str(error)}) from None


def _meta(value: object) -> str:
    """Canonical JSON of the object that was sent, within its size limit."""
    if value is None or value == {}:
        return "{}"
    if not isinstance(value, dict):
        raise PydanticCustomError("meta", "must be an object")
    try:
        text = canonical_json(value)
        size = len(text.encode())
    except (ValueError, RecursionError):
        raise PydanticCustomError("meta", "must be plain JSON and valid Unicode") from None
    if size > META_BYTES_MAX:
        raise PydanticCustomError(
            "meta",
            "Meta too large ({size} bytes > {limit})",
            {"size": size, "limit": META_BYTES_MAX},
        )
    return text


class IncomingEvent(BaseModel):
    """The wire form of one event; camelCase, or the snake_case that Python clients send."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    tenant_id: Annotated[str, BeforeValidator(_check_tenant)] | None = Field(
        None, validation_alias=AliasChoices("tenantId", "tenant_id")
    )
    metric: Annotated[str, BeforeValidator(_check_metric)]
    customer_ref: Annotated[str, BeforeValidator(_check_customer)] = Field(
        validation_alias=AliasChoices("customerRef", "customer_ref")
    )
    resource_id: Annotated[
        Annotated[str, BeforeValidator(_check_resource)] | None, BeforeValidator(_absent_if_empty)
    ] = Field(None, validation_alias=AliasChoices("resourceId", "resource_id"))
    quantity: Annotated[Decimal, BeforeValidator(_quantity)]
    ts: Annotated[datetime, BeforeValidator(_timestamp)]
    meta: Annotated[str, BeforeValidator(_meta)] = "{}"
    idempotency_key: Annotated[
        Annotated[str, BeforeValidator(_check_key)] | None,
        BeforeValidator(_absent_if_empty),
    ] = Field(None, validation_alias=AliasChoices("idempotencyKey", "idempotency_key"))
    source: Source = Source.HTTP


def parse(
    raw: object, *, tenant: TenantId | None, header_key: IdempotencyKey | None
) -> UsageEvent | Refusal:
    """The usage event that a client's JSON object states, or why it cannot be taken.

    `tenant` is the one the API key belongs to; None lets the event name its own (open local stack).
    `header_key` serves as the key of an event that carries none.
    """
    try:
        sent = IncomingEvent.model_validate(raw)
    except ValidationError as error:
        return Refusal("invalid_event", _explain(error))
    owner = sent.tenant_id if tenant is None else tenant
    if owner is None:
        return Refusal("invalid_event", "tenantId: Required")
    event = UsageEvent(
        tenant=TenantId(owner),
        key=IdempotencyKey(sent.idempotency_key or header_key or ""),
        metric=Metric(sent.metric),
        customer=CustomerRef(sent.customer_ref),
        resource=sent.resource_id,
        quantity=sent.quantity,
        occurred_at=sent.ts,
        meta=sent.meta,
        source=sent.source,
    )
    return event if event.key else _with_derived_key(event, raw)


def key_from_header(header: str, position: int) -> IdempotencyKey:
    """The key of one of several keyless events of a request: from the header and its position."""
    return IdempotencyKey("idem_" + digest(join(header, str(position))).hex())


def _with_derived_key(event: UsageEvent, raw: object) -> UsageEvent | Refusal:
    """An event without a key is identified by all of its content; 128 bits."""
    if isinstance(raw, Mapping) and times.is_finer_than_microsecond(str(raw["ts"])):
        return Refusal(
            "invalid_event",
            "ts: is finer than a microsecond, so it cannot tell this event from its neighbour;"
            " send an idempotencyKey",
        )
    key = "evt_" + digest(join(event.tenant, _content(event))).hex()
    return replace(event, key=IdempotencyKey(key))


def _explain(error: ValidationError) -> str:
    """`field: reason` for each fault, in the peer's words where it has them."""
    return "; ".join(_explain_one(fault) for fault in error.errors(include_url=False))


def _explain_one(fault: ErrorDetails) -> str:
    field = str(fault["loc"][0]) if fault["loc"] else "event"
    if fault["type"] == "missing":
        return f"{field}: Required"
    if fault["type"] in {"model_type", "model_attributes_type"}:
        return "event: must be an object"
    return f"{field}: {fault['msg']}"


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
