"""Every route, with another tenant's names in every place, and with a key of every single scope.

The table says who may ask a route, and what it answers to another tenant's names. A route that is
not in the table fails the first test: whoever adds one decides both.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from functions.api.description import document_of
from functions.api.handler import app
from functions.api.routing import SCOPES
from functions.ingest.handler import handler as ingest
from infra.tables import TABLES
from local import dynamodb_local
from metering.auth import Scope, covered_by
from metering.config import Config
from metering.names import TenantId
from tests.api_client import Answer, Api
from tests.api_fuzz.fuzzed_world import CANARY, FuzzedWorld, Tenant
from tests.builders import an_http_request

PUBLIC = {"/health", "/health/live", "/health/ready", "/metrics", "/v1/stripe/webhook"}
INGEST = "POST /v1/events/ingest"
ATTACKER = TenantId("attacker")
NOT_ITS_OWN = frozenset({404})
NOTHING = frozenset({200})
"""Names mean something within a tenant only: the other's are those of nothing here."""
MONTHS = "periodStart=2026-11&periodEnd=2026-11"
SPANS = "periodStart=2026-11-01T00:00:00Z&periodEnd=2026-12-01T00:00:00Z"


@dataclass(frozen=True, slots=True)
class Route:
    """Who may ask it, and how it is asked with another tenant's names."""

    scopes: str
    """Alternatives, without the project's scope of the same kind, which always is one."""
    answers: frozenset[int] = NOTHING
    """What it answers to another tenant's names when the scope is held."""
    body: dict[str, Any] = field(default_factory=dict)
    """Names in it, `<so>`, become the other tenant's."""
    query: str = ""


