"""The peer's open doors between tenants, W18 to W20: for each, whose number stays what it was.

`demo` is the tenant that tries; `acme` is the one whose ledger, keys and objects it must not
reach. Alerts, simulations and backfills, whose routes W20 names too, do not exist.
"""

from dataclasses import replace
from decimal import Decimal

import pytest

from metering.adjustment import Adjustment, Reason
from metering.adjustments import Wanted
from metering.auth import EVERY_SCOPE, Scope
from metering.names import CustomerRef, Metric, TenantId
from metering.wiring import Wiring
from tests.api_client import Answer, Api, api_of, meter
from tests.books import NOVEMBER_1
from tests.builders import A_MAPPING, DEMO, a_sent_event, an_entry
from tests.peer_mistakes.pipeline import Pipeline
from tests.readers import ledger_of, post, send

ACME = TenantId("acme")


def header(wired: Wiring, tenant: TenantId, *scopes: Scope) -> dict[str, str]:
    return {"authorization": f"Bearer {wired.key_issuer.create_key(tenant, scopes).text}"}


@pytest.fixture
def intruder(guarded: Wiring) -> Api:
    """The API for a key of `demo` that may do everything."""
    return api_of(guarded, DEMO, *EVERY_SCOPE)


# --- W18: writing into another ledger -------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "body"),
    [
        ({"events": "x"}, {}),  # hid the events from the peer's check
        ({"tenantId": "demo"}, {}),  # hid the body's tenant from it
        ({"tenantId": "demo"}, {"tenantId": "acme"}),
        ({"events": "x", "tenantId": "demo"}, {"tenantId": "demo"}),
        ({}, {"tenantId": "demo"}),
    ],
)
def test_w18_999_units_for_another_tenant_are_refused_and_it_stays_at_0(
    guarded: Wiring, query: dict[str, str], body: dict[str, str]
) -> None:
    """With the peer they were written into the other tenant's ledger."""
    own, foreign = a_sent_event(quantity=1), a_sent_event(tenantId="acme", quantity=999)
    key = header(guarded, DEMO, Scope.EVENTS_WRITE)

    answer = post(body | {"events": [own, foreign]}, headers=key, query=query)

    assert answer.status == 403
    assert answer.body["error"].startswith("Mismatched tenantId")
    assert ledger_of(guarded, ACME) == []
    assert ledger_of(guarded, DEMO) == []


def test_w18_an_adjustment_for_another_tenant_is_refused_and_makes_none(
    guarded: Wiring, intruder: Api
) -> None:
    about = {
        "metric": "api_calls",
        "customerRef": "cus_A",
        "periodStart": "2026-11-01",
        "delta": 999,
        "reason": "correction",
    }

    answer = intruder.post("/v1/adjustments", about | {"tenantId": "acme"}, query="tenantId=demo")

    assert (answer.status, answer.body) == (403, {"error": "Mismatched tenantId"})
    assert api_of(guarded, ACME).get("/v1/adjustments").body["total"] == 0


# --- W19: other tenants' keys ---------------------------------------------------------------------


@pytest.mark.parametrize("deed", ["rotate", "revoke"])
def test_w19_another_tenants_key_is_not_there_and_stays_as_it_was(
    guarded: Wiring, intruder: Api, deed: str
) -> None:
    """Any writing key could, with the peer, take over any organisation's."""
    issued = guarded.key_issuer.create_key(ACME, [Scope.USAGE_READ])
    path = f"/v1/admin/api-keys/{issued.key.prefix}/{deed}"

    answer = intruder.post(path, {})

    assert answer.status == 404
    assert guarded.api_keys.stored(issued.key.prefix) == issued.key
    still = Api({"authorization": f"Bearer {issued.text}"})
    assert still.get("/v1/usage/current", customerRef="cus_A").status == 200
    assert still.get("/v1/events").status == 403  # and may do no more than before


def test_w19_a_key_mints_no_scope_that_it_lacks(guarded: Wiring) -> None:
    """With the peer, any writing key could make one that may do everything."""
    writes = api_of(guarded, DEMO, Scope.PROJECT_WRITE)

    answer = writes.post("/v1/admin/api-keys", {"scopes": ["events:write", "usage:read"]})

    assert answer.status == 403
    assert "may not give usage:read" in answer.body["message"]
    assert writes.post("/v1/admin/api-keys", {"scopes": ["events:write"]}).status == 201


def test_w19_no_answer_holds_a_secret_or_its_hash(guarded: Wiring) -> None:
    issued = guarded.key_issuer.create_key(ACME, EVERY_SCOPE)
    api = Api({"authorization": f"Bearer {issued.text}"})
    secret = issued.text.partition(".")[2]

    for path in (
        *("/v1/settings", "/v1/mappings", "/v1/customers", "/v1/metrics", "/v1/pushes"),
        "/v1/admin/api-keys",
    ):
        answer = api.get(path)
        assert answer.status == 200, path
        for hidden in (secret, issued.key.secret_sha256.hex(), "secretHash"):
            assert hidden not in answer.text, path


