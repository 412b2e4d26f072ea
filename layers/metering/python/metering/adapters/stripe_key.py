"""Stripe's secret key: where it comes from, and which servers it may be sent to."""

from functools import cache
from ipaddress import ip_address
from urllib.parse import urlsplit

import boto3

from metering.config import Config
from metering.ports import SetupError
from metering.push import Mode

_MODES = {
    "sk_live_": Mode.LIVE,
    "rk_live_": Mode.LIVE,
    "sk_test_": Mode.TEST,
    "rk_test_": Mode.TEST,
}
_PREFIX_LENGTH = 8


def read_key(config: Config) -> str:
    """The deployment's key, from its settings or its secret.

    Raises:
        SetupError: neither is set, or the key must not go where the configuration points.
    """
    if config.stripe_secret_key:
        key = config.stripe_secret_key
    elif config.stripe_secret_name:
        key = _secret(config.stripe_secret_name)
    else:
        raise SetupError("no Stripe key: set STRIPE_SECRET_NAME (or STRIPE_SECRET_KEY locally)")
    _check_destination(key, config.stripe_api_base)
    return key


def mode_of(key: str) -> Mode:
    """The world that a key opens.

    Raises:
        SetupError: it is not a secret or restricted key of Stripe's.
    """
    mode = _MODES.get(key[:_PREFIX_LENGTH])
    if mode is None:
        raise SetupError("the Stripe key must begin with sk_live_, rk_live_, sk_test_ or rk_test_")
    return mode


def _check_destination(key: str, api_base: str | None) -> None:
    if api_base is None:
        mode_of(key)
        return
    if mode_of(key) is Mode.LIVE:
        raise SetupError(
            f"a live Stripe key is only ever sent to Stripe, and STRIPE_API_BASE is {api_base};"
            " use a test key, or unset STRIPE_API_BASE"
        )
    address = urlsplit(api_base)
    if address.scheme != "https" and not _is_loopback(address.hostname or ""):
        raise SetupError(f"STRIPE_API_BASE must be https, or on loopback, not {api_base}")


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


@cache
def _secret(name: str) -> str:
    secrets = boto3.client("secretsmanager")
    return str(secrets.get_secret_value(SecretId=name)["SecretString"]).strip()


def forget_secret() -> None:
    """Read the secret anew next time: it may have been rotated."""
    _secret.cache_clear()
