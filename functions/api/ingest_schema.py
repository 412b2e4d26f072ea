"""What the API's document says of `POST /v1/events/ingest`.

For readers and their code generators only: what is really taken stands in `metering.sent_event`,
and a test holds the two against each other.
"""

from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import Field, WithJsonSchema

from functions.api.fields import Body, When
from metering.event import Source

SentQuantity = Annotated[
    Decimal,
    WithJsonSchema(
        {
            "description": "Above 0, at most 15 integer and 12 decimal digits; kept exactly.",
            "anyOf": [
                {"type": "number", "exclusiveMinimum": 0},
                {"type": "string", "pattern": r"^[0-9.eE+-]+$"},
            ],
        }
    ),
]


class EventToIngest(Body):
    """One usage event; each name may also be written in snake_case."""

    tenant_id: str | None = Field(None, min_length=1, max_length=100)
    metric: str = Field(min_length=1, max_length=100)
    customer_ref: str = Field(min_length=1, max_length=255)
    resource_id: str | None = Field(None, max_length=255)
    quantity: SentQuantity
    ts: When = Field(description="When it was used, with an offset; at most an hour ahead of now.")
    meta: dict[str, Any] | None = Field(None, description="At most 4,096 bytes as JSON.")
    idempotency_key: str | None = Field(
        None,
        max_length=255,
        description="Made of all of the event's content where it is left out: two events that"
        " differ in nothing are one.",
    )
    source: Source = Source.HTTP


class IngestRequest(Body):
    """Up to 1,000 events, 1 MiB in all."""

    tenant_id: str | None = None
    events: list[EventToIngest] = Field(min_length=1, max_length=1000)


class IngestResult(Body):
    """What became of one event."""

    idempotency_key: str
    status: Literal["accepted", "duplicate", "conflict", "error"]
    """`conflict`: the key stands for an event with other content; nothing was changed."""
    error: str = ""
    retryable: bool = False
    """Nothing is wrong with the event; send the same again."""
    late: bool = False
    """Accepted, and held back from every total until it is approved."""


class IngestError(Body):
    """Why an event was not taken."""

    index: int
    """Its position in the request; -1 is the request itself."""
    error: str


class IngestAnswer(Body):
    """One result per event, in the order sent."""

    accepted: int
    duplicates: int
    conflicts: int
    request_id: str
    results: list[IngestResult]
    errors: list[IngestError] = Field([])


class IngestRefusal(Body):
    """Every event was refused, or the request could not be read: then it holds `error`."""

    accepted: int = 0
    duplicates: int = 0
    conflicts: int = 0
    request_id: str = ""
    results: list[IngestResult] = Field([])
    errors: list[IngestError] = Field([])
    error: str = ""
    message: str = ""
