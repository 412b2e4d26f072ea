"""Takes one stream through the push protocol: plan, stamp, send, classify, commit.

Every step is stored before the next begins, so whoever comes back after a crash finds how far it
came. Nothing here sleeps or repeats: what must be done again is left for the next run.
"""

import json
import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from metering import times
from metering.carry import Carried
from metering.delivery import (
    Answer,
    NotAllowed,
    Step,
    Verdict,
    classify,
    next_step,
    without_request,
)
from metering.delivery import resolve as judge_minute
from metering.errors import RetryableError
from metering.mapping import Customer
from metering.period import Span
from metering.ports import Billing, Change, Clock, MeterEvent, Pushes, SetupError, UsageRecord
from metering.push import (
    IN_FLIGHT,
    ONE_MINUTE,
    Held,
    Mode,
    Push,
    PushState,
    PushStream,
    StreamKind,
    close,
    plan,
    readable,
    recall,
    retired,
    stamp,
)
from metering.quantity import canonical, floor_scaled

log = logging.getLogger("metering.writer")

ACCOUNT_PAUSE = timedelta(minutes=5)
"""How long an account is left alone after it refused our key; then one push tries again."""
SEND_WITHIN = IN_FLIGHT / 2
"""Of being stamped: so a request has ended before anybody else takes its push up again."""
ONE_HOUR = timedelta(hours=1)
PUSHES_AT_ONCE = 25
"""So many share their writes. At Stripe's usual speed they are sent well within the time."""


@dataclass(slots=True)
class Happenings:
    """What a run did; each thread counts its own."""

    looked_at: int = 0
    """Counters and periods."""
    planned: int = 0
    sent: int = 0
    accepted: int = 0
    answers: Counter[str] = field(default_factory=Counter)
    """What Stripe answered, by kind."""
    carried: int = 0
    """Closed periods of which something is left for the period that is open now."""
    billed_apart: int = 0
    """Invoice items that bill usage of closed periods."""
    recut: int = 0
    """Counters whose pushes were left to the periods that they are stamped in."""
    held: Counter[str] = field(default_factory=Counter)
    """Counters whose usage was not told to the last unit, by reason."""
    failed: int = 0
    """Counters that met a bug of ours."""
    must_return: bool = False
    """Something is left that only another look will find."""
    shadowed: int = 0
    """Counters and periods whose mapping has a shadow; other runs tell the test account."""

    def add(self, other: "Happenings") -> None:
        """Count another thread's."""
        self.looked_at += other.looked_at
        self.planned += other.planned
        self.sent += other.sent
        self.accepted += other.accepted
        self.answers += other.answers
        self.carried += other.carried
        self.billed_apart += other.billed_apart
        self.recut += other.recut
        self.held += other.held
        self.failed += other.failed
        self.must_return |= other.must_return
        self.shadowed += other.shadowed

    def told(self) -> dict[str, Any]:
        """For the log and the caller."""
        told = {name: getattr(self, name) for name in self.__slots__}
        counts = {name: dict(value) for name, value in told.items() if isinstance(value, Counter)}
        return told | {
            name: {str(k): n for k, n in found.items()} for name, found in counts.items()
        }


@contextmanager
def minding(happenings: Happenings, whose: object, counters: int = 1) -> Iterator[None]:
    """Around what may go wrong with some counters: it is noted, and they are looked at again."""
    try:
        yield
    except (RetryableError, SetupError) as error:
        log.warning("the usage of %s is left for the next run: %s", whose, error)
        happenings.held["unavailable"] += counters
        happenings.must_return = True
    except Exception:
        log.exception("our own bug, at the usage of %s", whose)
        happenings.failed += counters
        happenings.must_return = True


class Pauses:
    """Which Stripe accounts are left alone for now; read once a run, shared by its threads."""

    def __init__(self, pushes: Pushes, clock: Clock) -> None:
        self._pushes = pushes
        self._clock = clock
        self._until: dict[tuple[str, Mode], datetime | None] = {}

    def hold(self, account: str, mode: Mode) -> bool:
        """Whether nothing must be sent to an account."""
        if (account, mode) not in self._until:
            self._until[account, mode] = self._pushes.paused_until(account, mode)
        until = self._until[account, mode]
        return until is not None and self._clock.now() < until

    def begin(self, account: str, mode: Mode, reason: str) -> None:
        """Leave an account alone from now on."""
        until = self._clock.now() + ACCOUNT_PAUSE
        self._until[account, mode] = until
        self._pushes.pause(account, mode, until, reason)


