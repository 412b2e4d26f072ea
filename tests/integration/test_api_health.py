"""Health that was asked for and not assumed, numbers for operators, and the API's description."""

import json
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import metering
from functions.ingest.handler import handler as ingest
from metering.adapters import prometheus
from metering.closing import ROUND
from metering.config import Config
from metering.errors import RetryableError
from metering.names import TenantId
from metering.ports import Cursor
from metering.sent_event import IncomingEvent
from metering.wiring import Wiring, using
from tests.api_client import Answer, Api, api_of
from tests.builders import NOON, a_sent_event, an_http_request
from tests.conftest import SetClock
from tests.fake_billing import FakeBilling

ROOT = Path(__file__).parent.parent.parent


def wired(wiring: Wiring, **changes: Any) -> Iterator[Wiring]:
    config = replace(wiring.config, **changes)
    with using(Wiring(config, clock=wiring.clock, dynamodb=wiring.dynamodb)) as other:
        yield other


@pytest.fixture
def with_stripe(wiring: Wiring) -> Iterator[Wiring]:
    yield from wired(wiring, stripe_secret_key="sk_test_1", auth=True)


@pytest.fixture
def billing(with_stripe: Wiring) -> FakeBilling:
    fake = FakeBilling()
    with_stripe.billing = fake
    return fake


def ready() -> Answer:
    return Api().get("/health/ready")


def test_health_and_live_answer_without_a_key(with_stripe: Wiring) -> None:
    assert Api().get("/health").body == {"status": "ok", "timestamp": "2026-11-20T12:00:00.000Z"}
    assert Api().get("/health/live").body == {"status": "alive"}


def test_ready_says_what_answers(with_stripe: Wiring, billing: FakeBilling) -> None:
    cursor = Cursor(NOON - timedelta(seconds=20), NOON - timedelta(hours=1))
    fence = with_stripe.writer_desk.take_lease("w", NOON, NOON + timedelta(minutes=1))
    assert fence is not None
    assert with_stripe.writer_desk.move_cursor(cursor, fence)
    with_stripe.rounds.note(ROUND, NOON - timedelta(seconds=70))

    answer = ready()

    assert answer.status == 200
    assert answer.body == {
        "status": "healthy",
        "version": metering.__version__,
        "checks": {"database": True, "stripe": True, "workers": True},
        "details": {
            "database": "all tables answer",
            "stripe": "answers",
            "workers": "the writer had dealt with all changes 20 s ago",
        },
        "metrics": {"writerLag": 20, "closerLag": 70},
    }
    assert billing.asked == [("", "")]


def test_ready_before_the_writers_first_run_says_so(
    with_stripe: Wiring, billing: FakeBilling
) -> None:
    answer = ready()

    assert answer.status == 200
    assert answer.body["details"]["workers"] == "the writer has not run yet"
    assert answer.body["metrics"] == {"writerLag": None, "closerLag": None}


def test_a_silent_writer_makes_it_unready(
    with_stripe: Wiring, billing: FakeBilling, clock: SetClock
) -> None:
    fence = with_stripe.writer_desk.take_lease("w", NOON, NOON + timedelta(minutes=1))
    assert fence is not None
    assert with_stripe.writer_desk.move_cursor(Cursor(NOON, NOON), fence)
    clock.advance(timedelta(minutes=15))
    assert ready().status == 200

    clock.advance(timedelta(seconds=3))

    answer = ready()
    assert answer.status == 503
    assert answer.body["status"] == "degraded"
    assert answer.body["checks"] == {"database": True, "stripe": True, "workers": False}


def test_stripe_that_does_not_answer_makes_it_unready(
    with_stripe: Wiring, billing: FakeBilling
) -> None:
    billing.trouble = RetryableError("Stripe cannot answer now")

    answer = ready()

    assert answer.status == 503
    assert answer.body["checks"]["stripe"] is False
    assert answer.body["details"]["stripe"] == "Stripe cannot answer now"


def test_a_missing_table_makes_it_unready_and_is_named(
    with_stripe: Wiring, billing: FakeBilling
) -> None:
    prefix = with_stripe.config.table_prefix
    with_stripe.dynamodb.delete_table(TableName=f"{prefix}counters")
    with_stripe.dynamodb.delete_table(TableName=f"{prefix}billing")

    answer = ready()

    assert answer.status == 503
    assert answer.body["checks"] == {"database": False, "stripe": True, "workers": False}
    assert answer.body["details"]["database"] == (
        "counters: ResourceNotFoundException; billing: ResourceNotFoundException"
    )


def test_without_stripe_it_is_ready_to_count(wiring: Wiring) -> None:
    answer = ready()

    assert answer.status == 200
    assert answer.body["details"]["stripe"] == "not set up: usage is counted, not told"


