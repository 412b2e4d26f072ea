"""Where the webhooks' secrets come from: AWS Secrets Manager, asked anew every few minutes."""

from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from moto import mock_aws

from metering.adapters import aws
from metering.adapters.stripe_key import forget_secret, own_key
from metering.adapters.stripe_webhook import SECRETS_KEPT_FOR, StripeWebhookSettings
from metering.config import SECRET_NOT_SET, Config
from metering.errors import RetryableError
from metering.ports import SetupError
from metering.push import Mode
from tests.conftest import SetClock
from tests.faults import throttled

NAME = "stripemeter/webhook"
CONFIG = Config(stripe_webhook_secrets_name=NAME, stripe_secret_key="rk_live_x")


@pytest.fixture
def secrets_manager() -> Iterator[Any]:
    with mock_aws():
        client = boto3.client("secretsmanager")
        client.create_secret(Name=NAME, SecretString="whsec_old")
        yield client


def test_a_new_secret_is_known_after_five_minutes(secrets_manager: Any, clock: SetClock) -> None:
    settings = StripeWebhookSettings(CONFIG, clock)
    assert settings.secrets() == ("whsec_old",)

    secrets_manager.put_secret_value(SecretId=NAME, SecretString="whsec_new,\n whsec_old\n")

    assert settings.secrets() == ("whsec_old",)
    clock.advance(SECRETS_KEPT_FOR)
    assert settings.secrets() == ("whsec_new", "whsec_old")


def test_a_secret_that_is_not_there_is_a_matter_of_set_up(
    secrets_manager: Any, clock: SetClock
) -> None:
    config = Config(stripe_webhook_secrets_name="nowhere")

    with pytest.raises(SetupError, match="nowhere"):
        StripeWebhookSettings(config, clock).secrets()


def test_a_secret_that_holds_something_else_is_a_matter_of_set_up(
    secrets_manager: Any, clock: SetClock
) -> None:
    secrets_manager.put_secret_value(SecretId=NAME, SecretString='{"webhook": "whsec_a"}')

    with pytest.raises(SetupError, match=NAME):
        StripeWebhookSettings(CONFIG, clock).secrets()


def test_secrets_manager_out_of_reach_is_for_later(
    clock: SetClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Down:
        def get_secret_value(self, **_: str) -> Any:
            raise throttled()

    monkeypatch.setattr(aws, "client", lambda _: Down())

    with pytest.raises(RetryableError, match="Secrets Manager"):
        StripeWebhookSettings(CONFIG, clock).secrets()


def test_the_world_is_that_of_the_key(clock: SetClock) -> None:
    assert StripeWebhookSettings(CONFIG, clock).mode is Mode.LIVE


def test_a_key_that_nobody_has_put_in_yet_is_missed_until_it_is_there(
    secrets_manager: Any,
) -> None:
    name = "stripemeter/prod/stripe-key"
    secrets_manager.create_secret(Name=name, SecretString=SECRET_NOT_SET)
    key = own_key(Config(stripe_secret_name=name))
    with pytest.raises(SetupError, match=f"put-secret-value --secret-id {name} --secret-string"):
        key.read()

    secrets_manager.put_secret_value(SecretId=name, SecretString="rk_test_1")

    assert key.read() == "rk_test_1"
    forget_secret()


def test_the_placeholder_is_no_webhook_secret(secrets_manager: Any, clock: SetClock) -> None:
    secrets_manager.put_secret_value(SecretId=NAME, SecretString=SECRET_NOT_SET)

    with pytest.raises(SetupError, match=f"{NAME} must hold webhook signing secrets"):
        StripeWebhookSettings(CONFIG, clock).secrets()