# --- W20: other tenants' objects by their ids -----------------------------------------------------


def not_there(*answers: Answer) -> bool:
    """Whether each is answered as what does not exist."""
    return [one.status for one in answers] == [404] * len(answers)


def test_w20_another_tenants_mapping_is_not_there_and_stays_as_it_was(
    guarded: Wiring, intruder: Api
) -> None:
    mapping = replace(A_MAPPING, tenant=ACME)
    guarded.settings_store.add_mapping(mapping)
    path = f"/v1/mappings/{mapping.id}"

    assert not_there(intruder.get(path), intruder.put(path, {"active": False}))
    assert intruder.delete(path).status == 204  # as of any id that does not exist
    assert intruder.get("/v1/mappings").body == []
    assert guarded.settings_store.mappings(ACME) == [mapping]


def test_w20_another_tenants_adjustment_is_not_there_and_its_5_does_not_count(
    guarded: Wiring, intruder: Api
) -> None:
    made = adjusted(guarded)
    path = f"/v1/adjustments/{made.id}"

    assert not_there(
        intruder.get(path),
        intruder.post(f"{path}/approve", {}),
        intruder.post(f"{path}/revert", {}),
    )
    many = intruder.post("/v1/reconciliation/adjustments", {"adjustmentIds": [made.id]})
    assert (many.body["applied"], many.body["failed"]) == (0, 1)
    assert intruder.get("/v1/adjustments").body["total"] == 0
    assert ledger_of(guarded, ACME) == []


def adjusted(wired: Wiring) -> Adjustment:
    """A pending adjustment of `acme` by 5."""
    counter = (Metric("api_calls"), CustomerRef("cus_A"))
    wanted = Wanted(ACME, *counter, NOVEMBER_1, Decimal(5), Reason.CORRECTION)
    return wired.adjustments.create(wanted, "api:sm_ann")


def test_w20_another_tenants_push_is_not_there_and_stripe_stays_at_5(pipeline: Pipeline) -> None:
    pipeline.use(5)
    stream = pipeline.world.stream().key.id
    other = api_of(pipeline.wiring, ACME, *EVERY_SCOPE)
    wanted = {"period": "2026-11", "streamId": stream, "amount": -5, "reason": "not ours"}

    decided = other.post(f"/v1/pushes/{stream}/decision", {"decision": "not_counted"})
    corrected = other.post("/v1/reconciliation/corrections", wanted)
    pipeline.tell()

    assert not_there(decided, corrected)
    assert pipeline.numbers() == (5, 5)


def test_w20_lists_hold_ones_own_and_never_everybodys(guarded: Wiring, intruder: Api) -> None:
    meter(guarded, [an_entry("77", tenant="acme")])
    guarded.settings_store.add_mapping(replace(A_MAPPING, tenant=ACME))
    adjusted(guarded)
    send(
        a_sent_event(tenantId="acme", metric=""), headers=header(guarded, ACME, Scope.EVENTS_WRITE)
    )

    for path, rows in (
        ("/v1/events", "events"),
        ("/v1/adjustments", "adjustments"),
        ("/v1/quarantine", "items"),
    ):
        assert intruder.get(path).body[rows] == [], path
    for path in ("/v1/mappings", "/v1/pushes", "/v1/periods/2026-11"):
        assert intruder.get(path).body == [], path
    assert intruder.get("/v1/usage/current", customerRef="cus_A").body["metrics"] == []
    assert intruder.get("/v1/reconciliation/2026-11").body["reports"] == []


def test_w20_no_header_and_no_row_says_whose_usage_it_is(guarded: Wiring) -> None:
    """The peer's simulations trusted `x-tenant-id`; its backfill rows injected 77 units."""
    key = header(guarded, DEMO, Scope.EVENTS_WRITE, Scope.PROJECT_READ)
    sent = a_sent_event(tenantId=..., quantity=77)

    assert send(sent, headers=key | {"x-tenant-id": "acme"}).statuses == ["accepted"]
    assert ledger_of(guarded, ACME) == []
    foreign = send(sent | {"tenant_id": "acme"}, headers=key)

    assert foreign.status == 403
    assert [one.event.quantity for one in ledger_of(guarded, DEMO)] == [77]
    asked = Api(key | {"x-tenant-id": "acme"}).get("/v1/settings").body
    assert asked["tenantId"] == "demo"


def test_w20_the_summary_needs_a_scope_like_every_other_route(guarded: Wiring) -> None:
    months = {"periodStart": "2026-11", "periodEnd": "2026-11"}

    answer = api_of(guarded, DEMO, Scope.EVENTS_WRITE).get("/v1/reconciliation/summary", **months)

    assert answer.status == 403
    assert answer.body["error"] == "Require one of: project:read,reconciliation:read"
