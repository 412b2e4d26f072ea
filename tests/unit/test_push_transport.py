"""Which key may go where, and what the SDK's exceptions say about a push."""

from collections.abc import Callable

import pytest
import stripe

from metering.adapters.stripe_billing import make_billing
from metering.adapters.stripe_key import mode_of, own_key, shadow_key
from metering.adapters.stripe_meter_events import answer_of
from metering.config import Config
from metering.delivery import (
    AlreadyExists,
    Answer,
    InFlight,
    KeyReused,
    NotAllowed,
    OutcomeUnknown,
    RateLimited,
    Refused,
    ServerError,
)
from metering.ports import SetupError
from metering.push import Mode
from tests.builders import A_METER_EVENT

LOOPBACK = "http://127.0.0.1:12111"
EXISTS = "An event already exists with identifier {}."


@pytest.mark.parametrize("prefix", ["sk", "rk"])
def test_the_mode_is_the_keys(prefix: str) -> None:
    assert mode_of(f"{prefix}_live_x") is Mode.LIVE
    assert mode_of(f"{prefix}_test_x") is Mode.TEST


@pytest.mark.parametrize("key", ["pk_test_x", "whsec_x", "", "sk_tes"])
def test_what_is_no_secret_key_is_refused(key: str) -> None:
    with pytest.raises(SetupError):
        mode_of(key)


@pytest.mark.parametrize("base", [LOOPBACK, "https://stripe.example.com"])
def test_a_live_key_is_only_ever_sent_to_stripe(base: str) -> None:
    config = Config(stripe_secret_key="sk_live_x", stripe_api_base=base)

    with pytest.raises(SetupError, match="only ever sent to Stripe"):
        own_key(config).read()


def test_a_key_is_not_sent_unencrypted_but_on_loopback() -> None:
    for allowed in (LOOPBACK, "http://localhost:1", "http://[::1]:1", "https://elsewhere"):
        own_key(Config(stripe_secret_key="sk_test_x", stripe_api_base=allowed)).read()
    with pytest.raises(SetupError, match="https"):
        own_key(Config(stripe_secret_key="sk_test_x", stripe_api_base="http://10.0.0.1")).read()


def test_a_key_never_shows_in_a_text_of_ours() -> None:
    assert "sk_test_secret" not in repr(own_key(Config(stripe_secret_key="sk_test_secret")))


def test_a_live_key_is_never_taken_for_the_shadow() -> None:
    key = shadow_key(Config(stripe_shadow_secret_key="sk_live_x"))

    with pytest.raises(SetupError, match="a test key of Stripe's is needed, and a live one is set"):
        key.read()


def test_the_shadow_never_falls_back_on_the_own_key() -> None:
    key = shadow_key(Config(stripe_secret_key="sk_test_x"))

    assert not key.is_set
    with pytest.raises(SetupError, match="STRIPE_SHADOW_SECRET_NAME"):
        key.read()


def test_without_a_key_the_mode_says_what_to_set() -> None:
    with pytest.raises(SetupError, match="STRIPE_SECRET_NAME"):
        _ = make_billing(Config()).mode


def test_without_a_key_a_push_is_not_allowed() -> None:
    assert isinstance(make_billing(Config()).send(A_METER_EVENT), NotAllowed)


def test_every_address_of_the_sdk_is_the_given_one() -> None:
    billing = make_billing(Config(stripe_secret_key="sk_test_x", stripe_api_base=LOOPBACK + "/"))

    requestor = billing._connection.client._requestor

    assert dict(requestor.base_addresses) == dict.fromkeys(
        ("api", "connect", "files", "meter_events"), LOOPBACK
    )
    assert requestor._options.max_network_retries == 0


# The SDK leaves these two untyped.
unreachable: Callable[..., stripe.StripeError] = stripe.APIConnectionError
invalid: Callable[..., stripe.StripeError] = stripe.InvalidRequestError


def body(**error: str) -> dict[str, object]:
    return {"error": error}


@pytest.mark.parametrize(
    ("error", "answer"),
    [
        (unreachable("reset"), OutcomeUnknown("no answer: reset")),
        (
            stripe.RateLimitError(
                "slow", None, 429, None, {"Stripe-Rate-Limited-Reason": "global-rate"}
            ),
            RateLimited("global-rate"),
        ),
        (stripe.RateLimitError("lock", None, 429), RateLimited("lock_timeout")),
        (stripe.IdempotencyError("other parameters", None, 400), KeyReused("other parameters")),
        (stripe.AuthenticationError("Invalid", None, 401), NotAllowed("401: Invalid")),
        (stripe.PermissionError("scope", None, 403), NotAllowed("403: scope")),
        (stripe.APIError("busy", None, 409), InFlight()),
        (stripe.APIError("oops", None, 500), ServerError("oops")),
        (stripe.APIError("down", None, 503), OutcomeUnknown("503: down")),
        (stripe.APIError("no JSON", None, 200), OutcomeUnknown("200: no JSON")),
        (
            invalid(EXISTS.format("u1.abc.1"), None, None, None, 400),
            AlreadyExists(EXISTS.format("u1.abc.1")),
        ),
        (
            invalid(EXISTS.format("u1.abc.2"), None, None, None, 400),
            Refused("", EXISTS.format("u1.abc.2")),
        ),
        (
            invalid("dup", None, "duplicate_meter_event", None, 400),
            AlreadyExists("dup"),
        ),
        (
            invalid("No such customer", None, "resource_missing", None, 404),
            Refused("resource_missing", "No such customer"),
        ),
        (
            invalid("no meter", None, None, None, 400, body(code="no_meter")),
            Refused("no_meter", "no meter"),
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, stripe.StripeError) else "",
)
def test_each_error_of_the_sdk_is_one_kind_of_answer(
    error: stripe.StripeError, answer: Answer
) -> None:
    assert answer_of(error, A_METER_EVENT.identifier) == answer
