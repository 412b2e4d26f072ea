"""The canary's tenant and API key: made by an operator, kept in Secrets Manager alone."""

import boto3

from infra.environment import CANARY_KEY, secret_name
from infra.operate.place import deployment_named
from metering.auth import Scope
from metering.canary import METRIC, TENANT
from metering.config import Config
from metering.mapping import LatePolicy, MetricSettings
from metering.names import Metric
from metering.wiring import Wiring

SCOPES = (Scope.EVENTS_WRITE, Scope.USAGE_READ, Scope.RECONCILIATION_READ)
"""All that a run calls; the key opens nothing else."""


def secret_of(env: str) -> str:
    """The secret that holds the key."""
    return secret_name(deployment_named(env), CANARY_KEY)


def give(env: str, *, wiring: Wiring | None = None) -> str:
    """Make a key and keep it; the prefix by which it is known.

    A former key is left as it is: whoever has stolen it can send the canary's events, and an
    operator can revoke it by its prefix.
    """
    wired = wiring or Wiring(Config(table_prefix=deployment_named(env).prefix))
    # Slots that were missed are sent a day later, and must count all the same.
    settings = MetricSettings(Metric(METRIC), late_policy=LatePolicy.COUNT)
    wired.settings_store.put_metric(TENANT, settings)
    issued = wired.key_issuer.create_key(TENANT, SCOPES, name="canary", created_by="operator")
    secrets = boto3.client("secretsmanager")
    secrets.put_secret_value(SecretId=secret_of(env), SecretString=issued.text)
    return issued.key.prefix
