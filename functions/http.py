"""API Gateway's payload 2.0, as far as functions without a router need it."""

import json
from base64 import b64decode
from collections.abc import Mapping
from typing import Any


def body_of(event: Mapping[str, Any]) -> bytes:
    """The request's body as it came over the wire."""
    body = event.get("body") or ""
    return b64decode(body) if event.get("isBase64Encoded") else body.encode()


def query_of(event: Mapping[str, Any]) -> Mapping[str, str]:
    """The request's query parameters; repeated ones are joined by commas."""
    return event.get("queryStringParameters") or {}


def respond(
    status: int, body: Mapping[str, Any], headers: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """An answer with a JSON body."""
    return {
        "statusCode": status,
        "headers": {"content-type": "application/json"} | dict(headers or {}),
        "body": json.dumps(body, separators=(",", ":")),
    }
