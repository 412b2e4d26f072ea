"""Stripe's secret keys: where they come from, which world they open, and where they may be sent."""

from dataclasses import dataclass, field
from functools import cache
from ipaddress import ip_address
from urllib.parse import urlsplit

from metering.adapters.secret_store import read_secret
from metering.config import SECRET_NOT_SET, Config
from metering.ports import SetupError
from metering.push import Mode

_MODES = {
    "sk_live_": Mode.LIVE,
    "rk_live_": Mode.LIVE,
    "sk_test_": Mode.TEST,
    "rk_test_": Mode.TEST,
}
_PREFIX_LENGTH = 8


@dataclass(frozen=True, slots=True)
class StripeKey:
    """Where one key comes from and where it may go; it never appears in a text of ours."""

    missing: str
    """What to tell an operator when neither of the next two is set."""
    text: str = field(default="", repr=False)
    secret_name: str = ""
    """Of AWS Secrets Manager; asked only without a text."""
    api_base: str | None = None
    """None is Stripe's own."""
    only: Mode | None = None
    """The one world that it may open; None takes both."""

    @property
    def is_set(self) -> bool:
        """Whether anybody said where it comes from."""
        return bool(self.text or self.secret_name)

    def read(self) -> str:
        """The key itself.

        Raises:
            SetupError: it is not set, opens another world, or must not go where it would be sent.
        """
        if not self.is_set:
            raise SetupError(self.missing)
        key = self.text or _secret(self.secret_name)
        if key == SECRET_NOT_SET:
            forget_secret()
            raise SetupError(
                f"the secret {self.secret_name} is not set yet: put Stripe's key in with `aws"
                f" secretsmanager put-secret-value --secret-id {self.secret_name} --secret-string"
                " rk_...`"
            )
        mode = mode_of(key)
        if self.only not in {None, mode}:
            raise SetupError(
                f"here a {self.only} key of Stripe's is needed, and a {mode} one is set"
            )
        _check_destination(mode, self.api_base)
        return key


def own_key(config: Config) -> StripeKey:
    """The deployment's key."""
    return StripeKey(
        "no Stripe key: set STRIPE_SECRET_NAME (or STRIPE_SECRET_KEY locally)",
        config.stripe_secret_key or "",
        config.stripe_secret_name or "",
        config.stripe_api_base,
    )


def shadow_key(config: Config) -> StripeKey:
    """The key of the test account that hears the same in parallel; a live one is never taken."""
    return StripeKey(
        "no Stripe key for shadow pushes: set STRIPE_SHADOW_SECRET_NAME"
        " (or STRIPE_SHADOW_SECRET_KEY locally)",
        config.stripe_shadow_secret_key or "",
        config.stripe_shadow_secret_name or "",
        config.stripe_api_base,
        only=Mode.TEST,
    )


def mode_of(key: str) -> Mode:
    """The world that a key opens.

    Raises:
        SetupError: it is not a secret or restricted key of Stripe's.
    """
    mode = _MODES.get(key[:_PREFIX_LENGTH])
    if mode is None:
        raise SetupError("the Stripe key must begin with sk_live_, rk_live_, sk_test_ or rk_test_")
    return mode


def _check_destination(mode: Mode, api_base: str | None) -> None:
    if api_base is None:
        return
    if mode is Mode.LIVE:
        raise SetupError(
            f"a live Stripe key is only ever sent to Stripe, and STRIPE_API_BASE is {api_base};"
            " use a test key, or unset STRIPE_API_BASE"
        )
    address = urlsplit(api_base)
    if address.scheme != "https" and not is_loopback(address.hostname or ""):
        raise SetupError(f"STRIPE_API_BASE must be https, or on loopback, not {api_base}")


def is_loopback(host: str) -> bool:
    """Whether what is sent to this host stays on this machine."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


@cache
def _secret(name: str) -> str:
    return read_secret(name, "the Stripe key")


def forget_secret() -> None:
    """Read the secret anew next time: it may have been rotated."""
    _secret.cache_clear()
