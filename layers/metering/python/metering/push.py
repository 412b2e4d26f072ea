"""What Stripe is told about one counter in one billing period: streams of pushes.

A push is one intent to move what Stripe holds by a delta. Everything that leaves the house is
frozen when the push is planned, so each repeat of it is the same request. A stream has at most one
open push; its `accepted` total moves only when Stripe is known to have taken one. Wanted and
accepted totals are whole numbers of a scaled unit, wanted = floor(total * 10^scale): deltas are
differences of floored totals, so no remainder is ever lost, and at most one scaled unit is
outstanding.

A stream's kind says what a push sends: the delta itself where Stripe adds up, the whole wanted
value where the newest one counts. The arithmetic of deltas is the same for all.

All functions are pure: a stream goes in, the stream as it should be stored comes out. How Stripe's
answers are judged stands in `metering.delivery`.
"""

from base64 import b32encode
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from functools import reduce
from hashlib import sha256
from typing import NamedTuple

from metering import times
from metering.counter import CounterKey
from metering.invoice_item import InvoiceItem
from metering.keys import join
from metering.minutes import Minutes, Taken
from metering.names import Identifier
from metering.period import Span
from metering.quantity import EXACT, floor_scaled

VALUE_LIMIT = 10**15
"""Stripe refuses values of more than 15 digits, and sums them in floats exact to 2^53."""
IN_FLIGHT = timedelta(seconds=30)
"""Longer than one request can last; a push that was stamped is left alone for that long."""


class Mode(StrEnum):
    """Which of an account's two worlds a key opens."""

    LIVE = "live"
    TEST = "test"


class Role(StrEnum):
    """Whom a push is for. The two never share a stream, whatever accounts and modes they have."""

    PRIMARY = "primary"
    """Whoever bills."""
    SHADOW = "shadow"
    """A test account that is told the same in parallel, through a key of its own."""


class StreamKind(StrEnum):
    """What Stripe makes of a stream's pushes.

    All but `delta` set a value, so that a repeat is harmless and the newest counts.
    """

    DELTA = "delta"
    """A `sum` meter adds them up."""
    LAST = "last"
    """A `last` meter bills the one with the greatest timestamp of the period."""
    HOURLY = "hourly"
    """A meter with a window keeps the newest received for each UTC hour or day, and adds those."""
    LEGACY = "legacy"
    """Usage records of a price without a meter, always at the same instant."""


class Target(NamedTuple):
    """One running total at Stripe: what a meter adds up for a customer."""

    account: str
    """`acct_...`, or empty for the account that the key belongs to."""
    mode: Mode
    event_name: str
    """Empty for a legacy price, which has no meter."""
    customer: str
    """`cus_...`"""
    subscription_item: str = ""
    """`si_...`, which takes the usage records of a legacy price; else empty."""
    role: Role = Role.PRIMARY
    """Whose key reaches it: an empty account in test mode is another one for the shadow."""


class StreamKey(NamedTuple):
    """Whose usage goes where in which billing period.

    `incarnation` numbers the lives of our own store: after a restore from a backup it is raised, so
    that identifiers the lost life has used are never used again.
    """

    target: Target
    counter: CounterKey
    period: Span
    incarnation: int = 0
    hour: datetime | None = None
    """Of an hourly stream: the start of the window that it tells."""

    @property
    def id(self) -> str:
        """32 characters without personal data; a period is known by its start."""
        *target, item, role = self.target
        start = times.to_text(self.period.start)
        hour = times.to_text(self.hour) if self.hour else ""
        further: tuple[str, ...] = (item, hour) if item or hour else ()
        if role is Role.SHADOW:
            further = (item, hour, role)
        text = join(*target, *self.counter, start, str(self.incarnation), *further)
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
    """One intent to move what Stripe holds; only what happened to it ever changes."""

    seq: int
    identifier: Identifier
    delta: int
    """In scaled units; negative when usage was corrected downwards."""
    value: str
    """The text that is sent: the delta, or of other kinds of streams the whole wanted value."""
    occurred_at: datetime
    """The whole minute it is stamped with; of a delta, no other push of the stream uses it."""
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
    is_correction: bool = False
    """It tells no usage, but cancels what others wrote."""

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


class Carry(NamedTuple):
    """Usage of a closed period that is told in a later one."""

    from_period: datetime
    """The start of the period that it was used in."""
    quantity: Decimal
    """In the metric's unit; negative when the closed period was told too much."""


