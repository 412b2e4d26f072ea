"""Calling the `api` function as API Gateway does, and usage for it to show."""

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode

from functions.aggregator.handler import handler as aggregate
from functions.api.handler import handler
from metering.auth import Scope
from metering.event import LedgerEntry
from metering.names import TenantId
from metering.ports import Appended
from metering.wiring import Wiring
from tests.builders import a_stream_batch

TEMPLATE = json.loads((Path(__file__).parent.parent / "events/http-get.json").read_text())
_shards = (f"shardId-{number:04}" for number in itertools.count())


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    text: str
    headers: dict[str, str]

    @property
    def body(self) -> Any:
        """The JSON, every number with all its digits."""
        return json.loads(self.text, parse_float=Decimal, parse_int=Decimal)


def an_api_request(
    method: str,
    path: str,
    *,
    query: str = "",
    body: object = ...,
    headers: dict[str, str] | None = None,
) -> dict[str, Any]:
    """API Gateway's payload 2.0, from the example that all share; text goes as it is."""
    http = TEMPLATE["requestContext"]["http"] | {"method": method, "path": path}
    event: dict[str, Any] = TEMPLATE | {
        "rawPath": path,
        "rawQueryString": query,
        "headers": {"content-type": "application/json"} | (headers or {}),
        "queryStringParameters": _joined(query),
        "requestContext": TEMPLATE["requestContext"] | {"http": http},
    }
    if body is not ...:
        event["body"] = body if isinstance(body, str) else json.dumps(body)
    return event


def _joined(query: str) -> dict[str, str]:
    parameters: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        parameters[name] = f"{parameters[name]},{value}" if name in parameters else value
    return parameters


class Api:
    """The API for one caller."""

    def __init__(self, headers: dict[str, str] | None = None) -> None:
        self._headers = headers or {}

    def get(self, path: str, **query: object) -> Answer:
        return self.call("GET", path, query=urlencode(query))

    def post(self, path: str, body: object, *, query: str = "") -> Answer:
        return self.call("POST", path, body=body, query=query)

    def put(self, path: str, body: object, *, query: str = "") -> Answer:
        return self.call("PUT", path, body=body, query=query)

    def delete(self, path: str) -> Answer:
        return self.call("DELETE", path)

    def call(self, method: str, path: str, *, query: str = "", body: object = ...) -> Answer:
        request = an_api_request(method, path, query=query, body=body, headers=self._headers)
        result = handler(request, None)
        assert not result["isBase64Encoded"]
        return Answer(result["statusCode"], result["body"] or "", dict(result["headers"]))


def api_of(wiring: Wiring, tenant: str, *scopes: Scope) -> Api:
    """The API for a key of a tenant, with all of a project's scopes unless told which."""
    chosen = scopes or (Scope.PROJECT_READ, Scope.PROJECT_WRITE)
    issued = wiring.key_issuer.create_key(TenantId(tenant), chosen)
    return Api({"authorization": f"Bearer {issued.text}"})


def meter(wiring: Wiring, entries: Sequence[LedgerEntry]) -> None:
    """Accept entries and fold them into their counters."""
    assert wiring.ledger.append(entries) == [Appended.ACCEPTED] * len(entries)
    answer = aggregate(a_stream_batch(entries, shard=next(_shards)), None)
    assert answer["batchItemFailures"] == []
