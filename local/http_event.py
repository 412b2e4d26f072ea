"""API Gateway's HTTP API on paper: a request as payload 2.0, and a handler's result as an answer.

Source: AWS, "Create AWS Lambda proxy integrations for HTTP APIs", payload format version 2.0. A
path arrives decoded (so `%2F` cannot be told from `/`), a query string as it was sent.
"""

import base64
import binascii
import json
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import parse_qsl

from local.context import ACCOUNT

API_ID = "local"
STAGE = "$default"
_TEXT_TYPES = frozenset({"application/json", "application/javascript", "application/xml"})


@dataclass(frozen=True, slots=True)
class Request:
    """What came in over HTTP."""

    method: str
    path: str
    """Decoded."""
    query: str
    """As sent, without the question mark."""
    headers: Iterable[tuple[bytes, bytes]]
    """Lower-case names, repeats kept."""
    body: bytes
    source_ip: str
    protocol: str = "HTTP/1.1"


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back over HTTP."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes


class UnusableResultError(ValueError):
    """The handler returned what API Gateway cannot make an answer of."""


def payload(
    request: Request, *, route: str, now: datetime, request_id: str | None = None
) -> dict[str, Any]:
    """The event of payload format 2.0 that the request becomes."""
    headers, cookies = _headers(request.headers)
    body, is_base64 = _body(request.body, headers)
    host = headers.get("host", "")
    event: dict[str, Any] = {
        "version": "2.0",
        "routeKey": route,
        "rawPath": request.path,
        "rawQueryString": request.query,
        "headers": headers,
        "requestContext": {
            "accountId": ACCOUNT,
            "apiId": API_ID,
            "domainName": host,
            "domainPrefix": host.partition(".")[0],
            "http": {
                "method": request.method,
                "path": request.path,
                "protocol": request.protocol,
                "sourceIp": request.source_ip,
                "userAgent": headers.get("user-agent", ""),
            },
            "requestId": request_id or uuid.uuid4().hex,
            "routeKey": route,
            "stage": STAGE,
            "time": now.strftime("%d/%b/%Y:%H:%M:%S +0000"),
            "timeEpoch": int(now.timestamp() * 1000),
        },
        "isBase64Encoded": is_base64,
    }
    if cookies:
        event["cookies"] = cookies
    if request.query:
        event["queryStringParameters"] = _query_parameters(request.query)
    if body is not None:
        event["body"] = body
    return event


def _headers(raw: Iterable[tuple[bytes, bytes]]) -> tuple[dict[str, str], list[str]]:
    headers: dict[str, str] = {}
    cookies: list[str] = []
    for name_bytes, value_bytes in raw:
        name, value = name_bytes.decode("latin-1"), value_bytes.decode("latin-1")
        if name == "cookie":
            cookies += [cookie.strip() for cookie in value.split(";")]
        else:
            headers[name] = f"{headers[name]},{value}" if name in headers else value
    return headers, cookies


def _query_parameters(query: str) -> dict[str, str]:
    parameters: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        parameters[name] = f"{parameters[name]},{value}" if name in parameters else value
    return parameters


def _body(body: bytes, headers: Mapping[str, str]) -> tuple[str | None, bool]:
    """The body as text where API Gateway takes its type for text, else in base64."""
    if not body:
        return None, False
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    is_text = kind in _TEXT_TYPES or kind.startswith("text/") or kind.endswith("+json")
    if is_text and "content-encoding" not in headers:
        try:
            return body.decode(), False
        except UnicodeDecodeError:
            pass  # Not the text it says it is: handed over as bytes, for the handler to refuse.
    return base64.b64encode(body).decode(), True


def answer(result: Any) -> Answer:
    """What a handler's result becomes: with a `statusCode` as told, anything else as 200 JSON.

    Raises:
        UnusableResultError: it cannot be made into an answer; API Gateway says 500 then.
    """
    if not (isinstance(result, dict) and "statusCode" in result):
        text = result if isinstance(result, str) else _json(result)
        return Answer(200, ((b"content-type", b"application/json"),), text.encode())
    try:
        headers = [
            (str(name).lower().encode("latin-1"), str(value).encode("latin-1"))
            for name, value in (result.get("headers") or {}).items()
        ]
        headers += [(b"set-cookie", str(one).encode()) for one in result.get("cookies") or ()]
        body = result.get("body") or ""
        encoded = result.get("isBase64Encoded")
        content = base64.b64decode(body, validate=True) if encoded else _text(body).encode()
        status = int(result["statusCode"])
    except (ValueError, TypeError, AttributeError, binascii.Error) as wrong:
        raise UnusableResultError(f"a result API Gateway cannot use: {wrong}") from wrong
    if not any(name == b"content-type" for name, _ in headers):
        headers.append((b"content-type", b"text/plain; charset=utf-8"))
    return Answer(status, tuple(headers), content)


def _text(body: Any) -> str:
    if not isinstance(body, str):
        raise TypeError(f"body must be text, not {type(body).__name__}")
    return body


def _json(result: Any) -> str:
    try:
        return json.dumps(result)
    except (TypeError, ValueError) as wrong:
        raise UnusableResultError(f"the result is no JSON: {wrong}") from wrong


def message(status: int, text: str) -> Answer:
    """API Gateway's own answers: `{"message": ...}`."""
    body = json.dumps({"message": text}).encode()
    return Answer(status, ((b"content-type", b"application/json"),), body)
