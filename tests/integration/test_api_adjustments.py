"""`/v1/adjustments` and the approval of many, as their callers meet them."""

from decimal import Decimal
from typing import Any
from urllib.parse import quote

import pytest

from metering.adjustment import held_id
from metering.auth import Scope
from metering.names import CustomerRef, IdempotencyKey
from metering.wiring import Wiring
from tests.api_client import Api, api_of
from tests.books import DAY, Books
from tests.builders import DEMO, NOON

WANTED = {
    "tenantId": "demo",
    "metric": "api_calls",
    "customerRef": "cus_A",
    "periodStart": "2026-11-01",
    "delta": 5,
    "reason": "correction",
}


@pytest.fixture
def books(wiring: Wiring) -> Books:
    return Books(wiring)


@pytest.fixture
def api(wiring: Wiring) -> Api:
    return api_of(wiring, "demo")


def create(api: Api, **changes: object) -> Any:
    answer = api.post("/v1/adjustments", WANTED | changes)
    assert answer.status == 201, answer.text
    return answer.body


def test_an_adjustment_is_made_approved_and_reverted(books: Books, api: Api) -> None:
    made = create(api, note="as agreed", requestId="r-1")
    actor = made["actor"]
    assert actor.startswith("api:sm_")
    assert made == {
        "id": made["id"],
        "tenantId": "demo",
        "metric": "api_calls",
        "customerRef": "cus_A",
        "periodStart": "2026-11-01T00:00:00.000Z",
        "delta": 5,
        "reason": "correction",
        "actor": actor,
        "status": "pending",
        "approvedBy": None,
        "approvedAt": None,
        "approvalReason": None,
        "revertedBy": None,
        "revertedAt": None,
        "parentAdjustmentId": None,
        "requestId": "r-1",
        "note": "as agreed",
        "createdAt": "2026-11-20T12:00:00.000Z",
        "ok": True,
    }
    path = f"/v1/adjustments/{made['id']}"

    approved = api.post(f"{path}/approve", {"tenantId": "demo"}).body
    assert (approved["ok"], approved["already"], approved["status"]) == (True, False, "approved")
    assert (approved["approvedBy"], approved["approvedAt"]) == (actor, "2026-11-20T12:00:00.000Z")
    again = api.post(f"{path}/approve", {"tenantId": "demo"}).body
    assert (again["ok"], again["already"]) == (True, True)
    books.deliver()
    assert books.value() == 5

    reverted = api.post(f"{path}/revert", {"tenantId": "demo", "note": "a slip"}).body
    assert (reverted["ok"], reverted["parentAdjustmentId"]) == (True, made["id"])
    assert (reverted["delta"], reverted["note"], reverted["status"]) == (-5, "a slip", "approved")
    books.deliver()
    assert books.value() == 0
    assert api.get(path).body["status"] == "reverted"
    assert api.get(path).body["revertedBy"] == actor


def test_decisions_need_no_body(api: Api) -> None:
    path = f"/v1/adjustments/{create(api)['id']}"

    assert api.call("POST", f"{path}/approve").status == 200
    assert api.call("POST", f"{path}/revert").status == 200


def test_what_may_not_be_decided_is_said_as_the_peer_says_it(api: Api) -> None:
    path = f"/v1/adjustments/{create(api)['id']}"

    refused = api.post(f"{path}/revert", {})
    assert refused.status == 400
    assert refused.body["error"] == "Only approved adjustments can be reverted"
    api.post(f"{path}/approve", {})
    api.post(f"{path}/revert", {})
    refused = api.post(f"{path}/approve", {})
    assert (refused.status, refused.body["error"]) == (400, "Already reverted")