class Received(NamedTuple):
    """What a stream has taken over of pushes that another one sent: they are stamped in its period.

    Those pushes are in the other's history, which is where their numbers count.
    """

    stream_id: str
    """Of the stream that sent them."""
    amount: int
    """What they had set the total to or added to it when they were taken over, in scaled units."""


class Correction(NamedTuple):
    """What a person has had Stripe's total changed by, to cancel what others wrote to it."""

    amount: int
    """In scaled units; negative where Stripe held too much."""
    approved_at: datetime
    approved_by: str
    reason: str


@dataclass(frozen=True, slots=True)
class PushStream:
    """The pushes of one stream, summed up; `accepted` in scaled units."""

    key: StreamKey
    meter_id: str
    scale: int
    kind: StreamKind = StreamKind.DELTA
    accepted: int = 0
    """What Stripe has taken: the sum of deltas, which is also the last value that was set."""
    accepted_at: datetime | None = None
    next_seq: int = 1
    open: Push | None = None
    minutes: Minutes = Minutes()  # noqa: RUF009 (immutable)
    stopped: Stop | None = None
    carried_in: tuple[Carry, ...] = ()
    """What this period tells for closed ones, the earliest first."""
    carried_out: Decimal = Decimal(0)
    """What a later period tells for this one, in the metric's unit."""
    item: InvoiceItem | None = None
    """The invoice item that is on its way for usage that came too late; at most one is open."""
    items: tuple[InvoiceItem, ...] = ()
    """Those that bill usage of this closed period apart, the earliest first."""
    ceded: int = 0
    """What other streams have taken over of the pushes that this one sent, in scaled units; no part
    of `accepted` any more."""
    ceded_from: datetime | None = None
    """Its pushes that are stamped from here on stand in other streams; None: all are its own."""
    received: tuple[Received, ...] = ()
    """What it has taken over from others, which is part of `accepted`."""
    corrections: tuple[Correction, ...] = ()
    """Those that were approved, the earliest first; no part of `accepted`, for they are no usage of
    ours: what others wrote, and what cancels it, come to nothing together."""
    compensated: int = 0
    """What Stripe has taken of the corrections, in scaled units."""
    counted_seq: int = 0
    """Every push up to this number that it has not ceded was seen in Stripe's summary."""
    is_due: bool = False
    """It must be looked at though its counter does not change; a value that is set is then told
    again even if it is the one that Stripe has last accepted."""
    version: int = 0
    """How often it was stored; 0 is a stream that was never stored."""
    is_listed: bool = False
    """Whether the store lists it among the streams in need; the store keeps this itself."""

    @property
    def accepted_quantity(self) -> Decimal:
        """What Stripe has taken, in the metric's unit."""
        return quantity_of(self.accepted, self.scale)

    @property
    def sources(self) -> frozenset[str]:
        """The ids of the streams that have sent its pushes: its own, and those it received from."""
        return frozenset({self.key.id, *(one.stream_id for one in self.received)})

    @property
    def is_given_up(self) -> bool:
        """Whether its period does not exist any more, and all of its pushes stand in others."""
        return self.ceded_from is not None and self.ceded_from <= self.key.period.start

    @property
    def needs_attention(self) -> bool:
        """Whether the writer must come back to it though its counter does not change."""
        is_open = self.open is not None or self.item is not None
        return is_open or self.stopped is not None or self.is_due

    @property
    def correction_due(self) -> int:
        """What the corrections that were approved are still to change, in scaled units."""
        return sum(one.amount for one in self.corrections) - self.compensated

    @property
    def billed_apart(self) -> Decimal:
        """What invoice items bill of this closed period, in the metric's unit."""
        return quantity_of(sum(item.units for item in self.items), self.scale)

    @property
    def carried_in_quantity(self) -> Decimal:
        """All that this period tells for closed ones, in the metric's unit."""
        return reduce(EXACT.add, (carry.quantity for carry in self.carried_in), Decimal(0))


