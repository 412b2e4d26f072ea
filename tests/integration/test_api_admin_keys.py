"""`/v1/admin/api-keys`: a tenant's people make, list, rotate and revoke its keys."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from functions.ingest.handler import handler as ingest
from metering import times
from metering.auth import Scope
from metering.errors import ConflictError
from metering.names import TenantId
from metering.wiring import Wiring, using
from tests.api_client import Answer, Api, api_of
from tests.builders import a_sent_event, an_http_request
from tests.conftest import SetClock

ACME, OTHER = TenantId("acme"), TenantId("other")
PATH = "/v1/admin/api-keys"


@pytest.fixture
def guarded(wiring: Wiring, clock: SetClock) -> Iterator[Wiring]:
    """The same deployment with keys required."""
    config = replace(wiring.config, auth=True)
    with using(Wiring(config, clock=clock, dynamodb=wiring.dynamodb)) as wired:
        yield wired


def api_with(text: str) -> Api:
    return Api({"authorization": f"Bearer {text}"})


def opens(text: str) -> bool:
    """Whether a key that may read the project is let in."""
    return api_with(text).get("/v1/settings").status == 200


def ids(answer: Answer) -> list[str]:
    return [one["id"] for one in answer.body["keys"]]


def an_admin(wired: Wiring, clock: SetClock, *, hours: float | None = None) -> Api:
    """The API for a key of a project, that ends after so many hours."""
    ends = None if hours is None else clock.now() + timedelta(hours=hours)
    return api_with(wired.key_issuer.create_key(ACME, expires_at=ends).text)


# --- making ---------------------------------------------------------------------------------------


def test_a_new_key_is_shown_once_and_opens_its_tenant(guarded: Wiring, clock: SetClock) -> None:
    issued = guarded.key_issuer.create_key(ACME)
    wanted = {"name": "ingest", "scopes": ["events:write"], "expiresAt": "2027-01-01T00:00:00Z"}

    answer = api_with(issued.text).post(PATH, wanted)

    assert answer.status == 201
    key = answer.body["key"]
    assert key == {
        "id": answer.body["apiKey"].partition(".")[0],
        "tenantId": "acme",
        "name": "ingest",
        "prefix": key["id"],
        "scopes": ["events:write"],
        "active": True,
        "createdAt": times.to_iso_ms(clock.now()),
        "createdBy": issued.key.prefix,
        "expiresAt": "2027-01-01T00:00:00.000Z",
        "retiresAt": None,
        "revokedAt": None,
    }
    headers = {"authorization": f"Bearer {answer.body['apiKey']}"}
    sent = an_http_request({"events": [a_sent_event(tenantId="acme")]}, headers=headers)
    assert ingest(sent, None)["statusCode"] == 200


def test_a_key_of_which_nothing_is_said_may_read_and_write_the_project(guarded: Wiring) -> None:
    answer = api_of(guarded, ACME).post(PATH, {})

    assert answer.status == 201
    key = answer.body["key"]
    assert (key["name"], key["scopes"]) == ("New API Key", ["project:read", "project:write"])
    assert key["expiresAt"] is None
    assert opens(answer.body["apiKey"])


@pytest.mark.parametrize(
    ("held", "wanted", "status"),
    [
        (["project:write"], ["events:write", "reconciliation:write"], 201),
        (["project:write"], ["project:write"], 201),
        (["project:write"], ["events:read"], 403),
        (["project:write"], ["project:read", "project:write"], 403),
        (["project:write", "usage:read"], ["usage:read", "alerts:write"], 201),
        (["project:read", "project:write"], list(Scope), 201),
    ],
)
def test_a_key_gives_no_scope_that_it_lacks(
    guarded: Wiring, held: list[str], wanted: list[str], status: int
) -> None:
    api = api_of(guarded, ACME, *map(Scope, held))

    answer = api.post(PATH, {"scopes": wanted})

    assert answer.status == status, answer.text
    assert len(guarded.key_admin.page(ACME, None, 100)) == (2 if status == 201 else 1)


def test_a_key_makes_none_that_outlives_it(guarded: Wiring, clock: SetClock) -> None:
    api = an_admin(guarded, clock, hours=24)
    later, sooner = clock.now() + timedelta(hours=25), clock.now() + timedelta(hours=23)

    assert api.post(PATH, {}).body["key"]["expiresAt"] == "2026-11-21T12:00:00.000Z"
    beyond = api.post(PATH, {"expiresAt": later.isoformat()})
    assert beyond.status == 403
    assert "this key ends at 2026-11-21T12:00:00.000Z" in beyond.body["message"]
    within = api.post(PATH, {"expiresAt": sooner.isoformat()})
    assert within.body["key"]["expiresAt"] == "2026-11-21T11:00:00.000Z"


@pytest.mark.parametrize(
    "wanted",
    [
        {"expiresAt": "2026-11-20T12:00:00Z"},
        {"expiresAt": "tomorrow"},
        {"scopes": []},
        {"scopes": ["everything"]},
        {"name": ""},
        {"name": "a\nb"},
    ],
)
def test_what_makes_no_sense_makes_no_key(guarded: Wiring, wanted: dict[str, Any]) -> None:
    answer = api_of(guarded, ACME).post(PATH, wanted)

    assert answer.status == 400
    assert next(iter(wanted)) in answer.body["message"]
    assert len(guarded.key_admin.page(ACME, None, 100)) == 1


# --- listing --------------------------------------------------------------------------------------


def test_a_tenant_sees_its_own_keys_and_no_secret(guarded: Wiring) -> None:
    api = api_of(guarded, ACME)
    made = [api.post(PATH, {"name": f"key {number}"}).body for number in range(3)]
    foreign = guarded.key_issuer.create_key(OTHER).key

    answer = api.get(PATH)

    assert answer.status == 200
    assert len(ids(answer)) == 4
    assert {one["key"]["id"] for one in made} < set(ids(answer))
    assert foreign.prefix not in answer.text
    for one in made:
        assert one["apiKey"].partition(".")[2] not in answer.text
    assert "sha256" not in answer.text.lower()


def test_pages_go_through_all_keys_once(guarded: Wiring) -> None:
    for _ in range(5):
        issued = guarded.key_issuer.create_key(ACME)
    api = api_with(issued.text)

    first = api.get(PATH, limit=2)
    second = api.get(PATH, limit=2, after=first.body["nextAfter"])
    third = api.get(PATH, limit=2, after=second.body["nextAfter"])

    assert third.body["nextAfter"] is None
    assert len({*ids(first), *ids(second), *ids(third)}) == 5


# --- rotating -------------------------------------------------------------------------------------


def test_a_rotated_key_stays_valid_for_a_day_beside_the_new_one(
    guarded: Wiring, clock: SetClock
) -> None:
    api = api_of(guarded, ACME)
    scopes = [Scope.PROJECT_READ, Scope.EVENTS_WRITE]
    old = guarded.key_issuer.create_key(ACME, scopes, name="shop")

    answer = api.post(f"{PATH}/{old.key.prefix}/rotate", {})

    assert answer.status == 200
    new = answer.body
    assert new["key"]["scopes"] == ["events:write", "project:read"]
    assert (new["key"]["name"], new["key"]["expiresAt"]) == ("shop", None)
    assert opens(old.text)
    assert opens(new["apiKey"])
    clock.advance(timedelta(hours=24, microseconds=-1))
    assert opens(old.text)
    clock.advance(timedelta(microseconds=1))
    assert not opens(old.text)
    assert opens(new["apiKey"])
    (listed,) = [one for one in api.get(PATH).body["keys"] if one["id"] == old.key.prefix]
    assert (listed["active"], listed["retiresAt"]) == (False, "2026-11-21T12:00:00.000Z")


@pytest.mark.parametrize(
    ("hours", "status"), [(0, 200), (1.5, 200), (168, 200), (168.1, 400), (-1, 400)]
)
def test_the_overlap_is_the_callers_choice_within_a_week(
    guarded: Wiring, clock: SetClock, hours: float, status: int
) -> None:
    api, old = api_of(guarded, ACME), guarded.key_issuer.create_key(ACME)

    answer = api.post(f"{PATH}/{old.key.prefix}/rotate", {"overlapHours": hours})

    assert answer.status == status
    stored = guarded.api_keys.stored(old.key.prefix)
    assert stored is not None
    expected = clock.now() + timedelta(hours=hours) if status == 200 else None
    assert stored.retires_at == expected


def test_a_key_can_rotate_itself_without_a_body(guarded: Wiring) -> None:
    issued = guarded.key_issuer.create_key(ACME)

    answer = api_with(issued.text).call("POST", f"{PATH}/{issued.key.prefix}/rotate")

    assert answer.status == 200
    assert opens(answer.body["apiKey"])


def test_who_lost_the_answer_rotates_again_and_gains_no_time(
    guarded: Wiring, clock: SetClock
) -> None:
    api, old = api_of(guarded, ACME), guarded.key_issuer.create_key(ACME)
    path = f"{PATH}/{old.key.prefix}/rotate"
    api.post(path, {"overlapHours": 2})
    clock.advance(timedelta(hours=1))

    again = api.post(path, {"overlapHours": 24})

    assert again.status == 200
    assert again.body["key"]["expiresAt"] is None
    clock.advance(timedelta(hours=1))
    assert not opens(old.text)
    assert opens(again.body["apiKey"])


def test_a_rotated_key_lasts_as_long_as_the_old_would_have_and_no_longer_than_the_callers(
    guarded: Wiring, clock: SetClock
) -> None:
    lasting, passing = an_admin(guarded, clock), an_admin(guarded, clock, hours=2)
    week = clock.now() + timedelta(days=7)

    def rotated(api: Api, **wanted: str) -> Answer:
        old = guarded.key_issuer.create_key(ACME, expires_at=week).key.prefix
        return api.post(f"{PATH}/{old}/rotate", wanted)

    assert rotated(lasting).body["key"]["expiresAt"] == "2026-11-27T12:00:00.000Z"
    assert rotated(passing).body["key"]["expiresAt"] == "2026-11-20T14:00:00.000Z"
    longer = rotated(lasting, expiresAt="2027-01-01T00:00:00Z")
    assert longer.body["key"]["expiresAt"] == "2027-01-01T00:00:00.000Z"
    assert rotated(passing, expiresAt="2027-01-01T00:00:00Z").status == 403


def test_a_key_that_was_rotated_makes_none_that_outlives_its_overlap(
    guarded: Wiring, clock: SetClock
) -> None:
    """Or whoever stole it would keep what it opens."""
    stolen = guarded.key_issuer.create_key(ACME)
    api_of(guarded, ACME).post(f"{PATH}/{stolen.key.prefix}/rotate", {"overlapHours": 1})
    thief = api_with(stolen.text)

    made = thief.post(PATH, {}).body["key"]
    rotated = thief.post(f"{PATH}/{stolen.key.prefix}/rotate", {}).body["key"]

    assert made["expiresAt"] == rotated["expiresAt"] == "2026-11-20T13:00:00.000Z"
    clock.advance(timedelta(hours=1))
    assert not opens(stolen.text)


def test_rotating_gives_no_scope_that_the_caller_lacks(guarded: Wiring) -> None:
    mighty = guarded.key_issuer.create_key(ACME)

    answer = api_of(guarded, ACME, Scope.PROJECT_WRITE).post(
        f"{PATH}/{mighty.key.prefix}/rotate", {}
    )

    assert answer.status == 403
    assert "may not give project:read" in answer.body["message"]
    assert guarded.api_keys.stored(mighty.key.prefix) == mighty.key


def test_a_key_that_ended_is_not_rotated(guarded: Wiring, clock: SetClock) -> None:
    api = api_of(guarded, ACME)
    expired = guarded.key_issuer.create_key(ACME, expires_at=clock.now() + timedelta(hours=1)).key
    revoked = guarded.key_issuer.create_key(ACME).key
    guarded.api_keys.revoke(revoked, clock.now())
    clock.advance(timedelta(hours=1))

    for key in (expired, revoked):
        answer = api.post(f"{PATH}/{key.prefix}/rotate", {})
        assert answer.status == 409
        assert "has ended; make a new one" in answer.body["message"]


def test_of_two_who_rotate_or_revoke_at_once_one_is_told(guarded: Wiring, clock: SetClock) -> None:
    old, new = (guarded.key_issuer.create_key(ACME).key for _ in range(2))
    guarded.api_keys.revoke(old, clock.now())

    with pytest.raises(ConflictError, match="was changed meanwhile"):
        guarded.api_keys.replace(old, replace(new, prefix="sm_new"), clock.now())

    assert guarded.api_keys.stored("sm_new") is None


# --- revoking -------------------------------------------------------------------------------------


def test_a_revoked_key_opens_nothing_any_more(guarded: Wiring, clock: SetClock) -> None:
    api, issued = api_of(guarded, ACME), guarded.key_issuer.create_key(ACME)

    answer = api.post(f"{PATH}/{issued.key.prefix}/revoke", {})

    assert answer.status == 200
    now = times.to_iso_ms(clock.now())
    assert (answer.body["key"]["active"], answer.body["key"]["revokedAt"]) == (False, now)
    assert not opens(issued.text)
    clock.advance(timedelta(hours=1))
    again = api.call("POST", f"{PATH}/{issued.key.prefix}/revoke")
    assert again.body["key"]["revokedAt"] == now
    (listed,) = [one for one in api.get(PATH).body["keys"] if one["id"] == issued.key.prefix]
    assert listed == again.body["key"]


def test_a_revoked_key_that_is_still_cached_makes_no_other(
    guarded: Wiring, clock: SetClock
) -> None:
    config = replace(guarded.config, settings_cache_s=30)
    issued = guarded.key_issuer.create_key(ACME)
    with using(Wiring(config, clock=clock, dynamodb=guarded.dynamodb)):
        assert opens(issued.text)
        guarded.api_keys.revoke(issued.key, clock.now())

        assert opens(issued.text)  # for as long as the cache lasts
        thief = api_with(issued.text)
        for path in (PATH, f"{PATH}/{issued.key.prefix}/rotate"):
            assert thief.post(path, {}).status == 401
        clock.advance(timedelta(seconds=30))
        assert not opens(issued.text)


def test_without_keys_the_named_tenants_are_managed(wiring: Wiring) -> None:
    made = Api().post(PATH, {"tenantId": "acme", "scopes": ["events:write"]})

    assert made.status == 201
    assert ids(Api().get(PATH, tenantId="acme")) == [made.body["key"]["id"]]
    assert ids(Api().get(PATH, tenantId="other")) == []
    path = f"{PATH}/{made.body['key']['id']}/revoke"
    assert Api().post(path, {"tenantId": "other"}).status == 404
    assert Api().post(path, {"tenantId": "acme"}).status == 200


def test_a_key_that_nobody_made_is_not_there(guarded: Wiring) -> None:
    api = api_of(guarded, ACME)

    for deed in ("rotate", "revoke"):
        answer = api.post(f"{PATH}/sm_000000000000/{deed}", {})
        assert (answer.status, answer.body["error"]) == (404, "Not found")
