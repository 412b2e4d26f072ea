"""What becomes of an open push: the next step, and what each answer of Stripe's means.

What is not known stays unknown: a push is closed only by an answer that proves whether it counted,
or by looking at its own minute at Stripe.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum
from typing import NamedTuple

from metering.errors import InvariantBrokenError
from metering.keys import digest
from metering.push import (
    RETRY_REFUSED,
    Closed,
    Push,
    PushState,
    PushStream,
    Stop,
    StreamKind,
    close,
)

FENCE = timedelta(hours=23)
"""Stripe remembers identifiers and idempotency keys for at least 24 hours, no longer."""
RESOLVE_AFTER = timedelta(minutes=30)
"""From the last attempt to the first look; summaries follow events with an unpublished lag."""
RESOLVE_AGAIN = timedelta(hours=1)
"""From a look that found nothing to the look that confirms it."""
AMBIGUOUS = "ambiguous_minute"
LOOK_DAILY = timedelta(days=1)
RETRY_FIRST = timedelta(seconds=5)
RETRY_LONGEST = timedelta(minutes=10)
ATTEMPTS_PER_KEY = 3
"""After so many unknown outcomes the key may hold a stored failure: a new one is used."""


# --- what Stripe can answer -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Accepted:
    """200; `replayed` when Stripe repeated a stored answer."""

    replayed: bool = False


@dataclass(frozen=True, slots=True)
class AlreadyExists:
    """400: an event with this identifier was taken before."""

    message: str


@dataclass(frozen=True, slots=True)
class Refused:
    """Any other 400 or 404: this call counted nothing."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class KeyReused:
    """400: the idempotency key was used with other parameters."""

    message: str


@dataclass(frozen=True, slots=True)
class NotAllowed:
    """401 or 403: the key is wrong or lacks a permission."""

    message: str


@dataclass(frozen=True, slots=True)
class InFlight:
    """409: a request with this idempotency key is being executed now."""


@dataclass(frozen=True, slots=True)
class RateLimited:
    """429: not executed."""

    reason: str


@dataclass(frozen=True, slots=True)
class ServerError:
    """500: executed or not, and this idempotency key will only ever repeat it."""

    message: str


@dataclass(frozen=True, slots=True)
class OutcomeUnknown:
    """502, 503, 504, a timeout or a broken connection."""

    message: str


type Answer = (
    Accepted
    | AlreadyExists
    | Refused
    | KeyReused
    | NotAllowed
    | InFlight
    | RateLimited
    | ServerError
    | OutcomeUnknown
)


# --- what to do next ------------------------------------------------------------------------------


class Step(Enum):
    """What an open push needs now."""

    SEND = "send"
    RESOLVE = "resolve"
    """Ask Stripe what its minute holds; never send before that."""
    ABANDON = "abandon"
    """Nothing has left, and its period is closed."""
    REPLACE = "replace"
    """Whether it counted does not matter: its value is told again under a new number."""
    ASK = "ask"
    """Only a person can find out whether it counted."""
    WAIT = "wait"
    DONE = "done"


def next_step(stream: PushStream, now: datetime, *, closes_at: datetime) -> Step:
    """What the stream's open push needs now; from `closes_at` on its period takes no usage."""
    push = stream.open
    if push is None:
        return Step.DONE
    if push.state is PushState.PLANNED and now >= closes_at:
        return Step.ABANDON
    if push.state is PushState.SENT and _is_fenced(push, now, closes_at):
        is_due = now >= _first_look(push)
        return _find_out(stream, now, closes_at) if is_due else Step.WAIT
    if push.not_before is not None and now < push.not_before:
        return Step.WAIT
    if push.state is PushState.UNKNOWN:
        return _find_out(stream, now, closes_at)
    return Step.SEND


def _find_out(stream: PushStream, now: datetime, closes_at: datetime) -> Step:
    """What becomes of a push that must not be sent again though nobody knows its outcome."""
    if stream.kind is StreamKind.DELTA:
        return Step.RESOLVE
    if now < closes_at:
        return Step.REPLACE
    if stream.kind is not StreamKind.LEGACY:
        return Step.RESOLVE
    is_asked = stream.stopped is not None and stream.stopped.reason == AMBIGUOUS
    return Step.WAIT if is_asked else Step.ASK