@pytest.mark.parametrize("path", ["adj_1", "late_YQ", "00000000-0000-0000-0000-000000000000"])
def test_w20_an_id_of_nobody_or_of_another_tenant_is_not_found(
    books: Books, wiring: Wiring, path: str
) -> None:
    books.adjust("5")
    books.use_late("5", key="a")
    other = api_of(wiring, "other")

    for answer in (
        other.get(f"/v1/adjustments/{path}"),
        other.post(f"/v1/adjustments/{path}/approve", {}),
        other.post(f"/v1/adjustments/{path}/revert", {}),
    ):
        assert (answer.status, answer.body["error"]) == (404, "Not found")
    assert other.get("/v1/adjustments").body == {"total": 0, "adjustments": []}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"delta": 0}, "must not be 0"),
        ({"delta": "x"}, "must be a number"),
        ({"delta": 10**15}, "more than 15 integer digits"),
        ({"delta": 1_000_001}, "more than the 1000000 that an adjustment may be"),
        ({"reason": "late_event"}, "reason"),
        ({"periodStart": "2026-11-02"}, "no billing period of this customer begins at 2026-11-02"),
        ({"periodStart": "2026-02-30"}, "names no real date"),
        ({"periodStart": "2026-12-01"}, "lies ahead"),
        ({"periodStart": 20261101}, "must be an RFC 3339 date-time"),
        ({"metric": ""}, "metric"),
        ({"metric": "a\u0000"}, "control"),
        ({"customerRef": "\U0001f600" * 200}, "at most 510 bytes"),
        ({"requestId": ""}, "requestId"),
        ({"note": "x" * 1001}, "note"),
    ],
    ids=str,
)
def test_a_wrong_adjustment_is_refused_by_what_is_wrong(
    api: Api, changes: dict[str, object], message: str
) -> None:
    answer = api.post("/v1/adjustments", WANTED | changes)

    assert answer.status == 400
    assert message in answer.body["message"]


def test_everything_but_request_id_and_note_is_required(api: Api) -> None:
    for name in WANTED.keys() - {"tenantId"}:
        answer = api.post("/v1/adjustments", {k: v for k, v in WANTED.items() if k != name})
        assert answer.status == 400
        assert f"body.{name}: Field required" in answer.body["message"]


def test_a_delta_keeps_all_its_digits(api: Api) -> None:
    body = (
        '{"metric":"m","customerRef":"c","periodStart":"2026-11-01T00:00:00Z",'
        '"delta":-123456.123456789012,"reason":"promo"}'
    )

    answer = api.post("/v1/adjustments", body)

    assert answer.body["delta"] == Decimal("-123456.123456789012")


def test_four_eyes_are_two_keys(books: Books, api: Api, wiring: Wiring) -> None:
    books.decide(four_eyes=True)
    path = f"/v1/adjustments/{create(api)['id']}/approve"

    refused = api.post(path, {})

    assert (refused.status, refused.body["error"]) == (403, "Forbidden")
    assert "so another must approve it" in refused.body["message"]
    assert api_of(wiring, "demo").post(path, {}).status == 200


def test_the_list_shows_late_events_as_pending(books: Books, api: Api) -> None:
    books.use_late("5", key="k/1")
    made = create(api, periodStart="2026-10-01", customerRef="cus_B")

    page = api.get("/v1/adjustments", tenantId="demo", status="pending").body

    assert page["total"] == 2
    late = next(one for one in page["adjustments"] if one["id"] != made["id"])
    assert late["id"] == held_id(IdempotencyKey("k/1"))
    assert (late["reason"], late["actor"], late["delta"]) == ("late_event", "system:late-event", 5)

    def ids(**asked: object) -> list[str]:
        return [one["id"] for one in api.get("/v1/adjustments", **asked).body["adjustments"]]

    assert ids(periodStart="2026-11-01") == [late["id"]]
    assert ids(periodEnd="2026-10-01") == [made["id"]]
    assert ids(customerRef="cus_B") == [made["id"]]
    assert ids(metric="storage") == []
    assert len(ids(limit=1)) == 1
    assert ids(offset=2) == []
    for wrong in ({"status": "new"}, {"limit": 0}, {"periodStart": "soon"}):
        assert api.get("/v1/adjustments", **wrong).status == 400


def test_a_late_event_is_approved_by_its_id(books: Books, api: Api) -> None:
    books.use("3")
    late_id = held_id(books.use_late("5", key="k", at=NOON - 5 * DAY).event.key)

    answer = api.post(f"/v1/adjustments/{quote(late_id)}/approve", {})
    books.deliver()

    assert answer.body["status"] == "approved"
    assert books.value() == 8


