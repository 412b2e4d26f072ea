"""A usage event as a client sends it: how it is read, and why it cannot be taken."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import Annotated

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from metering import quantity, times
from metering.errors import Refusal
from metering.event import (
    META_BYTES_MAX,
    RESERVED_KEYS,
    Source,
    UsageEvent,
    canonical_json,
    derived_key,
)
from metering.names import CustomerRef, IdempotencyKey, Metric, TenantId

KEY_CHARACTERS_MAX = 255
METRIC_CHARACTERS_MAX = 100
TENANT_CHARACTERS_MAX = 100
CUSTOMER_CHARACTERS_MAX = 255
RESOURCE_CHARACTERS_MAX = 255
BYTES_A_CHARACTER = 2
"""On average, of the names that are joined in a sort key: 455 characters make 910 bytes."""


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


def _with_derived_key(event: UsageEvent, raw: object) -> UsageEvent | Refusal:
    """An event without a key is identified by all of its content."""
    if isinstance(raw, Mapping) and times.is_finer_than_microsecond(str(raw["ts"])):
        return Refusal(
            "invalid_event",
            "ts: is finer than a microsecond, so it cannot tell this event from its neighbour;"
            " send an idempotencyKey",
        )
    return replace(event, key=derived_key(event))


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
