"""`stripemeter tenant`: an operator makes tenants and their keys in a deployment's tables."""

import pytest
from botocore.exceptions import NoCredentialsError
from typer.testing import CliRunner, Result

from infra.deployments import DEV
from infra.operate.cli import main
from infra.operate.tenants import TenantError, wiring_of
from local import dynamodb_local
from metering.auth import DEFAULT_SCOPES
from metering.names import TenantId
from metering.rate_limit import TenantLimits
from metering.stripe_claims import name_of
from metering.wiring import Wiring


@pytest.fixture
def deployed(dynamodb_endpoint: str) -> Wiring:
    """The tables of `dev`, which its other tests in this process share."""
    client = dynamodb_local.client(dynamodb_endpoint)
    dynamodb_local.create_tables(client, prefix=DEV.prefix)
    with wiring_of("dev", dynamodb_endpoint) as wiring:
        return wiring


def run(deployed: Wiring, *words: str) -> Result:
    endpoint = deployed.config.dynamodb_endpoint
    arguments = ["tenant", *words, "--env", "dev"]
    return CliRunner().invoke(main, arguments, env={"DYNAMODB_ENDPOINT": endpoint})


def test_a_new_tenant_gets_a_key_that_is_shown_once(deployed: Wiring) -> None:
    result = run(deployed, "create", "shop")

    assert result.exit_code == 0
    text = result.stdout.strip()  # the key alone, fit for a variable of the shell
    caller = deployed.authenticator.authenticate({"authorization": f"Bearer {text}"})
    assert (caller.tenant, caller.scopes) == ("shop", DEFAULT_SCOPES)
    assert "First key of tenant shop in dev" in result.stderr
    assert text not in result.stderr


def test_a_tenant_that_exists_is_left_as_it_is(deployed: Wiring) -> None:
    first = run(deployed, "create", "twice").stdout.strip()

    again = run(deployed, "create", "twice")

    assert (again.exit_code, again.stdout) == (1, "")
    assert "the tenant twice exists, and nothing was changed; --again gives" in again.stderr
    (key,) = deployed.api_keys.listed(TenantId("twice"), None, 100)
    assert first.startswith(key.prefix)


def test_again_gives_a_further_key_and_makes_no_tenant(deployed: Wiring) -> None:
    run(deployed, "create", "more")

    further = run(deployed, "create", "more", "--again")
    unknown = run(deployed, "create", "typo", "--again")

    assert further.exit_code == 0
    assert len(deployed.api_keys.listed(TenantId("more"), None, 100)) == 2
    assert unknown.exit_code == 1
    assert "there is no tenant typo" in unknown.stderr
    assert TenantId("typo") not in deployed.settings.tenants()


def test_a_tenant_is_named_as_events_may_name_it(deployed: Wiring) -> None:
    result = run(deployed, "create", "a\nb")

    assert result.exit_code == 1
    assert "is no name for a tenant" in result.stderr


def test_keys_are_listed_and_revoked_without_any_of_them(deployed: Wiring) -> None:
    text = run(deployed, "create", "lost").stdout.strip()
    key_id, _, secret = text.partition(".")

    before = run(deployed, "keys", "lost")
    revoked = run(deployed, "revoke", key_id)
    after = run(deployed, "keys", "lost")

    assert before.stdout.startswith(f"{key_id}  active")
    assert secret not in before.stdout
    assert revoked.exit_code == 0
    assert after.stdout.startswith(f"{key_id}  ended")
    assert run(deployed, "revoke", "sm_000000000000").exit_code == 1


def test_a_tenants_limits_are_set_and_taken_back(deployed: Wiring) -> None:
    run(deployed, "create", "busy")
    rates = deployed.tenant_rates

    assert run(deployed, "limit", "busy", "--events-a-second", "500").exit_code == 0
    assert rates.limits(TenantId("busy")) == TenantLimits(events_a_second=500)
    assert (
        "requests a second: no limit"
        in run(deployed, "limit", "busy", "--requests-a-second", "0").stdout
    )
    assert rates.limits(TenantId("busy")) == TenantLimits(requests_a_second=0)
    assert run(deployed, "limit", "busi", "--events-a-second", "5").exit_code == 1


def test_what_a_tenant_has_at_stripe_is_released(deployed: Wiring) -> None:
    claims, clock = deployed.stripe_claims, deployed.clock
    names = [name_of("price_9"), name_of("calls", "acct_9")]
    claims.take(TenantId("shop"), names, clock.now())

    assert "price_9 was shop's" in run(deployed, "release", "price_9").stdout
    assert run(deployed, "release", "calls", "--account", "acct_9").exit_code == 0
    assert "no tenant has price_9" in run(deployed, "release", "price_9").stderr
    claims.take(TenantId("other"), names, clock.now())


def test_a_deployment_that_is_not_there_is_said_to_be_deployed_first(
    dynamodb_endpoint: str,
) -> None:
    arguments = ["tenant", "create", "acme", "--env", "prod", "--endpoint", dynamodb_endpoint]

    result = CliRunner().invoke(main, arguments)

    assert result.exit_code == 1
    assert "no table stripemeter-prod-settings" in result.stderr
    assert "make deploy ENV=prod" in result.stderr


def test_an_operator_without_credentials_is_told_what_to_set() -> None:
    with pytest.raises(TenantError, match="AWS_PROFILE"), wiring_of("dev"):
        raise NoCredentialsError


def test_a_deployment_that_nobody_describes_is_refused(dynamodb_endpoint: str) -> None:
    arguments = ["tenant", "keys", "acme", "--env", "nowhere", "--endpoint", dynamodb_endpoint]

    result = CliRunner().invoke(main, arguments)

    assert result.exit_code == 1
    assert "nowhere" in result.stderr
