"""Who calls, and what a caller may do; the answers are the peer's, word for word."""

from datetime import datetime, timedelta

import pytest

from metering.auth import (
    ANYONE,
    MISMATCHED_TENANT_IN_EVENTS,
    ApiKey,
    Authenticator,
    AuthError,
    Caller,
    KeyIssuer,
    KeyRecord,
    Scope,
)
from metering.errors import BadRequestError
from metering.names import TenantId
from tests.conftest import SetClock

ACME = TenantId("acme")


class HeldKeys:
    """Keys in a dictionary; counts its look-ups."""

    def __init__(self) -> None:
        self.keys: dict[str, ApiKey] = {}
        self.asked: list[str] = []

    def find(self, prefix: str) -> ApiKey | None:
        self.asked.append(prefix)
        return self.keys.get(prefix)

    def stored(self, prefix: str) -> ApiKey | None:
        return self.keys.get(prefix)

    def add(self, key: ApiKey, *, opens_tenant: bool = False) -> None:
        assert not opens_tenant
        self.keys[key.prefix] = key

    def listed(self, tenant: TenantId, after: str | None, limit: int) -> list[KeyRecord]:
        raise NotImplementedError

    def replace(self, old: ApiKey, new: ApiKey, retires_at: datetime) -> None:
        raise NotImplementedError

    def revoke(self, key: KeyRecord, now: datetime) -> None:
        raise NotImplementedError


@pytest.fixture
def keys() -> HeldKeys:
    return HeldKeys()


@pytest.fixture
def issuer(keys: HeldKeys, clock: SetClock) -> KeyIssuer:
    numbers = iter(range(1, 100))
    return KeyIssuer(keys, clock, lambda size: next(numbers).to_bytes(size))


@pytest.fixture
def authenticator(keys: HeldKeys, clock: SetClock) -> Authenticator:
    return Authenticator(keys, clock)


def refused(authenticator: Authenticator, headers: dict[str, str]) -> tuple[int, dict[str, str]]:
    with pytest.raises(AuthError) as raised:
        authenticator.authenticate(headers)
    return raised.value.status, raised.value.body


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": "Bearer {key}"},
        {"authorization": "bearer  {key} "},
        {"authorization": "{key}"},
        {"x-api-key": "{key}"},
        {"authorization": "{key}", "x-api-key": "nonsense"},
        {"authorization": "", "x-api-key": "{key}"},
    ],
)
def test_a_key_is_taken_from_each_of_its_headers(
    issuer: KeyIssuer, authenticator: Authenticator, headers: dict[str, str]
) -> None:
    issued = issuer.create_key(ACME, [Scope.EVENTS_WRITE])

    caller = authenticator.authenticate(
        {name: text.replace("{key}", issued.text) for name, text in headers.items()}
    )

    assert caller == Caller(ACME, frozenset({Scope.EVENTS_WRITE}), issued.key.prefix)


def test_authorization_wins_over_x_api_key(issuer: KeyIssuer, authenticator: Authenticator) -> None:
    text = issuer.create_key(ACME).text

    answer = refused(authenticator, {"authorization": "Bearer sm_other.secret", "x-api-key": text})

    assert answer == (401, {"error": "Invalid API key"})


@pytest.mark.parametrize(
    ("headers", "error"),
    [
        ({}, "Missing API key"),
        ({"authorization": ""}, "Missing API key"),
        ({"authorization": "Bearer "}, "Missing API key"),
        ({"authorization": "Bearer sm_without_a_dot"}, "Invalid API key format"),
        ({"x-api-key": ".secret"}, "Invalid API key format"),
        ({"x-api-key": "sm_unknown.secret"}, "Invalid API key"),
        ({"x-api-key": "sm_\ud800.\ud800"}, "Invalid API key"),
    ],
)
def test_a_request_without_a_valid_key_is_refused_in_the_peers_words(
    authenticator: Authenticator, headers: dict[str, str], error: str
) -> None:
    assert refused(authenticator, headers) == (401, {"error": error})