def _is_fenced(push: Push, now: datetime, closes_at: datetime) -> bool:
    """Whether a repeat could count twice, or reach a period that no invoice takes any more."""
    since = push.first_attempt_at or push.planned_at
    return now - since >= FENCE or now >= closes_at


def _first_look(push: Push) -> datetime:
    return (push.last_attempt_at or push.planned_at) + RESOLVE_AFTER


def without_request(stream: PushStream, step: Step, now: datetime) -> "Verdict":
    """What the open push comes to by a step that asks Stripe nothing."""
    match step:
        case Step.ABANDON:
            return Verdict(*abandon(stream, now))
        case Step.REPLACE:
            return Verdict(*put_in_place(stream, now))
        case Step.ASK:
            return ask(stream, now)
    raise InvariantBrokenError(f"{step} is no such step")


def abandon(stream: PushStream, now: datetime) -> Closed:
    """Close a push that never left; its delta is usage that came too late for its period."""
    return close(stream, PushState.VOID, now, resolution="period_closed")


def put_in_place(stream: PushStream, now: datetime) -> Closed:
    """Close a push that set a value with unknown outcome; the wanted value is told again."""
    return close(stream, PushState.VOID, now, resolution="told_again")


def ask(stream: PushStream, now: datetime) -> "Verdict":
    """Leave a push of a legacy price for a person: usage records of a minute cannot be read."""
    push = _sent(stream)
    message = (
        f"nobody knows whether {push.value} was set on {stream.key.target.subscription_item}"
        f" for the period from {stream.key.period.start:%Y-%m-%dT%H:%MZ}, which is closed"
    )
    kept = replace(push, state=PushState.UNKNOWN, not_before=None)
    stop = Stop(AMBIGUOUS, message, now, None)
    return Verdict(replace(stream, open=kept, stopped=stop), alarm=message)


# --- what an answer means -------------------------------------------------------------------------


class Verdict(NamedTuple):
    """What to store after an answer.

    `closed` is the push when it has come to an end, `alarm` is a sentence for a person. After
    `NotAllowed` the whole account must be left alone.
    """

    stream: PushStream
    closed: Push | None = None
    alarm: str = ""


def classify(  # noqa: PLR0911 (one line per kind of answer)
    stream: PushStream, answer: Answer, now: datetime
) -> Verdict:
    """What an answer to the open push, which is SENT, says about it."""
    match answer:
        case Accepted(replayed):
            return _accepted(stream, now, "replayed" if replayed else "answered")
        case AlreadyExists(message):
            return _already_exists(stream, message, now)
        case Refused(code, message):
            return _refused(stream, code, message, now)
        case KeyReused(message):
            return _key_reused(stream, message, now)
        case NotAllowed(message):
            later = _not_executed(stream, message, now)
            return later._replace(alarm=f"Stripe refuses our key: {message}")
        case InFlight():
            return _retry(stream, "409: a twin request is in flight", now)
        case RateLimited(reason):
            return _not_executed(stream, f"429: {reason}", now)
        case ServerError(message):
            return _retry(stream, f"500: {message}", now, renew_key=True)
        case OutcomeUnknown(message):
            push = _sent(stream)
            return _retry(stream, message, now, renew_key=push.attempts % ATTEMPTS_PER_KEY == 0)


def _accepted(stream: PushStream, now: datetime, resolution: str) -> Verdict:
    return Verdict(*close(stream, PushState.ACCEPTED, now, resolution=resolution))


def _already_exists(stream: PushStream, message: str, now: datetime) -> Verdict:
    if _sent(stream).is_doubtful:
        return _accepted(stream, now, "duplicate")
    alarm = "Stripe knows an identifier that this store never sent (restored backup, second store?)"
    return Verdict(_unknown(stream, message, now), alarm=alarm)


