"""A stack that asks for API keys: who is let in, and that no tenant notices another."""

from collections.abc import Iterator

import pytest

from local.dynamodb_local import LocalServiceError
from local.seed import demo_key, seed
from local.stack import Stack, running_stack
from metering.auth import Scope
from tests.e2e.shop import Shop

pytestmark = [pytest.mark.stack, pytest.mark.xdist_group("own-stacks")]


@pytest.fixture(scope="module")
def guarded() -> Iterator[Stack]:
    with running_stack(free_ports=True, auth=True) as stack:
        yield stack


@pytest.fixture
def acme(guarded: Stack) -> Iterator[Shop]:
    with Shop(guarded, "acme") as acme:
        acme.shows_key()
        yield acme


@pytest.fixture
def globex(guarded: Stack) -> Iterator[Shop]:
    with Shop(guarded, "globex") as globex:
        globex.shows_key()
        yield globex


READS = ["/v1/events", "/v1/usage/current", "/v1/mappings", "/v1/metrics", "/v1/customers"]


def test_without_a_key_or_with_a_wrong_one_nothing_is_served(guarded: Stack, acme: Shop) -> None:
    key = acme.api.headers["authorization"]
    body = {"events": [acme.event()]}
    with Shop(guarded, "stranger") as stranger:
        for given, error in [
            (None, "Missing API key"),
            ("Bearer nothing", "Invalid API key format"),
            ("Bearer sm_0123456789ab.c2VjcmV0", "Invalid API key"),
            (key[:-1] + ("A" if key[-1] != "A" else "B"), "Invalid API key"),
        ]:
            headers = {"authorization": given} if given else {}
            answers = [
                stranger.api.post("/v1/events/ingest", json=body, headers=headers),
                *(stranger.api.get(f"{path}?customerRef=a", headers=headers) for path in READS),
            ]
            assert {(one.status_code, one.text) for one in answers} == {
                (401, f'{{"error":"{error}"}}')
            }
    acme.is_counted()
    assert acme.counted() == 0


def test_the_demo_tenant_has_a_key_of_its_own(guarded: Stack) -> None:
    key = demo_key(guarded.dynamodb_endpoint)

    assert seed(guarded.api_url, guarded.stripe_url, key=key).keys() == {
        "api_calls",
        "egress_bytes",
    }
    with pytest.raises(LocalServiceError, match="Missing API key"):
        seed(guarded.api_url, guarded.stripe_url)


def test_with_its_key_a_tenant_sends_and_reads_without_naming_itself(acme: Shop) -> None:
    event = {name: value for name, value in acme.event().items() if name != "tenantId"}

    sent = acme.api.post("/v1/events/ingest", json={"events": [event]})
    acme.is_counted()
    shown = acme.api.get("/v1/usage/current", params={"customerRef": acme.customer})

    assert (sent.status_code, sent.json()["accepted"]) == (200, 1)
    assert [(one["name"], one["current"]) for one in shown.json()["metrics"]] == [("api_calls", 1)]


def test_a_tenant_that_names_another_is_refused_and_nothing_is_written(
    acme: Shop, globex: Shop
) -> None:
    theirs = globex.event()
    mine = acme.event()
    refused = [
        acme.api.post("/v1/events/ingest", json={"events": [theirs]}),
        acme.api.post("/v1/events/ingest", json={"events": [mine, theirs]}),
        acme.api.post(f"/v1/events/ingest?tenantId={globex.tenant}", json={"events": [mine]}),
        acme.api.post("/v1/events/ingest", json={"tenantId": globex.tenant, "events": [mine]}),
        acme.api.put("/v1/metrics/api_calls", json={"tenantId": globex.tenant, "unit": "x"}),
        *(
            acme.api.get(path, params={"tenantId": globex.tenant, "customerRef": "a"})
            for path in READS
        ),
    ]
    acme.is_counted()

    assert {answer.status_code for answer in refused} == {403}
    assert all("Mismatched tenantId" in answer.text for answer in refused)
    assert acme.counted() == globex.counted() == 0
    assert globex.call("GET", "/v1/metrics") == []


def test_one_key_and_one_customer_are_two_events_of_two_tenants(acme: Shop, globex: Shop) -> None:
    event = acme.event(quantity=1)
    acme.sends(event)
    theirs = globex.sends(event | {"tenantId": globex.tenant, "quantity": 5})
    acme.is_counted()

    assert theirs["accepted"] == 1
    assert acme.counted() == 1
    assert globex.counted(customer=acme.customer) == 5
    assert acme.trace(event)["setAside"] == []


def test_a_key_does_what_its_scopes_say_and_no_more(guarded: Stack) -> None:
    with Shop(guarded, "narrow") as narrow:
        narrow.shows_key(Scope.EVENTS_WRITE)
        sent = narrow.api.post("/v1/events/ingest", json={"events": [narrow.event()]})
        read = narrow.api.get("/v1/usage/current", params={"customerRef": narrow.customer})

    assert sent.status_code == 200
    assert (read.status_code, read.json()) == (
        403,
        {"error": "Require one of: project:read,usage:read"},
    )


def test_health_is_told_without_a_key(guarded: Stack) -> None:
    with Shop(guarded, "nobody") as nobody:
        answers = [nobody.api.get(path) for path in ("/health", "/health/live", "/health/ready")]

    assert {answer.status_code for answer in answers} == {200}
