"""Stripe's webhooks: whose they are, and the notices that they come to.

A webhook is taken at its word only that something happened: it is kept as a notice, and whoever
acts on the notice reads the object anew. So all that counts here is that it truly is Stripe's, that
each event is kept once, and that it is kept before Stripe is told that it arrived.

Source: Stripe, "Receive Stripe events in your webhook endpoint", the manual verification of
signatures. The SDK's own verification lets timestamps of the future pass and asks the machine's
clock; here both ends of the tolerance are held, by our Clock.
"""

import hmac
import json
import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple

from metering.errors import BadRequestError
from metering.notice import Notice
from metering.push import Mode
from metering.stripe_event import NotAnEventError, read_event

if TYPE_CHECKING:
    from metering.ports import Clock, Notices, WebhookSettings

TOLERANCE = timedelta(seconds=300)
"""How far from now a webhook may have been signed, either way."""
_TIMESTAMP = re.compile(r"\d{1,11}", re.ASCII)


class WebhookOutcome(StrEnum):
    """What became of a webhook that was taken."""

    KEPT = "kept"
    REPEATED = "repeated"
    """Kept before: Stripe delivers at least once."""
    UNKNOWN_TYPE = "unknown_type"
    OTHER_MODE = "other_mode"
    """Of Stripe's other world, live or test, than our key opens."""


class Reason(StrEnum):
    """Why a webhook was refused."""

    NO_SIGNATURE = "no_signature"
    MALFORMED_SIGNATURE = "malformed_signature"
    WRONG_SECRET = "wrong_secret"  # noqa: S105 (a reason, no secret)
    TOO_OLD = "too_old"
    FROM_FUTURE = "from_future"
    NOT_AN_EVENT = "not_an_event"


class WebhookRefusedError(BadRequestError):
    """A webhook that is not taken; HTTP 400, and nothing of it is kept."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Taken(NamedTuple):
    """A webhook that was taken, and what became of it."""

    outcome: WebhookOutcome
    notice: Notice | None = None
    """None for an event of a type that matters nothing here."""


class Webhook:
    """Takes Stripe's events and keeps those that matter as notices."""

    def __init__(self, notices: "Notices", settings: "WebhookSettings", clock: "Clock") -> None:
        self._notices = notices
        self._settings = settings
        self._clock = clock

    def take(self, body: bytes, signature: str) -> Taken:
        """Take an event that came over HTTPS: the body as it was sent, and its signature's header.

        Raises:
            WebhookRefusedError: it is not Stripe's, not of now, or no event.
            RetryableError: it could not be kept; Stripe must deliver it again.
            SetupError: no secret is set up, or no key.
        """
        now = self._clock.now()
        check_signature(signature, body, self._settings.secrets(), now)
        return self._take(_json(body), now)

    def take_unsigned(self, event: object) -> Taken:
        """Take an event from a carrier that vouches for it: Stripe's own event bus at AWS.

        Raises: as `take`.
        """
        return self._take(event, self._clock.now())

    def _take(self, event: object, now: datetime) -> Taken:
        try:
            notice = read_event(event, now)
        except NotAnEventError as wrong:
            raise WebhookRefusedError(
                Reason.NOT_AN_EVENT, f"The body is no event of Stripe's: {wrong}"
            ) from None
        if notice is None:
            return Taken(WebhookOutcome.UNKNOWN_TYPE)
        if notice.is_live is not (self._settings.mode is Mode.LIVE):
            return Taken(WebhookOutcome.OTHER_MODE, notice)
        is_new = self._notices.keep(notice)
        return Taken(WebhookOutcome.KEPT if is_new else WebhookOutcome.REPEATED, notice)


def _json(body: bytes) -> object:
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as wrong:
        raise WebhookRefusedError(Reason.NOT_AN_EVENT, f"The body is not JSON: {wrong}") from None


# --- signatures -----------------------------------------------------------------------------------


def check_signature(header: str, body: bytes, secrets: Iterable[str], now: datetime) -> None:
    """Pass when one of the secrets signed the body, not too long before or after `now`.

    `header` is `Stripe-Signature`: `t=<epoch seconds>,v1=<hex>`, with a `v1` per secret while
    Stripe rotates them. The age is judged last, so that only Stripe learns what our clock says.

    Raises:
        WebhookRefusedError: it is not so; the reason says what is not.
    """
    signed_s, signatures = _read_header(header)
    text = b"%s.%s" % (signed_s.encode(), body)
    if not any(_signed(text, secret, signatures) for secret in secrets):
        raise WebhookRefusedError(
            Reason.WRONG_SECRET,
            "The signature is by none of this endpoint's secrets, or the body was changed on its"
            " way; set STRIPE_WEBHOOK_SECRETS_NAME to the secrets that Stripe shows for it",
        )
    _check_age(datetime.fromtimestamp(int(signed_s), UTC), now)


def _read_header(header: str) -> tuple[str, list[bytes]]:
    """When it was signed, as the text that is part of what was signed, and the signatures."""
    if not header:
        raise WebhookRefusedError(
            Reason.NO_SIGNATURE, "The Stripe-Signature header is missing; only Stripe calls this"
        )
    pairs = [pair.partition("=") for pair in header.split(",")]
    instants = [value for name, _, value in pairs if name == "t"]
    signatures = [value.encode() for name, _, value in pairs if name == "v1"]
    if len(instants) != 1 or not _TIMESTAMP.fullmatch(instants[0]) or not signatures:
        raise WebhookRefusedError(
            Reason.MALFORMED_SIGNATURE,
            "The Stripe-Signature header must be 't=<epoch seconds>,v1=<hex>'",
        )
    return instants[0], signatures


def _signed(text: bytes, secret: str, signatures: Iterable[bytes]) -> bool:
    expected = hmac.new(secret.encode(), text, sha256).hexdigest().encode()
    return any(hmac.compare_digest(expected, signature) for signature in signatures)


def _check_age(signed_at: datetime, now: datetime) -> None:
    seconds = TOLERANCE // timedelta(seconds=1)
    if now - signed_at > TOLERANCE:
        raise WebhookRefusedError(
            Reason.TOO_OLD, f"The webhook was signed more than {seconds} s ago: it may be replayed"
        )
    if signed_at - now > TOLERANCE:
        raise WebhookRefusedError(
            Reason.FROM_FUTURE,
            f"The webhook was signed more than {seconds} s ahead of this server's clock",
        )
