"""Who may call what: keys, tenants and scopes, on every route there is."""

import base64
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from threading import Thread
from typing import Any

import pytest

from functions.api.handler import handler
from local.ports import free_port
from metering.auth import EVERY_SCOPE, Scope
from metering.mapping import MetricSettings
from metering.names import Metric, TenantId
from metering.wiring import Wiring, using
from tests.api_client import Answer, Api, an_api_request, api_of
from tests.conftest import SetClock

PUBLIC = {"/health", "/health/live", "/health/ready", "/metrics"}
OTHER_FUNCTIONS = {"/v1/events/ingest", "/v1/stripe/webhook"}
WHOLE = {
    "customerRef": "cus_A",
    "metric": "api_calls",
    "idempotencyKey": "k",
    "periodStart": "2026-11-01T00:00:00Z",
    "periodEnd": "2026-12-01T00:00:00Z",
}
MONTHS = {"periodStart": "2026-11", "periodEnd": "2026-11"}
BODIES: dict[str, dict[str, Any]] = {
    "/v1/mappings": {"metric": "m", "aggregation": "sum", "priceId": "price_1"},
    "/v1/metrics": {"metric": "m"},
    "/v1/customers": {"customerRef": "c"},
    "/v1/adjustments": {
        "metric": "m",
        "customerRef": "c",
        "periodStart": "2026-11-01",
        "delta": 1,
        "reason": "manual",
    },
    "/v1/reconciliation/adjustments": {"adjustmentIds": ["adj_1"]},
    "/v1/pushes/stream_id/decision": {"decision": "counted"},
    "/v1/reconciliation/corrections": {
        "period": "2026-11",
        "streamId": "s",
        "amount": -1,
        "reason": "foreign",
    },
}


@pytest.fixture
def guarded(wiring: Wiring, clock: SetClock) -> Iterator[Wiring]:
    """The same deployment with keys required."""
    config = replace(wiring.config, auth=True)
    with using(Wiring(config, clock=clock, dynamodb=wiring.dynamodb)) as wired:
        yield wired


def routes() -> list[tuple[str, str]]:
    """Every route of the document that this function answers, with a path that fits it."""
    document = Api().get("/docs/json").body
    return [
        (method.upper(), re.sub(r"[{}]", "", re.sub(r"\{(period|month)\}", "2026-11", path)))
        for path, operations in document["paths"].items()
        for method in operations
        if path not in PUBLIC | OTHER_FUNCTIONS
    ]


def call(api: Api, method: str, path: str, **changes: str) -> Answer:
    """A request that is right in all but who sends it."""
    wanted = MONTHS if path.endswith("summary") else WHOLE
    query = "&".join(f"{name}={value}" for name, value in (wanted | changes).items())
    if method in {"GET", "DELETE"}:
        return api.call(method, path, query=query)
    return api.call(method, path, query=query, body=BODIES.get(path, {}))


def test_every_route_needs_a_key(guarded: Wiring) -> None:
    listed = routes()
    assert len(listed) > 30  # the loop below is over something

    for method, path in listed:
        answer = call(Api(), method, path)
        assert (answer.status, answer.body) == (401, {"error": "Missing API key"}), path


def test_every_route_needs_one_of_its_scopes(guarded: Wiring) -> None:
    others = api_of(guarded, "acme", Scope.ALERTS_READ, Scope.SIMULATION_WRITE)

    for method, path in routes():
        answer = call(others, method, path)
        assert answer.status == 403, path
        # Who sees the keys can see whom to attack: it takes what it takes to make one.
        is_read = method == "GET" and not path.startswith("/v1/admin/")
        kind = "read" if is_read else "write"
        assert re.fullmatch(
            rf"Require one of: project:{kind}(,(events|usage|mappings|reconciliation):{kind})?",
            answer.body["error"],
        ), path


def test_every_route_refuses_another_tenant_wherever_it_is_named(guarded: Wiring) -> None:
    api = api_of(guarded, "acme", *EVERY_SCOPE)
    expected = (403, {"error": "Mismatched tenantId"})

    for method, path in routes():
        assert _told(call(api, method, path, tenantId="other")) == expected, path
        assert _told(call(api, method, path, tenant_id="other")) == expected, path
        masked = api.call(method, path, query="tenantId=acme&tenantId=other")
        assert _told(masked) == expected, path
        body = {"tenantId": "other"} | BODIES.get(path, {})
        assert _told(api.call(method, path, query="tenantId=acme", body=body)) == expected, path
        events = {"tenantId": "acme", "events": [{"tenantId": "other"}]}
        assert _told(api.call(method, path, query="events=x", body=events)) == expected, path


