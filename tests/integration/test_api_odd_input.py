"""Requests that fuzzing found to be answered 500, each with what it is answered now."""

import pytest

from metering.adjustment import held_id
from metering.names import IdempotencyKey, TenantId
from metering.wiring import Wiring
from tests.api_client import Api, api_of, meter
from tests.builders import NOON, an_entry

LONGEST_KEY = "鍵" * 255
"""As long as an idempotency key may be; its adjustment's id is longer than DynamoDB's keys."""


@pytest.fixture
def api(wiring: Wiring) -> Api:
    return api_of(wiring, "demo")


def test_a_late_event_with_the_longest_key_is_approved_and_taken_back(
    wiring: Wiring, api: Api
) -> None:
    meter(wiring, [an_entry("7", key=LONGEST_KEY, is_late=True)])
    (pending,) = api.get("/v1/adjustments").body["adjustments"]
    assert len(pending["id"]) == 1025
    path = f"/v1/adjustments/{pending['id']}"
    assert api.get(path).body["status"] == "pending"

    approved = api.post(f"{path}/approve", {})
    again = api.post(f"{path}/approve", {})

    assert (approved.status, approved.body["status"]) == (200, "approved")
    assert again.body["already"] is True
    assert api.get(path).body == {
        name: value for name, value in approved.body.items() if name not in {"ok", "already"}
    }
    listed = api.get("/v1/adjustments").body["adjustments"]
    assert [one["id"] for one in listed] == [pending["id"]]
    reverted = api.post(f"{path}/revert", {})
    assert (reverted.status, reverted.body["delta"]) == (200, -7)
    assert reverted.body["parentAdjustmentId"] == pending["id"]


def test_an_adjustment_id_that_is_too_long_for_any_is_not_found(api: Api) -> None:
    nobodys = held_id(IdempotencyKey("\U0001f511" * 255))
    assert len(nobodys) == 1365

    for path in (f"/v1/adjustments/{nobodys}", f"/v1/adjustments/{'0' * 1500}"):
        assert (api.get(path).status, api.post(f"{path}/approve", {}).status) == (404, 404)
    assert api.get(f"/v1/adjustments/{'0' * 1501}").status == 400


def test_an_empty_id_among_those_to_approve_is_named(api: Api) -> None:
    answer = api.post("/v1/reconciliation/adjustments", {"adjustmentIds": ["adj_1", ""]})

    assert answer.status == 400
    assert answer.body["message"] == (
        "body.adjustmentIds.1: String should have at least 1 character"
    )


def test_an_end_before_the_start_is_refused(wiring: Wiring, api: Api) -> None:
    meter(wiring, [an_entry(key="k")])
    times = {"startTime": "2026-11-21T00:00:00Z", "endTime": "2026-11-20T00:00:00Z"}

    answer = api.get("/v1/events", metric="api_calls", customerRef="cus_A", **times)

    assert answer.status == 400
    assert answer.body["message"] == "endTime: lies before startTime"


@pytest.mark.parametrize(
    "kind", ["multipart/form-data", "application/x-www-form-urlencoded", "text/plain"]
)
def test_a_body_that_is_not_sent_as_json_is_refused(wiring: Wiring, kind: str) -> None:
    issued = wiring.key_issuer.create_key(TenantId("demo"))
    api = Api({"x-api-key": issued.text, "content-type": kind})

    answer = api.put("/v1/metrics/m", {})

    assert (answer.status, answer.body["error"]) == (415, "Unsupported Media Type")
    assert answer.body["message"] == f"The body was sent as {kind}; send JSON as application/json"


def test_json_may_name_its_characters_or_nothing_at_all(wiring: Wiring) -> None:
    issued = wiring.key_issuer.create_key(TenantId("demo"))

    for kind in ("application/json; charset=utf-8", "Application/JSON", ""):
        api = Api({"x-api-key": issued.text, "content-type": kind})
        assert api.put("/v1/metrics/m", {}).status == 200, kind


def test_a_month_is_written_in_plain_digits(api: Api) -> None:
    assert api.get("/v1/periods/٢٠٢٦-11").status == 400
    assert api.get("/v1/periods/0000-01").status == 400
    assert NOON.year == 2026
    assert api.get("/v1/periods/2026-11").status == 200
