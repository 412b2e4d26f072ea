"""The pure push core against a model of Stripe, through any order of answers, crashes and clocks.

The model remembers identifiers and idempotency keys for a day and not a second longer, shows usage
in its summaries some minutes late, and answers or fails as it is told. Our writers' clocks are off
by up to five minutes, each by its own.
"""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import NamedTuple

from hypothesis import settings
from hypothesis import strategies as some
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from metering.counter import CounterKey
from metering.delivery import (
    Accepted,
    AlreadyExists,
    Answer,
    InFlight,
    NotAllowed,
    OutcomeUnknown,
    RateLimited,
    Refused,
    ServerError,
    Step,
    Verdict,
    classify,
    resolve,
    without_request,
)
from metering.names import CustomerRef, Metric, TenantId
from metering.period import Span
from metering.push import (
    Mode,
    Push,
    PushState,
    PushStream,
    StreamKey,
    Target,
    is_stopped,
    recall,
    reject_async,
    stamp,
)
from tests.push_steps import closes_at, next_step, plan

NOVEMBER = Span(datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC))
START = datetime(2026, 11, 4, 12, tzinfo=UTC)
KEY = StreamKey(
    Target("", Mode.TEST, "api_calls", "cus_ann"),
    CounterKey(TenantId("acme"), CustomerRef("ann"), Metric("api_calls")),
    NOVEMBER,
)
MEMORY = timedelta(hours=24)
LAG = timedelta(minutes=10)
SKEW_S = 300
"""Five minutes."""


class Fault(Enum):
    """What comes between a push and its effect, or between the effect and us."""

    NONE = "none"
    DROPPED_BEFORE = "dropped before"
    DROPPED_AFTER = "dropped after"
    ERROR_BEFORE = "500 before"
    ERROR_AFTER = "500 after"
    RATE_LIMITED = "429"
    IN_FLIGHT = "409"
    NOT_ALLOWED = "401"
    REFUSED = "400"
    UNCOUNTED = "200, rejected later"


class Crash(Enum):
    """Where a writer dies, or thinks better of it."""

    NOWHERE = "nowhere"
    BEFORE_STAMP = "before the stamp"
    AFTER_STAMP = "after the stamp"
    RECALLED = "recalled because its turn came too late"
    AFTER_ANSWER = "after the answer"


class Run(NamedTuple):
    """One run of a writer."""

    later: timedelta
    fault: Fault
    crash: Crash
    skew: timedelta
    """How far the writer's clock is ahead of Stripe's."""


SECOND, HOUR = timedelta(seconds=1), timedelta(hours=1)
SOON = [0 * SECOND, 31 * SECOND, 700 * SECOND, 3601 * SECOND]
LATE = [22 * HOUR, 23 * HOUR, 24.5 * HOUR]
LOST = [Fault.DROPPED_AFTER] * 4 + [Fault.ERROR_AFTER] * 2
RUNS = some.builds(
    Run,
    some.sampled_from(SOON + LATE),
    some.sampled_from(LOST + list(Fault)),
    some.sampled_from([Crash.NOWHERE] * 8 + list(Crash)),
    some.integers(-SKEW_S, SKEW_S).map(lambda seconds: seconds * SECOND),
)


@dataclass
class Event:
    """A meter event that Stripe took."""

    value: int
    minute: datetime
    at: datetime
    counts: bool


@dataclass
class ModelStripe:
    """What of Stripe matters to pushes."""

    events: dict[str, list[Event]] = field(default_factory=dict)
    """By identifier, which counts anew when it is forgotten."""
    answers: dict[str, tuple[datetime, Answer]] = field(default_factory=dict)
    """By idempotency key."""

    def send(self, push: Push, fault: Fault, now: datetime) -> Answer:
        """Answer one request."""
        match fault:
            case Fault.DROPPED_BEFORE:
                return OutcomeUnknown("reset")
            case Fault.RATE_LIMITED:
                return RateLimited("global-rate")
            case Fault.IN_FLIGHT:
                return InFlight()
            case Fault.NOT_ALLOWED:
                return NotAllowed("401")
        answer = self._once(push, fault, now)
        return OutcomeUnknown("timeout") if fault is Fault.DROPPED_AFTER else answer

    def _once(self, push: Push, fault: Fault, now: datetime) -> Answer:
        stored = self.answers.get(push.idempotency_key)
        if stored is not None and now - stored[0] < MEMORY:
            is_success = isinstance(stored[1], Accepted)
            return Accepted(replayed=True) if is_success else stored[1]
        answer = self._execute(push, fault, now)
        self.answers[push.idempotency_key] = (now, answer)
        return answer

    def _execute(self, push: Push, fault: Fault, now: datetime) -> Answer:
        if fault is Fault.ERROR_BEFORE:
            return ServerError("500")
        if fault is Fault.REFUSED:
            return Refused("resource_missing", "No such customer")
        known = self.events.setdefault(push.identifier, [])
        if any(now - event.at < MEMORY for event in known):
            answer: Answer = AlreadyExists("an event already exists")
        else:
            counts = fault is not Fault.UNCOUNTED
            known.append(Event(int(push.value), push.occurred_at, now, counts))
            answer = Accepted()
        return ServerError("500") if fault is Fault.ERROR_AFTER else answer

    def minute(self, minute: datetime, now: datetime) -> int:
        """The summary of a minute, some minutes late."""
        return sum(
            event.value
            for events in self.events.values()
            for event in events
            if event.counts and event.minute == minute and now - event.at >= LAG
        )

    def counted(self, identifier: str) -> list[Event]:
        """How often an identifier counted."""
        return [event for event in self.events.get(identifier, []) if event.counts]

    @property
    def total(self) -> int:
        """All that counts."""
        return sum(e.value for events in self.events.values() for e in events if e.counts)