def _told(answer: Answer) -> tuple[int, Any]:
    return answer.status, answer.body


def test_the_own_tenant_may_be_repeated(guarded: Wiring) -> None:
    api = api_of(guarded, "acme")

    assert api.get("/v1/metrics", tenantId="acme").status == 200
    assert api.put("/v1/metrics/m", {"tenantId": "acme"}, query="tenantId=acme").status == 200


@pytest.mark.parametrize(
    ("headers", "error"),
    [
        ({"authorization": "Bearer sm_nodot"}, "Invalid API key format"),
        ({"authorization": "Bearer sm_000000000000.x"}, "Invalid API key"),
        ({"x-api-key": "sm_000000000000.x"}, "Invalid API key"),
    ],
)
def test_a_bad_key_is_refused_before_anything_else_is_looked_at(
    guarded: Wiring, headers: dict[str, str], error: str
) -> None:
    answer = Api(headers).call("GET", "/v1/no/such/route", query="tenantId=other")

    assert (answer.status, answer.body) == (401, {"error": error})


def test_an_unknown_route_is_answered_as_the_peer_does(guarded: Wiring) -> None:
    answer = api_of(guarded, "acme").call("PATCH", "/v1/metrics")

    assert answer.status == 404
    assert answer.body == {
        "message": "Route PATCH:/v1/metrics not found",
        "error": "Not Found",
        "statusCode": 404,
    }


def test_without_keys_a_request_names_its_tenant(wiring: Wiring) -> None:
    wiring.settings_store.put_metric(TenantId("acme"), MetricSettings(Metric("m")))

    assert [one["metric"] for one in Api().get("/v1/metrics", tenantId="acme").body] == ["m"]
    answer = Api().get("/v1/metrics")
    assert answer.status == 400
    assert "tenantId: Required" in answer.body["message"]
    assert Api().put("/v1/metrics/m", {"tenantId": "a"}, query="tenantId=b").status == 403


def test_a_body_that_is_no_text_is_refused(guarded: Wiring) -> None:
    issued = guarded.key_issuer.create_key(TenantId("acme"))
    request = an_api_request("PUT", "/v1/metrics/m", headers={"x-api-key": issued.text})
    request |= {"body": base64.b64encode(b"\xff\xfe{}").decode(), "isBase64Encoded": True}

    result = handler(request, None)

    assert result["statusCode"] == 400
    assert json.loads(result["body"])["error"] == "SyntaxError"


def test_tables_that_do_not_answer_are_said_to_be_tried_again(wiring: Wiring) -> None:
    nowhere = replace(wiring.config, dynamodb_endpoint=f"http://127.0.0.1:{free_port()}")

    with using(Wiring(nowhere, clock=wiring.clock)):
        for path in ("/v1/usage/current", "/v1/events", "/v1/events/trace", "/v1/metrics"):
            answer = call(Api(), "GET", path, tenantId="demo")
            assert answer.status == 503, path
            assert answer.body["error"] == "Service Unavailable"
            assert answer.headers["retry-after"] == "5"


def test_our_own_fault_is_answered_without_details(
    wiring: Wiring, caplog: pytest.LogCaptureFixture
) -> None:
    prefix = wiring.config.table_prefix
    wiring.dynamodb.delete_table(TableName=f"{prefix}settings")

    answer = Api().get("/v1/metrics", tenantId="demo")

    assert answer.status == 500
    assert answer.body["message"] == "An internal server error occurred."
    assert prefix not in answer.text
    (record,) = [one for one in caplog.records if one.message == "request failed"]
    assert "ResourceNotFoundException" in str(record.exc_info)


def test_tenants_that_ask_at_once_get_each_their_own(guarded: Wiring) -> None:
    """The router holds the request it answers in itself; threads must not meet in there."""
    apis = {f"tenant-{number}": api_of(guarded, f"tenant-{number}") for number in range(4)}
    wrong: list[object] = []

    def ask(tenant: str, api: Api) -> None:
        for number in range(10):
            ref = f"{tenant}-customer-{number}"
            body = api.get(f"/v1/customers/{ref}").body
            if (body.get("tenantId"), body.get("customerRef")) != (tenant, ref):
                wrong.append(body)

    threads = [Thread(target=ask, args=one) for one in apis.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert wrong == []
