"""What waits for a person: seen, decided, and told on from there."""

from dataclasses import replace

import pytest

from functions.writer.handler import handler as write
from infra.functions import WRITER
from local.stripe.faults import FaultKind
from metering.auth import Scope
from metering.names import TenantId
from metering.push import PushState, Stop
from metering.wiring import Wiring, using
from tests.api_client import Api, api_of
from tests.billing_world import HOUR, MINUTE, NOVEMBER, BillingWorld, Context
from tests.builders import NOON, a_counter


@pytest.fixture
def stuck(billing: BillingWorld) -> BillingWorld:
    """A push of 10 whose minute at Stripe holds something else."""
    billing.map(scale=1)
    billing.stand_in.add_customers(["cus_A"])
    billing.use("1")
    billing.stand_in.plan(FaultKind.DROP_BEFORE, path="/v1/billing/meter_events")
    billing.write()
    billing.stand_in.send_foreign_event("api_calls", "cus_A", "3", timestamp=int(NOON.timestamp()))
    billing.advance(25 * HOUR)
    billing.write()
    assert billing.stream().stopped is not None
    return billing


def test_a_stopped_stream_says_what_a_person_needs_to_know(stuck: BillingWorld) -> None:
    [stream] = Api().get("/v1/pushes", tenantId="demo", status="stopped").body

    assert stream["streamId"] == stuck.stream().key.id
    assert (stream["metric"], stream["customerRef"]) == ("api_calls", "cus_A")
    assert stream["needsDecision"] is True
    assert stream["stopped"]["reason"] == "ambiguous_minute"
    assert "holds 3, neither 0 nor our 10" in stream["stopped"]["message"]
    assert (stream["open"]["delta"], stream["open"]["value"]) == (1, "10")
    assert Api().get("/v1/pushes", tenantId="demo").body == [stream]


@pytest.mark.parametrize(
    ("decision", "state", "told"),
    [("counted", PushState.ACCEPTED, 3), ("not_counted", PushState.VOID, 13)],
)
def test_a_decision_ends_the_push_and_the_writer_goes_on(
    stuck: BillingWorld, decision: str, state: PushState, told: int
) -> None:
    stream_id = stuck.stream().key.id

    answer = Api().post(
        f"/v1/pushes/{stream_id}/decision", {"tenantId": "demo", "decision": decision}
    )

    assert (answer.status, answer.body["stopped"], answer.body["open"]) == (200, None, None)
    stuck.advance(MINUTE)
    stuck.write_until_settled()
    (history,) = stuck.wiring.pushes.of_period(a_counter(), NOVEMBER)
    assert history.pushes[0].state is state
    assert history.pushes[0].resolution == "decided_by:anyone"
    assert stuck.stream().accepted == 10
    assert stuck.told() == told
    assert stuck.wiring.pushes.in_need() == []


def test_what_the_writer_settles_itself_is_not_decided(billing: BillingWorld) -> None:
    billing.map()
    billing.use("10", customer="cus_missing")
    billing.write()
    [stream] = Api().get("/v1/pushes", tenantId="demo", status="stopped").body

    answer = Api().post(
        f"/v1/pushes/{stream['streamId']}/decision", {"tenantId": "demo", "decision": "counted"}
    )

    assert stream["needsDecision"] is False
    assert (answer.status, answer.body["error"]) == (409, "Conflict")
    assert "the writer goes on" in answer.body["message"]


def test_a_stream_of_another_tenant_is_not_there(stuck: BillingWorld) -> None:
    other = {"tenantId": "other", "decision": "counted"}

    answer = Api().post(f"/v1/pushes/{stuck.stream().key.id}/decision", other)

    assert answer.status == 404
    assert Api().get("/v1/pushes", tenantId="other", status="stopped").body == []
    assert stuck.stream().stopped is not None


def test_a_stop_without_an_open_push_is_cleared(billing: BillingWorld) -> None:
    billing.map()
    billing.stand_in.add_customers(["cus_A"])
    billing.use("1")
    billing.write()
    stopped = replace(billing.stream(), stopped=Stop("key_reused", "our bug", NOON, None))
    assert billing.wiring.pushes.store(stopped) is not None

    answer = Api().post(
        f"/v1/pushes/{stopped.key.id}/decision", {"tenantId": "demo", "decision": "counted"}
    )

    assert (answer.status, answer.body["stopped"]) == (200, None)


def test_a_decision_is_one_of_two_words(stuck: BillingWorld) -> None:
    answer = Api().post(
        f"/v1/pushes/{stuck.stream().key.id}/decision", {"tenantId": "demo", "decision": "maybe"}
    )

    assert answer.status == 400
    assert "decision" in answer.text


def test_the_next_life_of_the_store_is_begun_by_nobodys_key(wiring: Wiring) -> None:
    assert Api().post("/v1/pushes/incarnation", {}).body == {"incarnation": 1}
    required = Wiring(replace(wiring.config, auth=True), clock=wiring.clock)
    with using(required):
        keyed = api_of(required, TenantId("demo"), Scope.PROJECT_WRITE)
        assert keyed.post("/v1/pushes/incarnation", {}).status == 403
    assert wiring.pushes.incarnation() == 1


def test_an_operator_begins_the_next_life_by_the_writer(billing: BillingWorld) -> None:
    assert write({"raiseIncarnation": True, "force": True}, Context(WRITER)) == {"incarnation": 1}
    assert billing.wiring.pushes.incarnation() == 1
