"""Tenants as their operator sees them: made with their first key, limited, looked after.

Everything goes into the deployment's tables with the operator's own AWS credentials, through the
same wiring as the functions': no route of the API makes a tenant.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, NoRegionError

from infra.operate.place import deployment_named
from metering import sent_event
from metering.auth import DEFAULT_SCOPES, IssuedKey, KeyRecord
from metering.config import Config
from metering.errors import ConflictError, RetryableError
from metering.names import TenantId
from metering.rate_limit import TenantLimits
from metering.stripe_claims import name_of
from metering.wiring import Wiring

BY = "operator"
_PAGE = 100


class TenantError(Exception):
    """What was asked cannot be done; the message says what to do instead."""


@contextmanager
def wiring_of(env: str, endpoint: str | None = None) -> Iterator[Wiring]:
    """A deployment's objects, with AWS's troubles in an operator's words.

    Raises:
        UnknownDeploymentError: there is no such deployment.
        TenantError: its tables are not there or do not answer.
    """
    prefix = deployment_named(env).prefix
    config = Config(table_prefix=prefix, dynamodb_endpoint=endpoint, settings_cache_s=0)
    with in_words(env):
        yield Wiring(config)


@contextmanager
def in_words(env: str) -> Iterator[None]:
    """AWS's troubles with a deployment, in an operator's words.

    Raises:
        UnknownDeploymentError: there is no such deployment.
        TenantError: what was asked for is not there or does not answer.
    """
    prefix = deployment_named(env).prefix
    try:
        yield
    except (NoCredentialsError, NoRegionError) as missing:
        raise TenantError(f"{missing} Set AWS_PROFILE and AWS_REGION, or log in.") from None
    except ClientError as error:
        if error.response["Error"].get("Code") != "ResourceNotFoundException":
            raise TenantError(f"AWS refused: {error}") from None
        raise TenantError(
            f"there is no table {prefix}settings in this account and region, or no secret of"
            f" {env}: deploy first (make deploy ENV={env}), or look at AWS_PROFILE and AWS_REGION"
        ) from None
    except (BotoCoreError, RetryableError) as error:
        raise TenantError(f"{error}; try again") from None


def create(wiring: Wiring, name: str, *, again: bool = False) -> IssuedKey:
    """A new tenant and its first key, or with `again` a further key of one that exists.

    Both are written in one transaction; a tenant that exists is never touched.

    Raises:
        TenantError: it exists, with `again` it does not, or no tenant can have this name.
    """
    tenant = _named(name)
    if again:
        _known(wiring, tenant)
    try:
        return wiring.key_issuer.create_key(
            tenant,
            DEFAULT_SCOPES,
            name="further key" if again else "first key",
            created_by=BY,
            opens_tenant=not again,
        )
    except ConflictError:
        raise TenantError(
            f"the tenant {name} exists, and nothing was changed; --again gives it a further key"
        ) from None


def keys(wiring: Wiring, name: str) -> list[KeyRecord]:
    """All API keys of a tenant, ended ones too.

    Raises:
        TenantError: there is no such tenant.
    """
    tenant = _named(name)
    _known(wiring, tenant)
    found: list[KeyRecord] = []
    while page := wiring.api_keys.listed(tenant, found[-1].prefix if found else None, _PAGE):
        found += page
    return found


def revoke(wiring: Wiring, key_id: str) -> KeyRecord:
    """End any tenant's key now; it is refused everywhere within the settings cache.

    Raises:
        TenantError: there is no such key.
    """
    key = wiring.api_keys.stored(key_id)
    if key is None:
        raise TenantError(f"there is no API key {key_id}")
    wiring.api_keys.revoke(key, wiring.clock.now())
    return key


def limit(wiring: Wiring, name: str, limits: TenantLimits) -> None:
    """Let a tenant send so much, in place of what was set before.

    Raises:
        TenantError: there is no such tenant.
    """
    tenant = _named(name)
    _known(wiring, tenant)
    wiring.tenant_rates.put_limits(tenant, limits)


def release(wiring: Wiring, text: str, account: str = "") -> TenantId:
    """Let another tenant name an object at Stripe, by its id or a meter's event name.

    The mappings and customers of the one it was are as they were: change those first.

    Raises:
        TenantError: no tenant has it.
    """
    owner = wiring.stripe_claims.release(name_of(text, account))
    if owner is None:
        raise TenantError(f"no tenant has {text} at Stripe")
    return owner


def _named(name: str) -> TenantId:
    try:
        return sent_event.tenant_named(name)
    except ValueError as error:
        raise TenantError(f"{name!r} is no name for a tenant: {error}") from None


def _known(wiring: Wiring, tenant: TenantId) -> None:
    if tenant not in wiring.settings.tenants():
        raise TenantError(f"there is no tenant {tenant}; `tenant create {tenant}` makes it")
