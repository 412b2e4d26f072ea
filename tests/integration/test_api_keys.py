"""API keys in DynamoDB Local, through the wiring."""

from dataclasses import replace
from datetime import timedelta

import pytest

from metering.auth import AuthError, Scope
from metering.errors import ConflictError
from metering.names import TenantId
from metering.wiring import Wiring
from tests.conftest import SetClock

ACME = TenantId("acme")


def cached_for(wiring: Wiring, seconds: float) -> Wiring:
    return Wiring(
        replace(wiring.config, settings_cache_s=seconds, auth=True),
        clock=wiring.clock,
        dynamodb=wiring.dynamodb,
    )


def test_a_new_key_opens_its_tenant_with_its_scopes(wiring: Wiring) -> None:
    issued = wiring.key_issuer.create_key(ACME, [Scope.EVENTS_WRITE, Scope.USAGE_READ])

    caller = wiring.authenticator.authenticate({"authorization": f"Bearer {issued.text}"})

    assert caller.tenant == ACME
    assert caller.scopes == {Scope.EVENTS_WRITE, Scope.USAGE_READ}


def test_a_key_comes_back_as_it_was_kept(wiring: Wiring, clock: SetClock) -> None:
    issued = wiring.key_issuer.create_key(ACME, expires_at=clock.now() + timedelta(days=1))

    assert wiring.api_keys.find(issued.key.prefix) == issued.key


def test_nothing_in_the_table_holds_the_secret(wiring: Wiring) -> None:
    secret = wiring.key_issuer.create_key(ACME).text.partition(".")[2]

    items = wiring.dynamodb.scan(TableName=wiring.config.table_prefix + "settings")["Items"]

    assert len(items) == 3
    assert secret not in repr(items)


def test_a_prefix_is_never_given_twice(wiring: Wiring) -> None:
    key = wiring.key_issuer.create_key(ACME).key

    with pytest.raises(ConflictError, match="exists"):
        wiring.api_keys.add(replace(key, tenant=TenantId("other")))

    assert wiring.api_keys.find(key.prefix) == key


def test_a_revoked_key_is_refused_here_at_once_and_elsewhere_when_the_cache_ends(
    wiring: Wiring, clock: SetClock
) -> None:
    here, elsewhere = cached_for(wiring, 30), cached_for(wiring, 30)
    issued = here.key_issuer.create_key(ACME)
    headers = {"x-api-key": issued.text}
    here.authenticator.authenticate(headers)
    elsewhere.authenticator.authenticate(headers)

    here.api_keys.revoke(issued.key, clock.now())

    with pytest.raises(AuthError, match="Invalid API key"):
        here.authenticator.authenticate(headers)
    elsewhere.authenticator.authenticate(headers)
    clock.advance(timedelta(seconds=30))
    with pytest.raises(AuthError, match="Invalid API key"):
        elsewhere.authenticator.authenticate(headers)


def test_an_unknown_prefix_is_looked_up_once_while_the_cache_lasts(wiring: Wiring) -> None:
    cached = cached_for(wiring, 30)
    issued = wiring.key_issuer.create_key(ACME)
    prefix = "sm_000000000000"
    assert cached.api_keys.find(prefix) is None

    wiring.api_keys.add(replace(issued.key, prefix=prefix))

    assert cached.api_keys.find(prefix) is None
