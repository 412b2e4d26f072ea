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
    403: "Another tenant was named, or the caller may not do this.",
    404: "Nothing stands at that name for this tenant, or at that path for anybody.",
    409: "What stands there contradicts the request; nothing was changed.",
    413: "The body is over 1 MiB.",
    415: "The body is not sent as JSON.",
    429: "This tenant has sent too many requests lately, or this address too many wrong keys.",
    422: "The answer would take too much reading; the message says how to ask for less.",
    500: "Our own fault; its details are in the log.",
    501: "This deployment keeps no index of events by time.",
    502: "Stripe is not set up here, or refuses our key.",
    503: "Not now: nothing is wrong with the request, send it again.",
}
"""Every status of a refusal, and what it says wherever it is answered."""


class Body(BaseModel):
    """A JSON object with camelCase names."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, frozen=True, use_attribute_docstrings=True
    )


class RefusedCaller(Body):
    """Why this caller may not ask that."""

    error: str
    message: str | None = None
    """Only where `error` does not say it all."""


class Fault(Body):
    """One thing that is wrong with a request."""

    path: list[str]
    """Where it is: `body`, `query` or `path`, then names and positions."""
    code: str
    message: str


class ErrorBody(Body):
    """Why a request was refused."""

    error: str
    """Its kind in a few words."""
    message: str
    """What is wrong, where, and how to mend it."""
    details: list[Fault] = Field([])
    """Of a `Validation Error` that names fields: each fault by itself."""
    status_code: int = 404
    """Only of an unknown path."""


def printable(value: str) -> str:
    """The text, if it can be seen whole.

    Raises:
        ValueError: it holds control or invisible characters.
    """
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

MetricName = Annotated[str, Field(min_length=1, max_length=100), AfterValidator(printable)]
CustomerName = Annotated[str, Field(min_length=1, max_length=255), AfterValidator(printable)]
StripeId = Annotated[str, Field(max_length=255), AfterValidator(printable)]

TenantQuery = Annotated[
    str | None,
    Query(alias="tenantId", description="Only to repeat the API key's own tenant."),
]
CustomerQuery = Annotated[CustomerName, Query(alias="customerRef")]
CustomerFilter = Annotated[CustomerName | None, Query(alias="customerRef")]
MetricFilter = Annotated[MetricName | None, Query(alias="metric")]
