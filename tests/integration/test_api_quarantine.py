"""Looking at what was set aside."""

from dataclasses import replace

import pytest

from functions.ingest_queue.handler import handler as receive
from metering.auth import Scope
from metering.names import TenantId
from metering.wiring import Wiring, using
from tests.api_client import Api, api_of
from tests.builders import a_queue_batch, a_sent_event
from tests.readers import send


@pytest.fixture
def api(wiring: Wiring) -> Api:
    return Api()


def test_a_refused_conflict_is_listed_with_all_that_was_sent(wiring: Wiring, api: Api) -> None:
    event = a_sent_event(idempotencyKey="k-1")
    send(event)
    send(event | {"quantity": 7})

    [item] = api.get("/v1/quarantine", tenantId="demo").body["items"]

    assert (item["kind"], item["idempotencyKey"]) == ("conflict", "k-1")
    assert '"quantity":7' in item["payload"]
    assert api.get("/v1/quarantine", tenantId="other").body == {"items": []}


def test_what_names_no_tenant_is_listed_where_no_key_is_required(wiring: Wiring, api: Api) -> None:
    receive(a_queue_batch("no JSON"), None)

    [item] = api.get("/v1/quarantine", unowned="true").body["items"]

    assert (item["kind"], item["payload"]) == ("unparseable", "no JSON")


def test_no_tenants_key_opens_what_names_no_tenant(wiring: Wiring) -> None:
    required = Wiring(replace(wiring.config, auth=True), clock=wiring.clock)
    with using(required):
        api = api_of(required, TenantId("demo"), Scope.EVENTS_READ)

        assert api.get("/v1/quarantine", unowned="true").status == 403
        assert api.get("/v1/quarantine").body == {"items": []}