def _refused(stream: PushStream, code: str, message: str, now: datetime) -> Verdict:
    error = f"{code}: {message}" if code else message
    alarm = f"Stripe refuses the usage of {stream.key.counter}: {error}"
    if _sent(stream).is_doubtful:
        # This call counted nothing, but one before it may have.
        return Verdict(_unknown(stream, error, now), alarm=alarm)
    closed = close(stream, PushState.REJECTED, now, resolution="answered", error=error)
    stop = Stop("refused", error, now, now + RETRY_REFUSED)
    return Verdict(replace(closed.stream, stopped=stop), closed.push, alarm=alarm)


def _key_reused(stream: PushStream, message: str, now: datetime) -> Verdict:
    stop = Stop("key_reused", message, now, None)
    alarm = f"A push's parameters changed under its idempotency key, our own bug: {message}"
    return Verdict(replace(_unknown(stream, message, now), stopped=stop), alarm=alarm)


def _not_executed(stream: PushStream, error: str, now: datetime) -> Verdict:
    """The call did nothing: as before it, unless an earlier one may have."""
    push = _sent(stream)
    if push.is_doubtful:
        return _retry(stream, error, now)
    state, due = PushState.PLANNED, now + _pause(push)
    kept = replace(push, state=state, first_attempt_at=None, not_before=due, last_error=error)
    return Verdict(replace(stream, open=kept))


def _retry(stream: PushStream, error: str, now: datetime, *, renew_key: bool = False) -> Verdict:
    push = _sent(stream)
    later = replace(
        push,
        is_doubtful=True,
        key_generation=push.key_generation + renew_key,
        not_before=now + _pause(push),
        last_error=error,
    )
    return Verdict(replace(stream, open=later))


def _unknown(stream: PushStream, error: str, now: datetime) -> PushStream:
    push = replace(
        _sent(stream), state=PushState.UNKNOWN, last_error=error, not_before=now + RESOLVE_AFTER
    )
    return replace(stream, open=push)


def _sent(stream: PushStream) -> Push:
    push = stream.open
    assert push is not None, f"stream {stream.key.id} has no open push"
    return push


def _pause(push: Push) -> timedelta:
    """Twice as long after each attempt, less up to a half, so that streams do not march in step."""
    longest = min(RETRY_FIRST * 2.0 ** min(push.attempts - 1, 10), RETRY_LONGEST)
    spread = int.from_bytes(digest(f"{push.identifier}/{push.attempts}", size=2)) / 2**17
    return longest * (1 - spread)


# --- looking at Stripe's own minute ---------------------------------------------------------------


def resolve(stream: PushStream, seen: int, now: datetime) -> Verdict:
    """What the total of the open push's own minute at Stripe, in scaled units, says about it.

    A push that is found there counted; one whose minute is empty twice, an hour apart, did not, and
    its number is never sent again. Anything else is for a person. The minute of an hourly stream
    is all of its window, and is not empty but holds what was accepted before.
    """
    push = _sent(stream)
    if stream.stopped is not None and stream.stopped.reason == AMBIGUOUS:
        stream = replace(stream, stopped=None)
    if seen == int(push.value):
        return _accepted(stream, now, "minute_window")
    if seen != _before(stream):
        return _ambiguous(stream, seen, now)
    if push.seen_empty_at is None:
        again = now + RESOLVE_AGAIN
        looked = replace(push, state=PushState.UNKNOWN, seen_empty_at=now, not_before=again)
        return Verdict(replace(stream, open=looked))
    return Verdict(*close(stream, PushState.VOID, now, resolution="minute_window"))


def _before(stream: PushStream) -> int:
    """What the open push's minute held before it."""
    return stream.accepted if stream.kind is StreamKind.HOURLY else 0


def _ambiguous(stream: PushStream, seen: int, now: datetime) -> Verdict:
    push = _sent(stream)
    message = (
        f"the minute {push.occurred_at:%Y-%m-%dT%H:%MZ} of {stream.key.target.event_name} for"
        f" {stream.key.target.customer} holds {seen}, neither {_before(stream)} nor our"
        f" {push.value}"
    )
    kept = replace(push, state=PushState.UNKNOWN, seen_empty_at=None, not_before=now + LOOK_DAILY)
    stop = Stop(AMBIGUOUS, message, now, None)
    return Verdict(replace(stream, open=kept, stopped=stop), alarm=message)