TAKEN = frozenset({409})
READ, WRITE = "project:read", "project:write"
OBJECT = {"metric": "<metric>", "customerRef": "<customerRef>"}
CUSTOMER = {"stripeCustomer": "<stripeCustomer>", "customerRef": "<customerRef>"}
ADJUSTED = OBJECT | {"periodStart": "2026-11-01", "delta": 1, "reason": "manual"}
ONE = "customerRef=<customerRef>&metric=<metric>"
TABLE: dict[str, Route] = {
    INGEST: Route("events:write project:write"),
    "GET /v1/adjustments": Route(READ, query=ONE),
    "POST /v1/adjustments": Route(WRITE, frozenset({201}), ADJUSTED),
    "GET /v1/adjustments/{adjustment_id}": Route(READ, NOT_ITS_OWN),
    "POST /v1/adjustments/{adjustment_id}/approve": Route(WRITE, NOT_ITS_OWN),
    "POST /v1/adjustments/{adjustment_id}/revert": Route(WRITE, NOT_ITS_OWN),
    "POST /v1/reconciliation/adjustments": Route(
        "project:write reconciliation:write", body={"adjustmentIds": ["<adjustment_id>"]}
    ),
    "GET /v1/admin/api-keys": Route(WRITE, query="after=<key_id>"),
    "POST /v1/admin/api-keys": Route(WRITE, frozenset({201}), {"scopes": ["events:write"]}),
    "POST /v1/admin/api-keys/{key_id}/rotate": Route(WRITE, NOT_ITS_OWN),
    "POST /v1/admin/api-keys/{key_id}/revoke": Route(WRITE, NOT_ITS_OWN),
    "GET /v1/customers": Route("project:read mappings:read", query="customerRef=<customerRef>"),
    "PUT /v1/customers": Route("project:write mappings:write", TAKEN, CUSTOMER),
    "GET /v1/customers/{customer_ref}": Route("project:read mappings:read"),
    "PUT /v1/customers/{customer_ref}": Route(
        "project:write mappings:write", TAKEN, {"subscription": "<subscription>"}
    ),
    "POST /v1/customers/{customer_ref}/cancel": Route(
        "project:write mappings:write", frozenset({400})
    ),
    "GET /v1/events": Route("project:read events:read", query=f"{ONE}&{SPANS}"),
    "GET /v1/events/trace": Route(
        "project:read events:read", NOT_ITS_OWN, query="idempotencyKey=<idempotencyKey>"
    ),
    "GET /v1/quarantine": Route("project:read events:read"),
    "GET /v1/mappings": Route("project:read mappings:read", query="metric=<metric>"),
    "POST /v1/mappings": Route(
        "project:write mappings:write",
        TAKEN,
        {"metric": "<metric>", "aggregation": "sum", "priceId": "<priceId>"},
    ),
    "GET /v1/mappings/legacy-plan": Route("project:read mappings:read", query="priceId=<priceId>"),
    "GET /v1/mappings/{mapping_id}": Route("project:read mappings:read", NOT_ITS_OWN),
    "PUT /v1/mappings/{mapping_id}": Route(
        "project:write mappings:write", NOT_ITS_OWN, {"active": False}
    ),
    "DELETE /v1/mappings/{mapping_id}": Route("project:write mappings:write", frozenset({204})),
    "GET /v1/metrics": Route("project:read mappings:read"),
    "PUT /v1/metrics": Route("project:write mappings:write", body={"metric": "<metric>"}),
    "GET /v1/metrics/{metric}": Route("project:read mappings:read"),
    "PUT /v1/metrics/{metric}": Route("project:write mappings:write", body={"unit": "call"}),
    "GET /v1/periods": Route("project:read mappings:read", query="customerRef=<customerRef>"),
    "GET /v1/periods/{month}": Route("project:read mappings:read"),
    "GET /v1/pushes": Route(READ, query="status=stopped"),
    "POST /v1/pushes/{stream_id}/decision": Route(WRITE, NOT_ITS_OWN, {"decision": "not_counted"}),
    "POST /v1/pushes/incarnation": Route(WRITE, frozenset({403})),
    "POST /v1/reconciliation/corrections": Route(
        WRITE,
        NOT_ITS_OWN,
        {"period": "2026-11", "streamId": "<stream_id>", "amount": -1, "reason": "foreign"},
    ),
    "POST /v1/reconciliation/run": Route(
        "project:write reconciliation:write", frozenset({202}), {"period": "2026-11"}
    ),
    "GET /v1/reconciliation/summary": Route("project:read reconciliation:read", query=MONTHS),
    "GET /v1/reconciliation/{period}": Route("project:read reconciliation:read"),
    "GET /v1/reconciliation/{period}/rows": Route(
        "project:read reconciliation:read", NOT_ITS_OWN, query=ONE
    ),
    "GET /v1/settings": Route("project:read mappings:read"),
    "PUT /v1/settings": Route("project:write mappings:write", body={"fourEyes": False}),
    "GET /v1/usage/current": Route("project:read usage:read", query="customerRef=<customerRef>"),
    "GET /v1/usage/history": Route("project:read usage:read", query=f"{ONE}&{SPANS}&step=day"),
}


@dataclass(slots=True)
class World:
    """A deployment in which a tenant has a bit of everything, and another is after it."""

    fuzzed: FuzzedWorld
    keys: dict[Scope, str]
    """The attacker's, one for each single scope."""

    @property
    def victim(self) -> Tenant:
        return self.fuzzed.tenants[1]

    def named(self, text: str) -> str:
        """The text with the victim's names in it."""
        has = self.victim.has | {"month": ["2026-11"], "period": ["2026-11"]}
        return re.sub(r"<(\w+)>", lambda found: str(has.get(found[1], ["x"])[0]), text)

    def ask(self, label: str, scope: Scope, query: str = "", **more: object) -> Answer:
        """A route, asked for the victim's things."""
        method, path = self.named(label.replace("{", "<").replace("}", ">")).split(" ")
        route = TABLE[label]
        query = "&".join(part for part in (self.named(route.query), query) if part)
        if label == INGEST:
            return self._send(scope, query, more)
        api = Api({"authorization": f"Bearer {self.keys[scope]}", "x-tenant-id": CANARY})
        if method in {"GET", "DELETE"} and not more:
            return api.call(method, path, query=query)
        body = json.loads(self.named(json.dumps(route.body))) | more
        return api.call(method, path, query=query, body=body)

    def _send(self, scope: Scope, query: str, more: dict[str, object]) -> Answer:
        names = {one: self.victim.has[one][0] for one in ("metric", "customerRef")}
        event = names | {"idempotencyKey": "attack", "quantity": 999, "ts": "2026-11-20T12:00:00Z"}
        parameters = dict(part.split("=") for part in query.split("&") if part)
        headers = {"authorization": f"Bearer {self.keys[scope]}"}
        sent = an_http_request({"events": [event]} | more, headers=headers, query=parameters)
        result = ingest(sent, None)
        return Answer(result["statusCode"], result["body"], result["headers"])

    def belongings(self) -> dict[str, str]:
        """Everything in the tables that is the victim's, by its place."""
        client, prefix = self.fuzzed.wiring.dynamodb, self.fuzzed.wiring.config.table_prefix
        return {
            repr((table.name, item["pk"], item.get("sk"))): repr(sorted(item.items()))
            for table in TABLES
            for page in client.get_paginator("scan").paginate(TableName=prefix + table.name)
            for item in page["Items"]
            if CANARY in repr(item) and ATTACKER not in repr(item)
        }


