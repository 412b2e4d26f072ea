"""What Stripe is told about one counter in one billing period: streams of pushes.

A push is one intent to tell Stripe a delta. Everything that leaves the house is frozen when the
push is planned, so each repeat of it is the same request. A stream has at most one open push; its
`accepted` total moves only when Stripe is known to have taken one. Wanted and accepted totals are
whole numbers of a scaled unit, wanted = floor(total * 10^scale): deltas are differences of floored
totals, so no remainder is ever lost, and at most one scaled unit is outstanding.

All functions are pure: a stream goes in, the stream as it should be stored comes out. How Stripe's
answers are judged stands in `metering.delivery`.
"""

from base64 import b32encode
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from hashlib import sha256
from typing import NamedTuple

from metering import times
from metering.counter import CounterKey
from metering.keys import join
from metering.minutes import Minutes
from metering.names import Identifier
from metering.period import Span
from metering.quantity import EXACT, floor_scaled

VALUE_LIMIT = 10**15
"""Stripe refuses values of more than 15 digits, and sums them in floats exact to 2^53."""
CLOSE_GRACE = timedelta(hours=1)
"""How long after a period's end its draft invoice still takes usage, by Stripe's default."""
IN_FLIGHT = timedelta(seconds=30)
"""Longer than one request can last; a push that was stamped is left alone for that long."""


class Mode(StrEnum):
    """Which of an account's two worlds a key opens."""

    LIVE = "live"
    TEST = "test"


class Target(NamedTuple):
    """One running total at Stripe: what a meter adds up for a customer."""

    account: str
    """`acct_...`, or empty for the account that the key belongs to."""
    mode: Mode
    event_name: str
    customer: str
    """`cus_...`"""


class StreamKey(NamedTuple):
    """Whose usage goes where in which billing period.

    `incarnation` numbers the lives of our own store: after a restore from a backup it is raised, so
    that identifiers the lost life has used are never used again.
    """

    target: Target
    counter: CounterKey
    period: Span
    incarnation: int = 0

    @property
    def id(self) -> str:
        """32 characters without personal data; a period is known by its start."""
        target, counter = self.target, self.counter
        start = times.to_text(self.period.start)
        text = join(*target, *counter, start, str(self.incarnation))
        return b32encode(sha256(text.encode()).digest()).decode().lower()[:32]


class PushState(StrEnum):
    """How far a push has come; the first three are open."""

    PLANNED = "planned"
    """Frozen; no request that Stripe could have executed has left."""
    SENT = "sent"
    """Stamped; a request may have left, its outcome is not recorded."""
    UNKNOWN = "unknown"
    """Must not be sent again before Stripe was asked whether it counted."""
    ACCEPTED = "accepted"
    """Stripe has taken it."""
    COUNTED = "counted"
    """Seen in Stripe's summary."""
    REJECTED = "rejected"
    """Stripe refused it; it never counted."""
    ASYNC_REJECTED = "async_rejected"
    """Stripe took it and did not count it."""
    VOID = "void"
    """Known not to have counted; its delta returns under a new number."""


@dataclass(frozen=True, slots=True)
class Push:
    """One intent to tell Stripe a delta; only what happened to it ever changes."""

    seq: int
    identifier: Identifier
    delta: int
    """In scaled units; negative when usage was corrected downwards."""
    occurred_at: datetime
    """The whole minute it is stamped with, which no other push of the stream uses."""
    planned_at: datetime
    state: PushState = PushState.PLANNED
    key_generation: int = 0
    attempts: int = 0
    first_attempt_at: datetime | None = None
    last_attempt_at: datetime | None = None
    is_doubtful: bool = False
    """An attempt before the present one may have reached Stripe."""
    not_before: datetime | None = None
    """When the next step is due."""
    seen_empty_at: datetime | None = None
    """When its minute was first found empty at Stripe."""
    closed_at: datetime | None = None
    resolution: str = ""
    """How its outcome became known: `answered`, `replayed`, `duplicate`, `minute_window`..."""
    last_error: str = ""

    @property
    def value(self) -> str:
        """The text that is sent."""
        return str(self.delta)

    @property
    def idempotency_key(self) -> str:
        """The request's key; the first is the identifier itself, which error reports quote."""
        suffix = f".g{self.key_generation}" if self.key_generation else ""
        return self.identifier + suffix


@dataclass(frozen=True, slots=True)
class Stop:
    """Why a stream tells Stripe nothing for now; None as `until` waits for a person."""

    reason: str
    """`refused`, `key_reused`, `ambiguous_minute`."""
    message: str
    since: datetime
    until: datetime | None


@dataclass(frozen=True, slots=True)
class PushStream:
    """The pushes of one stream, summed up; `accepted` in scaled units."""

    key: StreamKey
    meter_id: str
    scale: int
    accepted: int = 0
    accepted_at: datetime | None = None
    next_seq: int = 1
    open: Push | None = None
    minutes: Minutes = Minutes()  # noqa: RUF009 (immutable)
    stopped: Stop | None = None
    version: int = 0
    """How often it was stored; 0 is a stream that was never stored."""
    is_listed: bool = False
    """Whether the store lists it among the streams in need; the store keeps this itself."""

    @property
    def accepted_quantity(self) -> Decimal:
        """What Stripe has taken, in the metric's unit."""
        return quantity_of(self.accepted, self.scale)

    @property
    def needs_attention(self) -> bool:
        """Whether the writer must come back to it though its counter does not change."""
        return self.open is not None or self.stopped is not None


def quantity_of(scaled: int, scale: int) -> Decimal:
    """A number of scaled units in the metric's unit, exactly."""
    return Decimal(scaled).scaleb(-scale, EXACT)


