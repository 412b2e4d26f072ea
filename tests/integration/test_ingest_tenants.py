"""No tenant writes into another's ledger, however a request spells its tenants."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from metering.auth import Scope
from metering.config import Config
from metering.names import TenantId
from metering.wiring import Wiring, using
from tests.builders import DEMO, a_sent_event
from tests.conftest import SetClock
from tests.readers import Answer, ledger_of, post, send

ACME = TenantId("acme")
Keyed = Callable[..., dict[str, str]]


@pytest.fixture
def guarded(config: Config, clock: SetClock) -> Iterator[Wiring]:
    """A deployment that asks for keys."""
    with using(Wiring(replace(config, auth=True), clock=clock)) as wired:
        yield wired


@pytest.fixture
def demo_key(guarded: Wiring) -> dict[str, str]:
    return header(guarded, DEMO, Scope.EVENTS_WRITE)


def header(wired: Wiring, tenant: TenantId, *scopes: Scope) -> dict[str, str]:
    return {"authorization": f"Bearer {wired.key_issuer.create_key(tenant, scopes).text}"}


def refused(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.body["error"]


def test_a_key_writes_into_its_own_tenants_ledger(
    guarded: Wiring, demo_key: dict[str, str]
) -> None:
    answer = send(a_sent_event(), a_sent_event(tenantId=...), headers=demo_key)

    assert answer.statuses == ["accepted", "accepted"]
    assert len(ledger_of(guarded, DEMO)) == 2


def test_without_a_key_nothing_is_taken(guarded: Wiring) -> None:
    assert refused(send(a_sent_event())) == (401, "Missing API key")
    assert ledger_of(guarded) == []


@pytest.mark.parametrize("scope", [Scope.EVENTS_WRITE, Scope.PROJECT_WRITE])
def test_either_writing_scope_suffices(guarded: Wiring, scope: Scope) -> None:
    assert send(a_sent_event(), headers=header(guarded, DEMO, scope)).status == 200


def test_a_key_that_may_only_read_writes_nothing(guarded: Wiring) -> None:
    reading = header(guarded, DEMO, Scope.EVENTS_READ, Scope.PROJECT_READ, Scope.USAGE_WRITE)

    answer = send(a_sent_event(), headers=reading)

    assert refused(answer) == (403, "Require one of: project:write,events:write")
    assert ledger_of(guarded) == []


@pytest.mark.parametrize("place", ["query", "body"])
def test_a_request_that_names_another_tenant_is_refused(
    guarded: Wiring, demo_key: dict[str, str], place: str
) -> None:
    body = {"events": [a_sent_event()]} | ({"tenantId": "acme"} if place == "body" else {})
    query = {"tenantId": "acme"} if place == "query" else {}

    assert refused(post(body, headers=demo_key, query=query)) == (403, "Mismatched tenantId")
    assert ledger_of(guarded) == ledger_of(guarded, ACME) == []


def test_one_place_that_names_the_right_tenant_does_not_hide_another(
    guarded: Wiring, demo_key: dict[str, str]
) -> None:
    body = {"tenantId": "acme", "events": [a_sent_event(tenantId="acme")]}

    answer = post(body, headers=demo_key, query={"tenantId": "demo", "events": "x"})

    assert refused(answer) == (403, "Mismatched tenantId")


@pytest.mark.parametrize(
    "named",
    [
        {"tenantId": "acme"},
        {"tenantId": ..., "tenant_id": "acme"},
        {"tenantId": "demo", "tenant_id": "acme"},
        {"tenantId": "acme", "tenant_id": "demo"},
        {"tenantId": None, "tenant_id": "acme"},
        {"tenantId": 5},
        {"tenantId": ""},
        {"tenantId": "Demo"},
        {"tenantId": "demo "},
    ],
)
@pytest.mark.parametrize("position", [0, 2])
def test_one_event_of_another_tenant_refuses_the_request(
    guarded: Wiring, demo_key: dict[str, str], named: dict[str, object], position: int
) -> None:
    events = [a_sent_event() for _ in range(3)]
    events[position] = a_sent_event(**named)

    answer = send(*events, headers=demo_key)

    assert refused(answer) == (403, "Mismatched tenantId in events")
    assert ledger_of(guarded) == ledger_of(guarded, ACME) == []


def test_two_tenants_with_the_same_key_do_not_notice_each_other(
    guarded: Wiring, demo_key: dict[str, str]
) -> None:
    sent = a_sent_event(idempotencyKey="evt-1", tenantId=...)
    send(sent, headers=demo_key)

    answer = send(sent | {"quantity": 5}, headers=header(guarded, ACME, Scope.EVENTS_WRITE))

    assert answer.statuses == ["accepted"]
    assert [entry.event.quantity for entry in ledger_of(guarded, DEMO)] == [1]
    assert [entry.event.quantity for entry in ledger_of(guarded, ACME)] == [5]


# --- without keys, on loopback --------------------------------------------------------------------


def test_where_no_key_is_asked_for_each_event_may_name_its_tenant(wiring: Wiring) -> None:
    answer = send(a_sent_event(), a_sent_event(tenantId="acme"), a_sent_event(tenantId=...))

    assert answer.statuses == ["accepted", "accepted", "error"]
    assert answer.errors == [(2, "tenantId: Required")]


def test_where_no_key_is_asked_for_the_request_may_name_the_tenant(wiring: Wiring) -> None:
    answer = post({"tenantId": "acme", "events": [a_sent_event(tenantId=...)]})

    assert answer.statuses == ["accepted"]
    assert len(ledger_of(wiring, ACME)) == 1


def test_even_without_keys_a_request_must_not_contradict_itself(wiring: Wiring) -> None:
    answer = post({"tenantId": "acme", "events": [a_sent_event(tenantId="demo")]})

    assert refused(answer) == (403, "Mismatched tenantId in events")


@pytest.mark.parametrize("tenant", ["", "t" * 101, "a\0b", "\ud800"])
def test_a_tenant_that_a_request_names_must_be_a_valid_name(wiring: Wiring, tenant: str) -> None:
    answer = post({"tenantId": tenant, "events": [a_sent_event(tenantId=...)]})

    assert answer.status == 400
    assert ledger_of(wiring, TenantId("")) == []