class Pusher:
    """Takes streams through the protocol for one thread, and counts what happens.

    What is open is settled stream by stream; new pushes are planned first and then sent together.
    A stream that somebody else has stored meanwhile is not ours to go on with: they will.
    """

    def __init__(
        self,
        pushes: Pushes,
        billing: Billing,
        clock: Clock,
        pauses: Pauses,
        incarnation: int,
        has_time: Callable[[], bool],
    ) -> None:
        self._pushes = pushes
        self._billing = billing
        self._clock = clock
        self._pauses = pauses
        self._incarnation = incarnation
        self._has_time = has_time
        self._planned: list[Change] = []
        self.happenings = Happenings()

    def settle(self, stream: PushStream, closes_at: datetime) -> PushStream | None:
        """Do what the open push needs now, if anything; None when the stream is not ours now.

        From `closes_at` on its period takes no usage any more.
        """
        if stream.open is not None and stream.key.incarnation != self._incarnation:
            return self._supersede(stream)
        match next_step(stream, self._clock.now(), closes_at=closes_at):
            case Step.SEND:
                return stream if self._is_paused(stream) else self._send(stream)
            case Step.RESOLVE:
                return self._resolve(stream)
            case Step.ABANDON | Step.REPLACE | Step.ASK as step:
                return self._keep(without_request(stream, step, self._clock.now()))
            case Step.WAIT:
                self.happenings.held["waiting"] += 1
        return stream

    def tell(
        self,
        stream: PushStream,
        desired: int,
        *,
        used_at: datetime,
        closes_at: datetime,
        customer: Customer,
    ) -> None:
        """Plan the push from what Stripe has accepted to what is wanted; `send_planned` does it."""
        planned = plan(stream, desired, self._clock.now(), used_at, closes_at=closes_at)
        if isinstance(planned, Held):
            self._hold(planned)
            if planned in {Held.NOTHING_NEW, Held.LATE_AFTER_CLOSE}:
                self.let_go(stream)
            return
        self._planned.append(Change(planned, customer=None if stream.version else customer))
        if len(self._planned) == PUSHES_AT_ONCE:
            self.send_planned()

    def let_go(self, stream: PushStream) -> None:
        """Stop looking at a stream for which nothing is to be done before its counter changes."""
        is_refused = stream.stopped is not None and stream.stopped.until is not None
        if stream.version and stream.open is None and (stream.is_due or is_refused):
            self._store(retired(stream))

    def carry(self, carried: Carried, customer: Customer) -> None:
        """Leave what a closed period was not told to the period that is open now."""
        changes = [Change(one, customer=None if one.version else customer) for one in carried]
        stored = self._pushes.store_together(changes)
        if stored is None:
            self._note_overtaken(1)
            return
        self.happenings.carried += 1
        closed, receiving = stored
        told_in = times.to_text(receiving.key.period.start)
        out = canonical(closed.carried_out)
        self._log("carried", closed, None, carried_out=out, told_in=told_in)

    def send_planned(self) -> None:
        """Stamp all planned pushes in one write, send each, and commit them in one more.

        Stamped in the same write as planned: a push that is stored has left, or will be taken to
        have. A crash on the way leaves several of them SENT where it once left one; each is
        repeated like any other whose outcome is unknown.
        """
        planned, self._planned = self._planned, []
        self.happenings.planned += len(planned)
        stored = self._store_all([self._stamped(change) for change in planned])
        stamped = [one for one in stored if one.open and one.open.state is PushState.SENT]
        self._keep_all(list(self._answers(stamped)))

    def _stamped(self, change: Change) -> Change:
        if self._is_paused(change.stream):
            return change
        return change._replace(stream=stamp(change.stream, self._clock.now()))

    def _answers(self, stamped: Sequence[PushStream]) -> Iterator[tuple[Verdict, str]]:
        """What became of each, with the name of Stripe's answer."""
        for stream in stamped:
            with minding(self.happenings, stream.key.counter.customer):
                yield self._answer(stream)

    def _answer(self, stream: PushStream) -> tuple[Verdict, str]:
        """Send a push that was just stamped; it is recalled when it must not be sent any more."""
        if self._is_late(stream):
            self.happenings.held["waiting"] += 1
            return Verdict(recall(stream)), ""
        if self._is_paused(stream):
            return Verdict(recall(stream)), ""
        answer = self._ask(stream)
        return classify(stream, answer, self._clock.now()), name_of(answer)

    def _is_late(self, stream: PushStream) -> bool:
        push = stream.open
        assert push is not None
        stamped_at = push.last_attempt_at or push.planned_at
        return self._clock.now() >= stamped_at + SEND_WITHIN or not self._has_time()

    def _hold(self, reason: Held) -> None:
        if reason in {Held.NOTHING_NEW, Held.PUSH_OPEN}:
            return  # Of an open push, `settle` has told why it stays open.
        self.happenings.held[reason] += 1
        self.happenings.must_return |= reason is Held.NO_FREE_MINUTE

    # --- sending ---

    def _send(self, stream: PushStream) -> PushStream | None:
        stamped = self._store(stamp(stream, self._clock.now()))
        if stamped is None:
            return None
        answer = self._ask(stamped)
        verdict = classify(stamped, answer, self._clock.now())
        return self._keep(verdict, answer=name_of(answer))

    def _ask(self, stamped: PushStream) -> Answer:
        """Send the open push, once."""
        answer = self._billing.send(request_of(stamped))
        self.happenings.sent += 1
        self.happenings.answers[name_of(answer)] += 1
        if isinstance(answer, NotAllowed):
            target = stamped.key.target
            self._pauses.begin(target.account, target.mode, answer.message)
        return answer

    def _is_paused(self, stream: PushStream) -> bool:
        target = stream.key.target
        # A key that opens the other world leaves what is open in this one to its own.
        is_ours = target.mode is self._billing.mode
        if is_ours and not self._pauses.hold(target.account, target.mode):
            return False
        self.happenings.held["account_paused"] += 1
        return True

    def _keep(self, verdict: Verdict, **facts: Any) -> PushStream | None:
        """Store what an answer came to."""
        stored = self._store(verdict.stream, verdict.closed)
        if stored is not None:
            self._tell_of(verdict, stored, facts)
        return stored

    def _keep_all(self, answered: Sequence[tuple[Verdict, str]]) -> None:
        changes = [Change(verdict.stream, verdict.closed) for verdict, _ in answered]
        kept = {stored.key.id: stored for stored in self._store_all(changes)}
        for verdict, answer in answered:
            stored = kept.get(verdict.stream.key.id)
            if stored is not None:
                self._tell_of(verdict, stored, {"answer": answer})

    def _tell_of(self, verdict: Verdict, stored: PushStream, facts: dict[str, Any]) -> None:
        push = verdict.closed or verdict.stream.open
        self.happenings.accepted += push is not None and push.state is PushState.ACCEPTED
        self._log(push.state if push else "stored", stored, push, alarm=verdict.alarm, **facts)

    def _store(self, stream: PushStream, closed: Push | None = None) -> PushStream | None:
        stored = self._pushes.store(stream, closed)
        if stored is None:
            self._note_overtaken(1)
        return stored

    def _store_all(self, changes: Sequence[Change]) -> list[PushStream]:
        """Those that are stored; one that meets a bug of ours leaves the others alone."""
        try:
            outcomes = self._pushes.store_all(changes)
        except RetryableError:
            raise
        except Exception:
            if len(changes) == 1:
                raise
            log.exception("our own bug, in one of %d streams", len(changes))
            return [stored for change in changes for stored in self._store_alone(change)]
        stored = [stream for stream in outcomes if stream is not None]
        self._note_overtaken(len(changes) - len(stored))
        return stored

    def _store_alone(self, change: Change) -> list[PushStream]:
        with minding(self.happenings, change.stream.key.counter.customer):
            return self._store_all([change])
        return []

    def _note_overtaken(self, streams: int) -> None:
        self.happenings.held["another_writer"] += streams
        self.happenings.must_return |= streams > 0

    # --- when nobody knows ---

    def _resolve(self, stream: PushStream) -> PushStream | None:
        """Look what the open push's own minute holds at Stripe."""
        push = stream.open
        assert push is not None
        length = ONE_MINUTE if stream.key.hour is None else ONE_HOUR
        minute = Span(push.occurred_at, push.occurred_at + length)
        try:
            seen = self._total(stream, minute)
        except RetryableError:
            self.happenings.held["stripe_unavailable"] += 1
            return stream
        verdict = judge_minute(stream, seen, self._clock.now())
        return self._keep(verdict, seen=seen)

    def _total(self, stream: PushStream, span: Span) -> int:
        target = stream.key.target
        total = self._billing.total(stream.meter_id, target.customer, span, target.account)
        return floor_scaled(total, 0)

    # --- after a restore from a backup ---

    def _supersede(self, stream: PushStream) -> PushStream | None:
        """Close a push of a former life; a new life begins with what Stripe's summary holds."""
        now = self._clock.now()
        closed = close(stream, PushState.VOID, now, resolution="superseded")
        return self._keep(Verdict(*closed))

    def begin(
        self, stream: PushStream, others: Collection[PushStream], customer: Customer
    ) -> PushStream | None:
        """A stream that was never stored; in a later life of the store, with what Stripe holds.

        Then it is stored though there may be nothing to tell: what a former life's stream beside it
        says was told is what the backup knew, and whoever compares it with Stripe must not read it
        any more. None when somebody else has stored it meanwhile.

        Where a value is set it is told again, whatever Stripe holds.
        """
        if stream.version or not self._incarnation:
            return stream
        if stream.kind is not StreamKind.DELTA:
            return replace(stream, is_due=True)
        period, now = stream.key.period, self._clock.now()
        told = self._total(stream, readable(period, now))
        begun = replace(stream, accepted=told, accepted_at=now)
        if not (told or others):
            return begun  # Nothing was told in any life.
        return next(iter(self._store_all([Change(begun, customer=customer)])), None)

    def end_former_lives(self, stream: PushStream, others: Iterable[PushStream]) -> None:
        """What streams of former lives waited for is done by the present one, once it is stored."""
        for former in others if stream.version else ():
            is_same = former.key._replace(incarnation=stream.key.incarnation) == stream.key
            is_open = former.open is not None or former.item is not None
            if is_same and former.needs_attention and not is_open:
                self._store(replace(former, stopped=None, is_due=False))

    def _log(self, decision: str, stream: PushStream, push: Push | None, **facts: Any) -> None:
        alarm = facts.pop("alarm", "")
        level = logging.WARNING if alarm else logging.INFO
        if not log.isEnabledFor(level):
            return
        line: dict[str, Any] = {"decision": decision, "tenant": stream.key.counter.tenant}
        line |= {"metric": stream.key.counter.metric, "accepted_total": stream.accepted}
        if push is not None:
            line |= {"identifier": push.identifier, "delta": push.delta}
            line |= {"attempts": push.attempts, "error": push.last_error}
        line |= facts | {"alarm": alarm}
        log.log(level, "%s", json.dumps({name: value for name, value in line.items() if value}))


def name_of(answer: Answer) -> str:
    """An answer's kind as a word: `RateLimited` is `rate_limited`."""
    name = type(answer).__name__
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)[1:]


def request_of(stream: PushStream) -> MeterEvent | UsageRecord:
    """What the stream's open push sends: nothing but what was frozen when it was planned."""
    push = stream.open
    assert push is not None
    if stream.kind is StreamKind.LEGACY:
        return UsageRecord(
            account=stream.key.target.account,
            subscription_item=stream.key.target.subscription_item,
            quantity=push.value,
            occurred_at=push.occurred_at,
            idempotency_key=push.idempotency_key,
        )
    return MeterEvent(
        account=stream.key.target.account,
        event_name=stream.key.target.event_name,
        customer=stream.key.target.customer,
        value=push.value,
        occurred_at=push.occurred_at,
        identifier=push.identifier,
        idempotency_key=push.idempotency_key,
    )
