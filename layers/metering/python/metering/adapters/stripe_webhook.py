"""What is set up for Stripe's webhooks: the secrets that sign them, and the world of our key.

The `stripe` SDK is not imported here, so that a function that needs none of it starts without it.
"""

import re
from datetime import timedelta

from metering.adapters import stripe_key
from metering.adapters.secret_store import read_secret
from metering.cache import ShortCache
from metering.config import Config
from metering.ports import Clock, SetupError
from metering.push import Mode

SECRETS_KEPT_FOR = timedelta(minutes=5)
"""A new secret is known after this at the latest; until then Stripe delivers again."""
PREFIX = "whsec_"
_BETWEEN = re.compile(r"[,\s]+")


class StripeWebhookSettings:
    """The `WebhookSettings` port, from the configuration or the secret that it names."""

    def __init__(self, config: Config, clock: Clock) -> None:
        self._config = config
        self._kept: ShortCache[str, tuple[str, ...]] = ShortCache(clock, SECRETS_KEPT_FOR)

    @property
    def mode(self) -> Mode:
        """See `WebhookSettings.mode`."""
        return stripe_key.mode_of(stripe_key.own_key(self._config).read())

    def secrets(self) -> tuple[str, ...]:
        """See `WebhookSettings.secrets`."""
        if self._config.stripe_webhook_secrets:
            return read_secrets(self._config.stripe_webhook_secrets, "STRIPE_WEBHOOK_SECRETS")
        name = self._config.stripe_webhook_secrets_name
        if not name:
            raise SetupError(
                "no webhook secret: set STRIPE_WEBHOOK_SECRETS_NAME (or STRIPE_WEBHOOK_SECRETS"
                " locally) to the signing secrets of the webhook endpoint at Stripe"
            )
        return self._kept.get(
            name,
            lambda: read_secrets(read_secret(name, "the webhook secrets"), f"the secret {name}"),
        )


def read_secrets(text: str, where: str) -> tuple[str, ...]:
    """The secrets of a list with commas or blanks in between.

    Raises:
        SetupError: there is none, or one that is no webhook secret; an empty secret would let
            everybody sign.
    """
    secrets = tuple(one for one in _BETWEEN.split(text) if one)
    if not secrets or not all(one.startswith(PREFIX) and one != PREFIX for one in secrets):
        raise SetupError(
            f"{where} must hold webhook signing secrets, separated by commas; each begins with"
            f" {PREFIX} (an endpoint's id or an API key is no secret of a webhook)"
        )
    return secrets