def test_asking_often_does_not_ask_stripe_often(
    with_stripe: Wiring, billing: FakeBilling, clock: SetClock
) -> None:
    for _ in range(5):
        ready()
    assert len(billing.asked) == 1

    clock.advance(timedelta(seconds=2))
    ready()

    assert len(billing.asked) == 2


# --- metrics --------------------------------------------------------------------------------------


@pytest.fixture
def counted(wiring: Wiring) -> Wiring:
    """A wiring with numbers of its own."""
    wiring.metrics = prometheus.PrometheusMetrics()
    return wiring


def test_requests_are_counted_by_route_and_not_by_path(counted: Wiring) -> None:
    api = Api()
    api.get("/v1/metrics/a", tenantId="demo")
    api.get("/v1/metrics/b", tenantId="demo")
    api.get("/v1/usage/current", tenantId="demo")
    api.get("/guessed/one")
    api.get("/guessed/two")

    text = api.get("/metrics").text

    def line(route: str, status: int) -> str:
        return f'http_requests_total{{method="GET",route="{route}",status_code="{status}"}}'

    assert f"{line('/v1/metrics/{metric}', 200)} 2.0" in text
    assert f"{line('/v1/usage/current', 400)} 1.0" in text
    assert f"{line('unmatched', 404)} 2.0" in text
    assert "guessed" not in text
    assert 'http_request_duration_seconds_bucket{le="0.01",method="GET"' in text


def test_refusals_are_counted(counted: Wiring) -> None:
    Api({"x-api-key": "sm_a.b"}).get("/v1/metrics")
    api = api_of(counted, "demo")
    api.get("/v1/metrics", tenantId="other")
    api.get("/v1/metrics")

    text = Api().get("/metrics").text

    assert 'auth_fail_total{method="GET",route="unmatched"} 1.0' in text
    assert 'cross_tenant_block_total{method="GET",route="unmatched"} 1.0' in text
    assert "scope_deny_total" in text


def test_what_became_of_events_is_counted_per_meter(counted: Wiring) -> None:
    event = a_sent_event(idempotencyKey="k")
    late = a_sent_event(ts="2026-11-01T00:00:00Z")
    ingest(an_http_request({"events": [event, event, event | {"quantity": 2}, {}, late]}), None)

    text = Api().get("/metrics").text

    assert 'events_ingested_total{meter="api_calls"} 2.0' in text
    assert 'events_duplicate_total{meter="api_calls"} 1.0' in text
    assert 'events_conflict_total{meter="api_calls"} 1.0' in text
    assert 'events_late_total{meter="api_calls"} 1.0' in text
    assert 'events_refused_total{retryable="no"} 1.0' in text
    assert "ingest_latency_ms_count 1.0" in text
    assert "cus_A" not in text
    assert "demo" not in text


def test_names_that_tenants_choose_do_not_fill_the_memory() -> None:
    metrics = prometheus.PrometheusMetrics()
    for number in range(1000):
        metrics.count("events_ingested_total", meter=f"m{number}")

    exposition = metrics.exposition()

    assert exposition is not None
    lines = [line for line in exposition[1].splitlines() if line.startswith("events_ingested_to")]
    assert len(lines) == prometheus.LABEL_SETS_MAX + 1
    assert 'events_ingested_total{meter="other"} 800.0' in lines


def test_where_keys_are_required_only_the_operator_may_scrape(wiring: Wiring) -> None:
    for guarded in wired(wiring, auth=True):
        tenants_key = guarded.key_issuer.create_key(TenantId("demo")).text
        assert Api().get("/metrics").status == 404
        assert Api({"authorization": f"Bearer {tenants_key}"}).get("/metrics").status == 404
    for guarded in wired(wiring, auth=True, metrics_token="s3cret"):
        assert guarded.config.metrics_token == "s3cret"
        assert Api().get("/metrics").status == 404
        assert Api({"authorization": "Bearer s3cret"}).get("/metrics").status == 200


def test_metrics_may_be_switched_off(wiring: Wiring) -> None:
    for _ in wired(wiring, metrics="off"):
        answer = Api().get("/metrics")
        assert answer.status == 404
        assert "METRICS=off" in answer.body["message"]
    assert Config.from_environment({"METRICS": "off"}).metrics == "off"
    with pytest.raises(ValueError, match="METRICS must be one of prometheus, emf, off"):
        Config.from_environment({"METRICS": "on"})


# --- description ----------------------------------------------------------------------------------


@pytest.fixture
def document(wiring: Wiring) -> Any:
    return json.loads(Api().get("/docs/json").text)