def sent_by(push: Push) -> str:
    """The id of the stream that has planned and sent a push."""
    return push.identifier.split(".")[1]


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
    """The customer's periods are cut otherwise than when usage was told or counted, and what was
    told cannot be left to the present ones, or not yet: its counters are still being rebuilt."""
    RECUT = "recut"
    """Pushes were just left to the periods that they are stamped in; the next look goes on."""
    TOLD_OTHERWISE = "told_otherwise"
    """Usage of the period was told as another kind of stream, or a value was set elsewhere; it
    cannot be split. The next period goes on as the mapping says."""
    UNEVEN_PERIOD = "uneven_period"
    """The period's bounds are not whole UTC hours, or days, as the meter's window needs."""
    TOO_OLD = "too_old"
    """Stripe takes no timestamp that far back."""
    SHARED_VALUE = "shared_value"
    """Another counter sets the same value at Stripe; the two would take each other's place."""
    NO_INVOICE = "no_invoice"
    """It came after the close of a period whose usage no invoice bills: a trial, or it is to be
    billed apart and there is no invoice that was too low by it."""
    INVOICE_UNKNOWN = "invoice_unknown"
    """The period has ended, and whether its invoice still takes usage is not known yet."""
    BEFORE_MAPPING = "before_mapping"
    """The period had closed, and nothing of it was told, before its metric was mapped."""


def wanted(total: Decimal, scale: int, *, told_elsewhere: Decimal = Decimal(0)) -> int:
    """What a stream's accepted total should be, in scaled units.

    `told_elsewhere` is what other streams of the same counter and period have told Stripe (a former
    meter or customer): the same usage is never told twice.
    """
    return floor_scaled(EXACT.subtract(total, told_elsewhere), scale)


def whole_units(values: Iterable[Decimal], scale: int) -> list[int]:
    """What each of a row of values adds to their floored total, in scaled units.

    So the parts add up to the floored total of all, and no part loses a remainder of its own.
    """
    total, told, parts = Decimal(0), 0, []
    for value in values:
        total = EXACT.add(total, value)
        parts.append(floor_scaled(total, scale) - told)
        told += parts[-1]
    return parts


def plan(
    stream: PushStream, desired: int, now: datetime, used_at: datetime, *, closes_at: datetime
) -> PushStream | Held:
    """The stream with a push for the difference between wanted and accepted, or why there is none.

    A correction that is due goes first. `used_at` is the time of the newest usage in the total; the
    push is stamped close to it.
    From `closes_at` on, usage of the period reaches no invoice any more.
    """
    held = _held(stream, desired, now, closes_at)
    if held is not None:
        return held
    minute = _minute(stream, now, used_at)
    if isinstance(minute, Held):
        return minute
    owed = stream.correction_due
    delta = owed or desired - stream.accepted
    push = Push(
        seq=stream.next_seq,
        identifier=Identifier(f"u1.{stream.key.id}.{stream.next_seq}"),
        delta=delta,
        value=str(delta if stream.kind is StreamKind.DELTA else desired),
        occurred_at=minute.taken,
        planned_at=now,
        is_correction=owed != 0,
    )
    seq, rest = push.seq + 1, minute.rest
    return replace(stream, open=push, minutes=rest, next_seq=seq, stopped=None, is_due=False)


def _held(stream: PushStream, desired: int, now: datetime, closes_at: datetime) -> Held | None:
    delta = stream.correction_due or desired - stream.accepted
    must_tell = stream.is_due and stream.kind is not StreamKind.DELTA
    if stream.open is not None:
        return Held.PUSH_OPEN
    if delta == 0 and not must_tell:
        return Held.NOTHING_NEW
    if is_stopped(stream, now):
        return Held.STOPPED
    if now >= closes_at:
        return Held.LATE_AFTER_CLOSE
    if max(abs(delta), abs(desired)) >= VALUE_LIMIT:
        return Held.TOO_MANY_DIGITS
    return None


def is_stopped(stream: PushStream, now: datetime) -> bool:
    """Whether the stream waits, for a person or for its time to try again."""
    stop = stream.stopped
    return stop is not None and (stop.until is None or now < stop.until)


OLDEST = timedelta(days=34)
"""Stripe takes timestamps of the past 35 days; a day is left for the push to be sent in."""
KEPT_FOR_CLOSE = timedelta(minutes=30)
"""The last minutes of a period stay free for the pushes that close it."""