class Held(StrEnum):
    """Why nothing was planned."""

    NOTHING_NEW = "nothing_new"
    PUSH_OPEN = "push_open"
    STOPPED = "stopped"
    LATE_AFTER_CLOSE = "late_after_close"
    NO_FREE_MINUTE = "no_free_minute"
    TOO_MANY_DIGITS = "too_many_digits"
    SCALE_CHANGED = "scale_changed"
    PERIOD_CHANGED = "period_changed"
    """The customer's billing anchor moved after usage of the period had been told."""


def wanted(total: Decimal, scale: int, *, told_elsewhere: Decimal = Decimal(0)) -> int:
    """What a stream's accepted total should be, in scaled units.

    `told_elsewhere` is what other streams of the same counter and period have told Stripe (a former
    meter or customer): the same usage is never told twice.
    """
    return floor_scaled(EXACT.subtract(total, told_elsewhere), scale)


def plan(stream: PushStream, desired: int, now: datetime, used_at: datetime) -> PushStream | Held:
    """The stream with a push for the difference between wanted and accepted, or why there is none.

    `used_at` is the time of the newest usage in the total; the push is stamped close to it.
    """
    held = _held(stream, desired, now)
    if held is not None:
        return held
    minutes = stream.minutes.take(_window(stream.key.period, now), used_at)
    if minutes is None:
        return Held.NO_FREE_MINUTE
    push = Push(
        seq=stream.next_seq,
        identifier=Identifier(f"u1.{stream.key.id}.{stream.next_seq}"),
        delta=desired - stream.accepted,
        occurred_at=minutes.taken,
        planned_at=now,
    )
    rest = minutes.rest
    return replace(stream, open=push, minutes=rest, next_seq=push.seq + 1, stopped=None)


def _held(stream: PushStream, desired: int, now: datetime) -> Held | None:
    delta = desired - stream.accepted
    if stream.open is not None:
        return Held.PUSH_OPEN
    if delta == 0:
        return Held.NOTHING_NEW
    if is_stopped(stream, now):
        return Held.STOPPED
    if is_closed(stream.key.period, now):
        return Held.LATE_AFTER_CLOSE
    if max(abs(delta), abs(desired)) >= VALUE_LIMIT:
        return Held.TOO_MANY_DIGITS
    return None


def is_stopped(stream: PushStream, now: datetime) -> bool:
    """Whether the stream waits, for a person or for its time to try again."""
    stop = stream.stopped
    return stop is not None and (stop.until is None or now < stop.until)


def is_closed(period: Span, now: datetime) -> bool:
    """Whether usage of the period would reach no invoice any more."""
    return now >= period.end + CLOSE_GRACE


OLDEST = timedelta(days=34)
"""Stripe takes timestamps of the past 35 days; a day is left for the push to be sent in."""
KEPT_FOR_CLOSE = timedelta(minutes=30)
"""The last minutes of a period stay free for the pushes that close it."""


def _window(period: Span, now: datetime) -> Span:
    """The instants that a push planned now may be stamped with.

    The partial minutes at a period's bounds are left out: summaries are read by whole minutes.
    """
    start = max(ceil_minute(period.start), ceil_minute(now - OLDEST))
    kept = KEPT_FOR_CLOSE if now < period.end else timedelta()
    return Span(start, min(floor_minute(period.end) - kept, floor_minute(now) + ONE_MINUTE))


ONE_MINUTE = timedelta(minutes=1)


def floor_minute(instant: datetime) -> datetime:
    """The whole minute at or before an instant."""
    return instant.replace(second=0, microsecond=0)


def ceil_minute(instant: datetime) -> datetime:
    """The whole minute at or after an instant."""
    floored = floor_minute(instant)
    return floored if floored == instant else floored + ONE_MINUTE


def stamp(stream: PushStream, now: datetime) -> PushStream:
    """The stream as it must be stored before the open push leaves: a crash from here on is SENT."""
    push = _open(stream)
    stamped = replace(
        push,
        state=PushState.SENT,
        attempts=push.attempts + 1,
        first_attempt_at=push.first_attempt_at or now,
        last_attempt_at=now,
        # A push that was already SENT has an attempt whose answer was never recorded.
        is_doubtful=push.is_doubtful or push.state is PushState.SENT,
        not_before=now + IN_FLIGHT,
    )
    return replace(stream, open=stamped)


def recall(stream: PushStream) -> PushStream:
    """The stream as it was before its open push's first stamp: whoever stamped it did not send."""
    push = _open(stream)
    assert push.attempts == 1, f"{push.identifier} may have left before"
    planned = replace(
        push,
        state=PushState.PLANNED,
        attempts=0,
        first_attempt_at=None,
        last_attempt_at=None,
        not_before=None,
    )
    return replace(stream, open=planned)


def _open(stream: PushStream) -> Push:
    assert stream.open is not None, f"stream {stream.key.id} has no open push"
    return stream.open


class Closed(NamedTuple):
    """A stream whose open push has come to an end, and that push for the history."""

    stream: PushStream
    push: Push


def close(
    stream: PushStream, state: PushState, now: datetime, *, resolution: str, error: str = ""
) -> Closed:
    """Take the open push off the stream; only an accepted one moves the accepted total."""
    push = replace(
        _open(stream),
        state=state,
        closed_at=now,
        resolution=resolution,
        not_before=None,
        last_error=error or _open(stream).last_error,
    )
    if state is not PushState.ACCEPTED:
        return Closed(replace(stream, open=None), push)
    accepted = stream.accepted + push.delta
    return Closed(replace(stream, open=None, accepted=accepted, accepted_at=now), push)