def test_many_are_approved_with_an_outcome_each(books: Books, api: Api) -> None:
    books.use_late("7", key="k")
    made = create(api)["id"]
    ids = [made, held_id(IdempotencyKey("k")), "adj_none"]

    answer = api.post(
        "/v1/reconciliation/adjustments", {"adjustmentIds": ids, "reason": "month end"}
    )

    assert answer.body == {
        "applied": 2,
        "failed": 1,
        "results": [
            {"id": ids[0], "status": "approved", "error": None, "retryable": False},
            {"id": ids[1], "status": "approved", "error": None, "retryable": False},
            {
                "id": "adj_none",
                "status": "failed",
                "error": "No adjustment has this id",
                "retryable": False,
            },
        ],
    }
    again = api.post("/v1/reconciliation/adjustments", {"adjustmentIds": ids[:2]})
    assert (again.body["applied"], again.body["failed"]) == (0, 0)
    assert [one["status"] for one in again.body["results"]] == ["already", "already"]
    assert api.get(f"/v1/adjustments/{made}").body["approvalReason"] == "month end"
    books.deliver()
    assert books.value() == 12


@pytest.mark.parametrize("ids", [[], ["adj_1"] * 1001, "adj_1", None])
def test_too_many_or_no_ids_are_refused(api: Api, ids: object) -> None:
    answer = api.post("/v1/reconciliation/adjustments", {"adjustmentIds": ids})

    assert answer.status == 400


def test_a_key_for_reconciliation_alone_approves_many_and_makes_none(wiring: Wiring) -> None:
    api = api_of(wiring, "demo", Scope.RECONCILIATION_WRITE)

    assert api.post("/v1/adjustments", WANTED).status == 403
    assert api.get("/v1/adjustments").status == 403
    body = {"adjustmentIds": ["adj_1"]}
    assert api.post("/v1/reconciliation/adjustments", body).status == 200


# --- how they show elsewhere ----------------------------------------------------------------------


def test_the_events_list_shows_decisions_as_what_they_are(books: Books, api: Api) -> None:
    books.use("3", key="used")
    late_id = held_id(books.use_late("5", key="late").event.key)
    books.approve(late_id)
    adjustment = books.adjust("-2")
    books.approve(adjustment)
    books.revert(adjustment)
    books.revert(late_id)

    page = api.get("/v1/events").body

    assert (page["total"], page["totalIsExact"]) == (6, True)
    shown = {one["id"]: (one["kind"], one["quantity"], one["decidedBy"]) for one in page["events"]}
    assert shown == {
        "used": ("usage", 3, None),
        "late": ("usage", 5, None),
        "adjustment:late:late": ("approval", 5, "api:sm_bob"),
        "adjustment:late-revert:late": ("approval_revert", -5, "api:sm_bob"),
        f"adjustment:{adjustment.id}": ("adjustment", -2, "api:sm_bob"),
        f"adjustment:{adjustment.id}:revert": ("adjustment", 2, "api:sm_bob"),
    }
    assert api.get("/v1/events", limit=1).body["total"] == 6


def test_a_trace_follows_what_was_decided_about_an_event(books: Books, api: Api) -> None:
    late_id = held_id(books.use_late("5", key="late").event.key)

    def outcome(key: str) -> str:
        body = api.get("/v1/events/trace", idempotencyKey=key).body
        return str(body["outcome"])

    assert outcome("late") == "held_as_late"
    books.wiring.adjustments.approve(DEMO, late_id, "api:sm_bob")
    assert outcome("adjustment:late:late") == "accepted"
    books.deliver()
    assert outcome("late") == "counted"
    assert outcome("adjustment:late:late") == "counted"
    books.revert(late_id)
    assert outcome("late") == "reverted"
    adjustment = books.adjust("2", customer=CustomerRef("cus_B"))
    books.approve(adjustment)
    trace = api.get("/v1/events/trace", idempotencyKey=f"adjustment:{adjustment.id}").body
    assert (trace["outcome"], trace["event"]["kind"]) == ("counted", "adjustment")
