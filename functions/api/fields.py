"""The kinds of fields that requests and answers are made of, with what the API's document says."""

from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from typing import Annotated

from aws_lambda_powertools.event_handler.openapi.params import Query
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic.alias_generators import to_camel

from metering import times

ERROR_STATUSES = {
    400: "Something in the request is wrong; the message names it.",
    401: "No valid API key.",
    403: "Another tenant was named, or the key lacks a scope.",
}


class Body(BaseModel):
    """A JSON object with camelCase names."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, frozen=True, use_attribute_docstrings=True
    )


class ErrorBody(Body):
    """Why a request was refused."""

    error: str
    message: str | None = None


def _printable(value: str) -> str:
    if not value.isprintable():
        raise ValueError("must not contain control or invisible characters")
    return value


def _parsed[T](parse: Callable[[object], T]) -> BeforeValidator:
    return BeforeValidator(parse)


Quantity = Annotated[
    Decimal,
    WithJsonSchema({"type": "number", "description": "Exact: read it as a decimal, not a float."}),
]
Instant = Annotated[
    datetime,
    _parsed(times.parse_rfc3339),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
When = Annotated[datetime, WithJsonSchema({"type": "string", "format": "date-time"})]

MetricName = Annotated[str, Field(min_length=1, max_length=100), AfterValidator(_printable)]
CustomerName = Annotated[str, Field(min_length=1, max_length=255), AfterValidator(_printable)]
StripeId = Annotated[str, Field(max_length=255), AfterValidator(_printable)]

TenantQuery = Annotated[
    str | None,
    Query(alias="tenantId", description="Only to repeat the API key's own tenant."),
]
CustomerQuery = Annotated[CustomerName, Query(alias="customerRef")]
CustomerFilter = Annotated[CustomerName | None, Query(alias="customerRef")]
MetricFilter = Annotated[MetricName | None, Query(alias="metric")]
