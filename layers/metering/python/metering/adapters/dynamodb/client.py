"""The one DynamoDB client of a process, tuned by botocore's public settings and hooks.

Ingest lives in this client: four fifths of its CPU is spent here. What is done about it, measured
with `make bench`: no parameter validation (our own schema has checked every value), a short user
agent, and for the calls that carry much a request body that is written as JSON at once. The
generic serializer would walk each of their thousands of values through the service model only to
arrive at the same text.
"""

import json
from base64 import b64encode
from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from botocore.config import Config as BotoConfig

from metering.adapters import aws
from metering.config import Config

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient

_BODY = "metering_body"
_WRITTEN_AT_ONCE: dict[str, tuple[str, Any]] = {
    "PutItem": ("Item", {}),
    "BatchExecuteStatement": ("Statements", ()),
    "TransactWriteItems": ("TransactItems", ()),
}
"""Per operation: its large parameter, and what stands there for the generic serializer."""


def make_client(config: Config) -> "DynamoDBClient":
    """A client for the deployment's tables.

    Retries are few and short: whoever redelivers owns the long loop.
    """
    settings = BotoConfig(
        parameter_validation=False,
        connect_timeout=2,
        read_timeout=5,
        retries={"mode": "standard", "total_max_attempts": 3},
        max_pool_connections=64,
        tcp_keepalive=True,
        user_agent="stripemeter",
    )
    client: DynamoDBClient = aws.client(
        "dynamodb", endpoint_url=config.dynamodb_endpoint, config=settings
    )
    for operation in _WRITTEN_AT_ONCE:
        client.meta.events.register(f"before-parameter-build.dynamodb.{operation}", _write_body)
        client.meta.events.register(f"before-call.dynamodb.{operation}", _place_body)
    return client


def _write_body(
    params: MutableMapping[str, Any], model: Any, context: MutableMapping[str, Any], **_: object
) -> None:
    if model.name == "TransactWriteItems":
        # botocore adds it at this same hook, perhaps after us. All its repeats send one body.
        params.setdefault("ClientRequestToken", str(uuid4()))
    context[_BODY] = json.dumps(params, default=_binary, separators=(",", ":")).encode()
    name, stand_in = _WRITTEN_AT_ONCE[model.name]
    params[name] = stand_in


def _place_body(
    params: MutableMapping[str, Any], context: MutableMapping[str, Any], **_: object
) -> None:
    params["body"] = context[_BODY]


def _binary(value: object) -> str:
    """DynamoDB's JSON for binary values."""
    if isinstance(value, bytes):
        return b64encode(value).decode()
    raise TypeError(f"DynamoDB takes no {type(value).__name__}")