class PushesAgainstStripe(RuleBasedStateMachine):
    """One stream in its store, writers that come and die, and Stripe."""

    @initialize()
    def begin(self) -> None:
        self.stripe = ModelStripe()
        self.now = START
        self.desired = 0
        self.stored = PushStream(KEY, "mtr_1", scale=0)
        self.history: dict[int, Push] = {}

    # --- what happens ---

    @rule(amount=some.integers(-40, 100))
    def use(self, amount: int) -> None:
        self.desired += amount

    @rule(run=RUNS)
    def write(self, run: Run) -> None:
        """A writer runs after some time."""
        self.now += run.later
        self._advance(self.stored, run)

    @rule(runs=some.tuples(RUNS, RUNS))
    def write_at_once(self, runs: tuple[Run, Run]) -> None:
        """Two writers have read the stream, and each goes on as if it were alone."""
        read = self.stored
        for run in runs:
            self.now += min(run.later, 30 * SECOND)
            self._advance(read, run)

    @precondition(lambda self: self._uncounted())
    @rule()
    def notice_a_rejection(self) -> None:
        """What an error report, or a look at the minute, brings to light."""
        push = self._uncounted()[0]
        self._store(*reject_async(self.stored, push, self.now, "archived_meter"), self.stored)

    # --- what a writer does ---

    def _advance(self, read: PushStream, run: Run) -> None:
        ours = self.now + run.skew
        match next_step(read, ours):
            case Step.DONE:
                planned = plan(read, self.desired, ours, ours)
                if isinstance(planned, PushStream):
                    self._send(planned, read, run)
            case Step.SEND:
                self._send(read, read, run)
            case Step.RESOLVE:
                assert read.open is not None
                seen = self.stripe.minute(read.open.occurred_at, self.now)
                self._keep(resolve(read, seen, ours), read)
            case Step.ABANDON | Step.REPLACE | Step.ASK as step:
                self._keep(without_request(read, step, ours), read)

    def _send(self, planned: PushStream, read: PushStream, run: Run) -> None:
        ours = self.now + run.skew
        if run.crash is Crash.BEFORE_STAMP:
            return
        stamped = self._store(stamp(planned, ours), None, read)
        if stamped is None or stamped.open is None or run.crash is Crash.AFTER_STAMP:
            return
        if run.crash is Crash.RECALLED:
            if stamped.open.attempts == 1:
                self._store(recall(stamped), None, stamped)
            return
        answer = self.stripe.send(stamped.open, run.fault, self.now)
        if run.crash is not Crash.AFTER_ANSWER:
            self._keep(classify(stamped, answer, ours), stamped)

    def _keep(self, verdict: Verdict, read: PushStream) -> None:
        self._store(verdict.stream, verdict.closed, read)

    def _store(
        self, stream: PushStream, closed: Push | None, read: PushStream
    ) -> PushStream | None:
        """Only over the version that was read."""
        if read.version != self.stored.version:
            return None
        if closed is not None:
            self.history[closed.seq] = closed
        self.stored = replace(stream, version=read.version + 1)
        return self.stored

    # --- what must hold ---

    def _uncounted(self) -> list[Push]:
        """Accepted pushes that Stripe will never count."""
        return [
            push
            for push in self.history.values()
            if push.state is PushState.ACCEPTED and not self.stripe.counted(push.identifier)
        ]

    @invariant()
    def no_push_counts_twice(self) -> None:
        for identifier in self.stripe.events:
            assert len(self.stripe.counted(identifier)) <= 1, f"{identifier} counted twice"

    @invariant()
    def what_is_closed_counted_as_it_says(self) -> None:
        for push in self.history.values():
            if push.state is not PushState.ACCEPTED:
                assert not self.stripe.counted(push.identifier), f"{push} counted after all"
            else:
                assert push.identifier in self.stripe.events, f"{push} never reached Stripe"

    @invariant()
    def accepted_and_open_cover_what_stripe_counts(self) -> None:
        push = self.stored.open
        is_counted = push is not None and bool(self.stripe.counted(push.identifier))
        covered = self.stored.accepted + (push.delta if push and is_counted else 0)
        assert self.stripe.total == covered - sum(push.delta for push in self._uncounted())

    @invariant()
    def each_push_has_a_minute_of_its_own(self) -> None:
        minutes = [push.occurred_at for push in self.history.values()]
        assert len(set(minutes)) == len(minutes)

    def teardown(self) -> None:
        """All is well at last: whatever its period still takes is told, to the unit."""
        if not hasattr(self, "stored"):
            return
        well = Run(timedelta(), Fault.NONE, Crash.NOWHERE, timedelta())
        for _ in range(60):
            for push in self._uncounted():
                taken_back = reject_async(self.stored, push, self.now, "archived_meter")
                self._store(*taken_back, self.stored)
            self._advance(self.stored, well)
            if self.stored.open is None and not is_stopped(self.stored, self.now):
                is_late = self.now >= closes_at(self.stored)
                if is_late or self.stored.accepted == self.desired:
                    break
            self.now += timedelta(minutes=31)
        assert self.stored.open is None
        assert self.stripe.total == self.stored.accepted
        assert is_late or self.stripe.total == self.desired


PushesAgainstStripe.TestCase.settings = settings(
    max_examples=3 * settings().max_examples // 2, stateful_step_count=40
)
TestPushesAgainstStripe = PushesAgainstStripe.TestCase