def test_a_wrong_secret_is_refused_even_one_that_is_no_unicode(
    issuer: KeyIssuer, authenticator: Authenticator
) -> None:
    issued = issuer.create_key(ACME)

    for secret in ("", "x", issued.text.partition(".")[2][:-1], "\udc00"):
        answer = refused(authenticator, {"x-api-key": f"{issued.key.prefix}.{secret}"})
        assert answer == (401, {"error": "Invalid API key"})


def test_junk_is_refused_without_a_look_up(keys: HeldKeys, authenticator: Authenticator) -> None:
    for junk in ("x" * 5000 + ".y", "sm_.y", "sm_a b.y", "sm_ü.y"):
        refused(authenticator, {"x-api-key": junk})

    assert keys.asked == []


def test_an_expired_key_is_refused_from_its_end_on(
    issuer: KeyIssuer, authenticator: Authenticator, clock: SetClock
) -> None:
    text = issuer.create_key(ACME, expires_at=clock.now() + timedelta(hours=1)).text

    clock.advance(timedelta(minutes=59))
    assert authenticator.authenticate({"x-api-key": text}).tenant == ACME
    clock.advance(timedelta(minutes=1))
    assert refused(authenticator, {"x-api-key": text}) == (401, {"error": "Invalid API key"})


def test_the_secret_is_not_kept(issuer: KeyIssuer, keys: HeldKeys) -> None:
    issued = issuer.create_key(ACME)
    secret = issued.text.partition(".")[2]

    assert len(secret) == 32
    assert secret not in repr(keys.keys[issued.key.prefix])


def test_where_no_key_is_required_one_that_is_given_is_still_checked(
    keys: HeldKeys, clock: SetClock
) -> None:
    open_to_all = Authenticator(keys, clock, required=False)

    assert open_to_all.authenticate({}) == ANYONE
    assert refused(open_to_all, {"x-api-key": "sm_a.b"}) == (401, {"error": "Invalid API key"})


def test_any_one_of_a_routes_scopes_suffices_and_none_is_named_in_the_refusal() -> None:
    caller = Caller(ACME, frozenset({Scope.EVENTS_READ}))

    caller.require(Scope.PROJECT_READ, Scope.EVENTS_READ)
    with pytest.raises(AuthError) as raised:
        caller.require(Scope.PROJECT_WRITE, Scope.EVENTS_WRITE)

    assert raised.value.status == 403
    assert raised.value.body == {"error": "Require one of: project:write,events:write"}


@pytest.mark.parametrize("named", [["other"], ["acme", "other"], ["other", "acme"], [5], [""]])
def test_a_place_that_names_the_own_tenant_does_not_hide_one_that_names_another(
    named: list[object],
) -> None:
    caller = Caller(ACME, frozenset())

    with pytest.raises(AuthError) as raised:
        caller.tenant_among(named)
    assert (raised.value.status, raised.value.error) == (403, "Mismatched tenantId")

    with pytest.raises(AuthError, match=r"^Mismatched tenantId in events$"):
        caller.tenant_among(named, error=MISMATCHED_TENANT_IN_EVENTS)


def test_the_tenant_comes_from_the_key() -> None:
    assert Caller(ACME, frozenset()).tenant_among([None, "acme", None]) == ACME
    assert Caller(ACME, frozenset()).tenant_of_request([]) == ACME


def test_without_a_key_the_request_names_one_tenant() -> None:
    assert ANYONE.tenant_of_request([None, "acme", "acme"]) == ACME
    assert ANYONE.tenant_among([]) is None
    with pytest.raises(AuthError, match="Mismatched tenantId"):
        ANYONE.tenant_among(["acme", "other"])
    with pytest.raises(BadRequestError, match="tenantId: Required"):
        ANYONE.tenant_of_request([None])
