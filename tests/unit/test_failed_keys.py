"""Who guesses API keys is made to wait, and nobody else is (W21 of the peer's mistakes)."""

from datetime import timedelta

import pytest

from metering.auth import ApiKey, Authenticator, AuthError, KeyIssuer
from metering.errors import RateLimitedError
from metering.failed_keys import ADDRESSES_MAX, FailedKeys
from metering.names import TenantId
from tests.conftest import SetClock
from tests.unit.test_auth import HeldKeys

ACME = TenantId("acme")
GUESSER, CALLER = "203.0.113.7", "198.51.100.4"
LIMIT = 20


@pytest.fixture
def keys() -> HeldKeys:
    return HeldKeys()


@pytest.fixture
def text(keys: HeldKeys, clock: SetClock) -> str:
    """A valid key."""
    return KeyIssuer(keys, clock, lambda size: b"\7" * size).create_key(ACME).text


@pytest.fixture
def authenticator(keys: HeldKeys, clock: SetClock) -> Authenticator:
    return Authenticator(keys, clock, failures=FailedKeys(LIMIT))


def guess(authenticator: Authenticator, count: int, source: str = GUESSER) -> list[int]:
    """The answers to so many guesses, each of another key."""
    answers = []
    for number in range(count):
        try:
            authenticator.authenticate({"x-api-key": f"sm_{number:012}.x"}, source)
        except AuthError as refused:
            answers.append(refused.status)
        except RateLimitedError:
            answers.append(429)
    return answers


def test_w21_a_guesser_is_stopped_and_costs_no_further_look_up(
    authenticator: Authenticator, keys: HeldKeys
) -> None:
    assert guess(authenticator, 1000) == [401] * LIMIT + [429] * (1000 - LIMIT)
    assert len(keys.asked) == LIMIT


def test_junk_that_is_no_key_counts_too(authenticator: Authenticator) -> None:
    for _ in range(LIMIT):
        with pytest.raises(AuthError, match="Invalid API key format"):
            authenticator.authenticate({"x-api-key": "junk"}, GUESSER)

    with pytest.raises(RateLimitedError):
        authenticator.authenticate({"x-api-key": "sm_000000000000.x"}, GUESSER)


def test_an_address_gets_its_attempts_back_one_by_one(
    authenticator: Authenticator, clock: SetClock
) -> None:
    guess(authenticator, 100)

    with pytest.raises(RateLimitedError) as refused:
        authenticator.authenticate({"x-api-key": "sm_000000000000.x"}, GUESSER)
    assert refused.value.retry_after_s == 3  # 20 a minute
    clock.advance(timedelta(seconds=3))

    assert guess(authenticator, 3) == [401, 429, 429]
    clock.advance(timedelta(hours=1))
    assert guess(authenticator, LIMIT + 1) == [401] * LIMIT + [429]


def test_others_are_served_meanwhile(authenticator: Authenticator, text: str) -> None:
    guess(authenticator, 100)

    assert authenticator.authenticate({"x-api-key": text}, CALLER).tenant == ACME


def test_a_key_that_was_valid_here_is_served_from_a_guessers_address(
    authenticator: Authenticator, text: str
) -> None:
    """Whoever shares a router with a guesser must not be locked out."""
    authenticator.authenticate({"x-api-key": text}, CALLER)
    guess(authenticator, 100)

    assert authenticator.authenticate({"x-api-key": text}, GUESSER).tenant == ACME


def test_no_header_says_where_a_request_comes_from(
    authenticator: Authenticator, keys: HeldKeys
) -> None:
    """The peer trusted `X-Forwarded-For` from anyone."""
    for number in range(100):
        headers = {"x-api-key": f"sm_{number:012}.x", "x-forwarded-for": f"10.0.0.{number}"}
        with pytest.raises((AuthError, RateLimitedError)):
            authenticator.authenticate(headers, GUESSER)

    assert len(keys.asked) == LIMIT


def test_whoever_has_half_of_an_ipv6_address_has_one_address(
    authenticator: Authenticator,
) -> None:
    answers = [
        status
        for number in range(LIMIT + 5)
        for status in guess(authenticator, 1, f"2001:db8:1:2::{number:x}")
    ]

    assert answers == [401] * LIMIT + [429] * 5
    assert guess(authenticator, 1, "2001:db8:1:3::1") == [401]


def test_ipv4_addresses_written_as_ipv6_ones_stay_apart(authenticator: Authenticator) -> None:
    guess(authenticator, LIMIT + 1, "::ffff:203.0.113.7")

    assert guess(authenticator, 1, "203.0.113.7") == [429]
    assert guess(authenticator, 1, "::ffff:198.51.100.4") == [401]


def test_a_missing_key_is_no_attempt(authenticator: Authenticator) -> None:
    for _ in range(100):
        with pytest.raises(AuthError, match="Missing API key"):
            authenticator.authenticate({}, GUESSER)

    assert guess(authenticator, 1) == [401]


def test_addresses_cannot_fill_the_memory(clock: SetClock) -> None:
    failures = FailedKeys(LIMIT)

    for number in range(ADDRESSES_MAX + 10):
        failures.note(f"address {number}", clock.now())

    assert len(failures._buckets) == ADDRESSES_MAX


def test_no_limit_notes_nothing(clock: SetClock, keys: HeldKeys) -> None:
    open_to_guesses = Authenticator(keys, clock, failures=FailedKeys(0))

    assert guess(open_to_guesses, 200) == [401] * 200


def test_a_revoked_key_that_goes_on_calling_is_refused_and_never_waited_for(
    authenticator: Authenticator, keys: HeldKeys, text: str, clock: SetClock
) -> None:
    authenticator.authenticate({"x-api-key": text}, GUESSER)
    prefix = text.partition(".")[0]
    found: ApiKey = keys.keys[prefix]
    keys.keys[prefix] = ApiKey(
        prefix=prefix,
        tenant=ACME,
        scopes=found.scopes,
        secret_sha256=found.secret_sha256,
        created_at=found.created_at,
        revoked_at=clock.now(),
    )

    for _ in range(LIMIT * 2):
        with pytest.raises(AuthError, match="Invalid API key"):
            authenticator.authenticate({"x-api-key": text}, GUESSER)
    assert guess(authenticator, 1) == [429]