def _minute(stream: PushStream, now: datetime, used_at: datetime) -> Taken | Held:
    """The minute that a push planned now is stamped with.

    What sets a value has one instant of its own per stream, a `last` meter's excepted: it bills the
    greatest timestamp, so each is later than all before.
    """
    key, minutes = stream.key, stream.minutes
    if stream.kind is StreamKind.LEGACY:
        return Taken(ceil_minute(key.period.start), minutes)
    if key.hour is not None:
        return Held.TOO_OLD if key.hour < now - OLDEST else Taken(key.hour, minutes)
    is_last = stream.kind is StreamKind.LAST
    taken = minutes.take(_window(key.period, now), used_at, only_later=is_last)
    return taken or Held.NO_FREE_MINUTE


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


def readable(period: Span, now: datetime) -> Span:
    """The minutes of a period that have begun, as a summary of it is read; may be empty.

    The partial minute at its end belongs to it: a period that ended before its time may hold a push
    there, and the one after it never does, in its first.
    """
    end = min(ceil_minute(period.end), floor_minute(now) + ONE_MINUTE)
    start = ceil_minute(period.start)
    return Span(start, max(start, end))


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
    """Take the open push off the stream; only an accepted one moves the accepted total.

    After a correction the stream is looked at again: usage may have waited for it.
    """
    push = replace(
        _open(stream),
        state=state,
        closed_at=now,
        resolution=resolution,
        not_before=None,
        last_error=error or _open(stream).last_error,
    )
    if state is not PushState.ACCEPTED:
        # The value that it would have set may stand at Stripe now: it must be told anew.
        is_due = stream.is_due or push.is_correction or stream.kind is not StreamKind.DELTA
        return Closed(replace(stream, open=None, is_due=is_due), push)
    if push.is_correction:
        compensated = stream.compensated + push.delta
        corrected = replace(stream, compensated=compensated, accepted_at=now)
        return Closed(replace(corrected, open=None, is_due=True), push)
    accepted = stream.accepted + push.delta
    return Closed(replace(stream, open=None, accepted=accepted, accepted_at=now), push)


RETRY_REFUSED = timedelta(hours=1)
"""After a refusal the delta is tried again under a new number, once an hour."""


def is_superseded(stream: PushStream, push: Push) -> bool:
    """Whether a newer value has taken the place of an accepted push, or is about to."""
    is_set = stream.kind is not StreamKind.DELTA
    return is_set and (stream.open is not None or stream.accepted != int(push.value))


def reject_async(
    stream: PushStream, push: Push, now: datetime, error: str, *, before: int | None = None
) -> Closed:
    """Take an accepted push back: Stripe took it and did not count it.

    Its delta returns under a new number, an hour later, and again each hour while it is refused. Of
    values that are set, `before` is the one that stands without it; None: the one that it changed.
    """
    assert push.state in {PushState.ACCEPTED, PushState.COUNTED}, f"{push.identifier} never counted"
    rejected = replace(push, state=PushState.ASYNC_REJECTED, last_error=error)
    if is_superseded(stream, push):
        return Closed(stream, rejected)
    stop = stream.stopped
    if stop is None or stop.until is not None:
        stop = Stop("refused", error, now, now + RETRY_REFUSED)
    if push.is_correction:
        compensated = stream.compensated - push.delta
        back = replace(stream, compensated=compensated, stopped=stop, is_due=True)
        return Closed(back, rejected)
    # A value that is set is told again even where the one before it was the same.
    is_due = stream.is_due or stream.kind is not StreamKind.DELTA
    accepted = stream.accepted - push.delta if before is None else before
    back = replace(stream, accepted=accepted, stopped=stop, is_due=is_due)
    return Closed(replace(back, minutes=_given_back(stream, push)), rejected)


def _given_back(stream: PushStream, push: Push) -> Minutes:
    """The minutes that are free again: of a `last` meter the period's last, as none comes after it.

    The push that was stamped with it did not count, so the value that is set again stands alone.
    """
    is_last_minute = push.occurred_at + ONE_MINUTE >= floor_minute(stream.key.period.end)
    if stream.kind is not StreamKind.LAST or not is_last_minute:
        return stream.minutes
    return stream.minutes.after(push.occurred_at - ONE_MINUTE)


def retired(stream: PushStream) -> PushStream:
    """A stream of a closed period with nothing open, as it need not be looked at any more."""
    waits_for_a_person = stream.stopped is not None and stream.stopped.until is None
    stop = stream.stopped if waits_for_a_person else None
    return replace(stream, stopped=stop, is_due=False)
