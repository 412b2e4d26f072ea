"""How an invoice item reaches Stripe once: the next step, and what each answer means.

Before each attempt Stripe's list is asked for the item's id. So an unknown outcome needs no guess,
and no idempotency key that must be remembered: it is found out, after a day as after a minute. The
key only keeps apart two requests that are under way at once.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from metering.delivery import (
    FENCE,
    RESOLVE_AFTER,
    Answer,
    InFlight,
    KeyReused,
    NotAllowed,
    OutcomeUnknown,
    RateLimited,
    Refused,
    ServerError,
)
from metering.errors import InvariantBrokenError
from metering.invoice_item import InvoiceItem, ItemState, ended

RETRY_FIRST = timedelta(seconds=30)
"""Longer than one request can last."""
RETRY_LONGEST = timedelta(hours=1)
RETRY_REFUSED = timedelta(hours=6)
"""A refusal waits for a person; each try costs a read and a write."""


@dataclass(frozen=True, slots=True)
class Added:
    """Stripe has made the item."""

    stripe_id: str


type ItemAnswer = Added | Answer


def stamped(item: InvoiceItem, now: datetime) -> InvoiceItem | None:
    """The item as it must be stored before it is sent; None while it must not be sent.

    Stripe keeps idempotency keys for at least 24 hours. After that a new one is used, when every
    request under the former has long ended, so that the list just read would have shown its effect.
    """
    fenced = item.key_since is not None and now - item.key_since >= FENCE
    if fenced and item.last_attempt_at is not None and now < item.last_attempt_at + RESOLVE_AFTER:
        return None
    sent = _with_new_key(item) if fenced else item
    return replace(
        sent,
        state=ItemState.SENT,
        attempts=sent.attempts + 1,
        key_since=sent.key_since or now,
        last_attempt_at=now,
        not_before=now + RETRY_FIRST,
    )


def _with_new_key(item: InvoiceItem) -> InvoiceItem:
    return replace(item, key_generation=item.key_generation + 1, key_since=None)


def after(  # noqa: PLR0911 (one line per kind of answer)
    item: InvoiceItem, answer: ItemAnswer, now: datetime
) -> InvoiceItem:
    """The item after an attempt.

    A 500 is repeated for as long as Stripe keeps the key, and so may be a refusal: the next attempt
    has a new key, after a look at Stripe's list which by then shows whatever the old one did.
    """
    match answer:
        case Added(stripe_id):
            return ended(replace(item, stripe_id=stripe_id), now)
        case Refused(code, message):
            return _again(_with_new_key(item), f"{code}: {message}", now + RETRY_REFUSED)
        case NotAllowed(message):
            return _again(_with_new_key(item), message, now + RETRY_LONGEST)
        case KeyReused(message) | ServerError(message):
            return _again(_with_new_key(item), message, now + RESOLVE_AFTER)
        case InFlight():
            return _again(item, "409: a twin request is in flight", now + _pause(item))
        case RateLimited(reason):
            return _again(item, f"429: {reason}", now + _pause(item))
        case OutcomeUnknown(message):
            return _again(item, message, now + _pause(item))
        case _:
            raise InvariantBrokenError(f"{answer} is no answer to an invoice item")


def needs_a_person(answer: ItemAnswer) -> bool:
    """Whether somebody must put right why Stripe does not take the item."""
    return isinstance(answer, Refused | NotAllowed | KeyReused)


def put_off(item: InvoiceItem, error: str, now: datetime) -> InvoiceItem:
    """The item when Stripe could not be asked for it."""
    return _again(item, error, now + _pause(item))


def _again(item: InvoiceItem, error: str, not_before: datetime) -> InvoiceItem:
    return replace(item, last_error=error, not_before=not_before)


def _pause(item: InvoiceItem) -> timedelta:
    return min(RETRY_FIRST * 2.0 ** min(item.attempts, 10), RETRY_LONGEST)