def test_the_document_describes_every_route_and_ingest(document: Any) -> None:
    assert document["openapi"].startswith("3.1")
    assert document["info"]["version"] == metering.__version__
    assert set(document["paths"]) == {
        "/health",
        "/health/live",
        "/health/ready",
        "/metrics",
        "/v1/adjustments",
        "/v1/admin/api-keys",
        "/v1/admin/api-keys/{key_id}/revoke",
        "/v1/admin/api-keys/{key_id}/rotate",
        "/v1/adjustments/{adjustment_id}",
        "/v1/adjustments/{adjustment_id}/approve",
        "/v1/adjustments/{adjustment_id}/revert",
        "/v1/customers",
        "/v1/customers/{customer_ref}",
        "/v1/customers/{customer_ref}/cancel",
        "/v1/events",
        "/v1/events/ingest",
        "/v1/events/trace",
        "/v1/mappings",
        "/v1/mappings/legacy-plan",
        "/v1/mappings/{mapping_id}",
        "/v1/metrics",
        "/v1/metrics/{metric}",
        "/v1/periods",
        "/v1/periods/{month}",
        "/v1/pushes",
        "/v1/pushes/incarnation",
        "/v1/pushes/{stream_id}/decision",
        "/v1/quarantine",
        "/v1/reconciliation/adjustments",
        "/v1/reconciliation/corrections",
        "/v1/reconciliation/run",
        "/v1/reconciliation/summary",
        "/v1/reconciliation/{period}",
        "/v1/reconciliation/{period}/rows",
        "/v1/settings",
        "/v1/stripe/webhook",
        "/v1/usage/current",
        "/v1/usage/history",
    }
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            has_summary = operation["summary"].endswith((".", "?"))
            assert has_summary or operation["operationId"] in {"ingest", "stripe_webhook"}, path
            assert operation["responses"].keys() >= {"400", "401"} or path.startswith(
                ("/health", "/metrics", "/v1/stripe")
            ), (path, method)
            assert "HTTPValidationError" not in json.dumps(operation), (path, method)


def test_quantities_are_described_as_numbers(document: Any) -> None:
    event = document["components"]["schemas"]["Event"]["properties"]

    assert event["quantity"]["type"] == "number"
    assert event["receivedAt"]["format"] == "date-time"


def test_all_references_of_the_document_resolve(document: Any) -> None:
    names = set(document["components"]["schemas"])
    text = json.dumps(document)

    used = {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}

    assert used <= names


def schema(document: Any, name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}", "components": document["components"]}


def test_what_ingest_really_takes_and_answers_is_what_the_document_says(
    wiring: Wiring, document: Any
) -> None:
    event = a_sent_event(idempotencyKey="k", meta={"a": 1}, resourceId="r", source="sdk")
    late = a_sent_event(ts="2026-11-01T00:00:00Z", quantity="2.5")
    body = {"tenantId": "demo", "events": [event, event, event | {"quantity": 2}, late, {}]}
    jsonschema.validate(body | {"events": [event, late]}, schema(document, "IngestRequest"))

    answered = ingest(an_http_request(body), None)

    assert answered["statusCode"] == 200
    jsonschema.validate(json.loads(answered["body"]), schema(document, "IngestAnswer"))
    described = document["components"]["schemas"]["EventToIngest"]["properties"]
    accepted = IncomingEvent.model_json_schema()["properties"]
    assert described.keys() == accepted.keys()
    wrong_ones: list[dict[str, Any]] = [{}, {"events": []}, {"events": [{}]}]
    for wrong in wrong_ones:
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, schema(document, "IngestRequest"))
        refused = ingest(an_http_request(wrong), None)
        assert refused["statusCode"] == 400
        jsonschema.validate(json.loads(refused["body"]), schema(document, "IngestRefusal"))


def test_answers_are_what_the_document_says(wiring: Wiring, document: Any) -> None:
    ingest(an_http_request({"events": [a_sent_event(idempotencyKey="k")]}), None)
    wiring.billing = FakeBilling()
    asked = {
        "/v1/events": "EventPage",
        "/v1/events/trace": "TraceAnswer",
        "/v1/usage/current": "UsageNow",
        "/v1/customers": "CustomerPage",
        "/v1/customers/c": "CustomerState",
        "/v1/metrics/m": "MetricState",
        "/v1/reconciliation/2026-11": "PeriodReport",
    }
    for path, name in asked.items():
        answer = Api().get(path, tenantId="demo", customerRef="cus_A", idempotencyKey="k")
        assert answer.status == 200, answer.text
        jsonschema.validate(json.loads(answer.text), schema(document, name))


def test_the_page_needs_nothing_from_elsewhere(wiring: Wiring) -> None:
    answer = Api().get("/docs")

    assert answer.status == 200
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert '"/v1/events/ingest"' in answer.text
    assert "<script src" not in answer.text
    assert "<link rel='stylesheet'" not in answer.text


def test_the_version_is_the_projects() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    assert metering.__version__ == project["version"]