@pytest.fixture(scope="module")
def world(dynamodb_endpoint: str) -> Iterator[World]:
    prefix = "apart-"
    dynamodb_local.create_tables(dynamodb_local.client(dynamodb_endpoint), prefix=prefix)
    built = FuzzedWorld(Config(table_prefix=prefix, dynamodb_endpoint=dynamodb_endpoint))
    with built.in_use("apart"):
        issue = built.wiring.key_issuer.create_key
        yield World(built, {scope: issue(ATTACKER, [scope]).text for scope in Scope})


def test_the_table_holds_every_route_and_what_the_code_says_of_it() -> None:
    document = json.loads(document_of(app))["paths"]
    operations = {
        f"{method.upper()} {path}": operation["operationId"]
        for path, methods in document.items()
        for method, operation in methods.items()
        if path not in PUBLIC
    }

    assert operations.keys() == TABLE.keys()
    said = {label: set(TABLE[label].scopes.split()) for label in TABLE if label != INGEST}
    assert said == {label: set(SCOPES[operations[label]]) for label in said}


@pytest.mark.parametrize("label", TABLE)
def test_whoever_covers_all_kinds_of_a_project_covers_its_nouns(label: str) -> None:
    """Or a key that may write the project could mint one that may do more."""
    scopes = {Scope(name) for name in TABLE[label].scopes.split()}

    assert scopes <= covered_by(scopes & {Scope.PROJECT_READ, Scope.PROJECT_WRITE})


@pytest.mark.parametrize("label", TABLE)
def test_no_scope_opens_what_is_another_tenants(world: World, label: str) -> None:
    route, before = TABLE[label], world.belongings()
    assert len(before) > 20

    for scope in Scope:
        answer = world.ask(label, scope)
        if scope in route.scopes.split():
            assert answer.status in route.answers, (scope, answer.text)
            assert not answer.text.startswith('{"error":"Require'), (scope, answer.text)
        else:
            assert answer.status == 403, (scope, answer.text)
            assert answer.body["error"].startswith("Require one of: "), scope
        assert_tells_nothing(world, label, answer)

    assert world.belongings() == before


@pytest.mark.parametrize("label", TABLE)
def test_no_scope_lets_a_request_say_that_it_is_another_tenants(world: World, label: str) -> None:
    before, tenant = world.belongings(), world.victim.name

    for scope in Scope:
        events = [{"tenantId": tenant, "events": [{"tenantId": tenant}]}]
        for answer in (
            world.ask(label, scope, f"tenantId={tenant}"),
            world.ask(label, scope, tenantId=tenant),
            world.ask(label, scope, f"tenantId={ATTACKER}", tenantId=tenant),
            world.ask(label, scope, tenantId=ATTACKER, events=events),
        ):
            assert answer.status == 403, (scope, answer.text)
            assert answer.body["error"].startswith("Mismatched tenantId"), scope

    assert world.belongings() == before


def assert_tells_nothing(world: World, label: str, answer: Answer) -> None:
    """Beside what was asked, the answer holds no name of the victim's."""
    asked = {str(name) for names in world.victim.has.values() for name in names}
    text = answer.text
    for name in sorted(asked, key=len, reverse=True):
        text = text.replace(name, "")
    assert CANARY not in text, label
    for secret in world.victim.secrets:
        assert secret not in answer.text, label
