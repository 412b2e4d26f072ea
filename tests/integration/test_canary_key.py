"""The canary's key: made over the tables, kept in Secrets Manager, and no wider than it must be."""

from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from moto import mock_aws

from infra.operate import canary_key
from metering.auth import AuthError, Scope
from metering.canary import METRIC, TENANT
from metering.mapping import LatePolicy
from metering.names import Metric
from metering.wiring import Wiring


@pytest.fixture
def secrets() -> Iterator[Any]:
    with mock_aws():
        client = boto3.client("secretsmanager")
        client.create_secret(Name="stripemeter/dev/canary-key", SecretString="made by the stack")
        yield client


def test_the_canary_calls_with_a_key_that_can_do_nothing_else(secrets: Any, wiring: Wiring) -> None:
    prefix = canary_key.give("dev", wiring=wiring)

    kept = secrets.get_secret_value(SecretId=canary_key.secret_of("dev"))["SecretString"]
    caller = wiring.authenticator.authenticate({"authorization": f"Bearer {kept}"})
    assert (caller.tenant, caller.key_prefix) == (TENANT, prefix)
    assert caller.scopes == {Scope.EVENTS_WRITE, Scope.USAGE_READ, Scope.RECONCILIATION_READ}
    assert wiring.settings.metric(TENANT, Metric(METRIC)).late_policy is LatePolicy.COUNT
    assert TENANT in wiring.settings.tenants()


def test_a_second_key_takes_the_firsts_place_in_the_secret(secrets: Any, wiring: Wiring) -> None:
    first, second = (canary_key.give("dev", wiring=wiring) for _ in range(2))

    kept = secrets.get_secret_value(SecretId=canary_key.secret_of("dev"))["SecretString"]
    assert first != second
    assert kept.startswith(f"{second}.")


def test_before_it_has_a_key_the_canarys_secret_opens_nothing(secrets: Any, wiring: Wiring) -> None:
    made = secrets.get_secret_value(SecretId=canary_key.secret_of("dev"))["SecretString"]
    with pytest.raises(AuthError):
        wiring.authenticator.authenticate({"authorization": f"Bearer {made}"})
