"""A tenant's books against a dictionary, whatever is sent, decided and delivered, in any order.

The real ingest, aggregator, adjustments and usage report work over ports in memory. The model knows
each accepted event and each decision, and works out every month's number from scratch.
"""

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as some
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from metering import times
from metering.adjustment import Reason, held_id
from metering.adjustments import Wanted
from metering.errors import BadRequestError
from metering.names import CustomerRef, IdempotencyKey, Metric
from metering.period import Span
from tests.builders import DEMO
from tests.property.held_books import HeldBooks

LATE_AFTER = timedelta(hours=48)
YEARS = Span(datetime(2026, 1, 1, tzinfo=UTC), datetime(2028, 1, 1, tzinfo=UTC))
METRICS = ("sum", "count", "max", "last")
CUSTOMERS = ("ann", "bob")
TICK = timedelta(microseconds=1)
AGES = [timedelta(), timedelta(hours=5), LATE_AFTER, LATE_AFTER + TICK, timedelta(days=21)]
QUANTITIES = some.sampled_from(["1", "2", "0.000000000001", "999999999999999.999999999999"])
counters = some.tuples(some.sampled_from(METRICS), some.sampled_from(CUSTOMERS))
indexes = some.integers(0, 99)


@dataclass
class Sent:
    """An event that was accepted."""

    metric: str
    customer: str
    quantity: str
    at: datetime
    is_late: bool
    decision: str = ""
    """Of a late one: `approved`, then perhaps `reverted`."""

    @property
    def counts(self) -> bool:
        return not self.is_late or self.decision == "approved"


@dataclass
class Adjusted:
    """A correction by hand."""

    metric: str
    customer: str
    delta: int
    month: datetime
    decision: str = ""


@dataclass
class Model:
    """What was accepted and decided, and the number that it comes to."""

    events: dict[str, Sent] = field(default_factory=dict)
    adjustments: dict[str, Adjusted] = field(default_factory=dict)

    def months(self, metric: str, customer: str) -> dict[datetime, Fraction]:
        """A counter's number in every month of which it holds anything."""
        own = {k: e for k, e in self.events.items() if (e.metric, e.customer) == (metric, customer)}
        decided = [
            one
            for one in self.adjustments.values()
            if (one.metric, one.customer) == (metric, customer) and one.decision
        ]
        starts = {month_of(one.at) for one in own.values()} | {one.month for one in decided}
        return {start: self._value(metric, own, decided, start) for start in sorted(starts)}

    def _value(
        self, metric: str, own: dict[str, Sent], decided: list[Adjusted], month: datetime
    ) -> Fraction:
        counted = sorted(
            (one.at, key, Fraction(one.quantity))
            for key, one in own.items()
            if one.counts and month_of(one.at) == month
        )
        quantities = [quantity for _, _, quantity in counted]
        value = {
            "sum": sum(quantities),
            "count": len(quantities),
            "max": max(quantities, default=0),
            "last": quantities[-1] if quantities else 0,
        }[metric]
        standing = [one for one in decided if one.decision == "approved" and one.month == month]
        return Fraction(value) + sum(one.delta for one in standing)


def month_of(instant: datetime) -> datetime:
    return datetime(instant.year, instant.month, 1, tzinfo=UTC)


class BooksOfATenant(RuleBasedStateMachine):
    """Send, send again, contradict, deliver, adjust, approve, revert, let a month close, report."""

    @initialize()
    def begin(self) -> None:
        self.books = HeldBooks()
        self.model = Model()

    # --- what is sent ---

    @rule(counter=counters, quantity=QUANTITIES, age=some.sampled_from(AGES))
    def send(self, counter: tuple[str, str], quantity: str, age: timedelta) -> None:
        key = f"k{len(self.model.events)}"
        sent = Sent(*counter, quantity, self.now - age, is_late=age > LATE_AFTER)
        (result,) = self.books.send(_body(key, sent))
        assert (result.status, result.is_late) == ("accepted", sent.is_late)
        self.model.events[key] = sent

    @precondition(lambda self: self.model.events)
    @rule(index=indexes, zeros=some.sampled_from(["", "0", "00"]))
    def send_again(self, index: int, zeros: str) -> None:
        key, sent = self._pick(self.model.events, index)
        quantity = sent.quantity + ("." if zeros and "." not in sent.quantity else "") + zeros
        (result,) = self.books.send(_body(key, sent, quantity=quantity))
        assert result.status == "duplicate"

    @precondition(lambda self: self.model.events)
    @rule(index=indexes, change=some.sampled_from(["quantity", "ts", "customerRef", "meta"]))
    def contradict(self, index: int, change: str) -> None:
        key, sent = self._pick(self.model.events, index)
        others = {
            "quantity": "7.5",
            "ts": times.to_text(sent.at - TICK),
            "customerRef": "eve",
            "meta": {"a": 1},
        }
        (result,) = self.books.send(_body(key, sent, **{change: others[change]}))
        assert result.status == "conflict"

    @rule(length=some.integers(1, 9), back=some.integers(0, 9), process=some.integers(0, 1))
    def deliver(self, length: int, back: int, process: int) -> None:
        self.books.deliver(length, back=back, process=process)

    # --- what is decided ---

    @rule(counter=counters, delta=some.sampled_from([-3, 1, 1000]), is_last_month=some.booleans())
    def adjust(self, counter: tuple[str, str], delta: int, is_last_month: bool) -> None:  # noqa: FBT001 (drawn)
        metric, customer = counter
        month = month_of(month_of(self.now) - TICK) if is_last_month else month_of(self.now)
        wanted = Wanted(
            DEMO, Metric(metric), CustomerRef(customer), month, Decimal(delta), Reason.CORRECTION
        )
        made = self.books.adjustments.create(wanted, "api:ann")
        self.model.adjustments[made.id] = Adjusted(metric, customer, delta, month)

    @precondition(lambda self: self.model.adjustments)
    @rule(index=indexes)
    def approve(self, index: int) -> None:
        self._approve(*self._pick(self.model.adjustments, index))

    @precondition(lambda self: self._late())
    @rule(index=indexes)
    def approve_late(self, index: int) -> None:
        key, sent = self._pick(self._late(), index)
        self._approve(held_id(IdempotencyKey(key)), sent)

    @precondition(lambda self: self.model.adjustments)
    @rule(index=indexes)
    def revert(self, index: int) -> None:
        self._revert(*self._pick(self.model.adjustments, index))

    @precondition(lambda self: self._late())
    @rule(index=indexes)
    def revert_late(self, index: int) -> None:
        key, sent = self._pick(self._late(), index)
        self._revert(held_id(IdempotencyKey(key)), sent)

    def _approve(self, adjustment_id: str, about: Sent | Adjusted) -> None:
        if about.decision == "reverted":
            with pytest.raises(BadRequestError):
                self.books.adjustments.approve(DEMO, adjustment_id, "api:bob")
            return
        decision = self.books.adjustments.approve(DEMO, adjustment_id, "api:bob")
        assert decision.is_new == (not about.decision)
        about.decision = "approved"

    def _revert(self, adjustment_id: str, about: Sent | Adjusted) -> None:
        is_lasting = isinstance(about, Sent) and about.metric in {"max", "last"}
        if about.decision != "approved" or is_lasting:
            with pytest.raises(BadRequestError):
                self.books.adjustments.revert(DEMO, adjustment_id, "api:bob")
            return
        assert self.books.adjustments.revert(DEMO, adjustment_id, "api:bob").is_new
        about.decision = "reverted"

    # --- time, and what is reported ---

    @rule(days=some.sampled_from([1, 2, 11]))
    def later(self, days: int) -> None:
        """Events are late by now that were not, and months close."""
        self.books.clock.advance(timedelta(days=days))

    @rule()
    def report(self) -> None:
        self.books.deliver_all()
        for customer in CUSTOMERS:
            for metric in METRICS:
                months = self.books.months(customer, metric, YEARS)
                held = {start: Fraction(value) for start, value in months.items()}
                assert held == self.model.months(metric, customer)
            self._compare_with_now(customer)

    def _compare_with_now(self, customer: str) -> None:
        """What the API answers about the present month is what its text says, to the last digit."""
        body = json.loads(self.books.usage_now(customer), parse_int=Fraction, parse_float=Fraction)
        now = {one["name"]: one["current"] for one in body["metrics"]}
        wanted = {name: self.model.months(name, customer) for name in METRICS}
        this = month_of(self.now)
        assert now == {name: own[this] for name, own in wanted.items() if this in own}

    # --- what must hold ---

    @invariant()
    def the_ledger_holds_each_accepted_event_once(self) -> None:
        if hasattr(self, "books"):
            keys = [one.event.key for one in self.books.ledger.of_tenant(DEMO)]
            own = [key for key in keys if not key.startswith("adjustment:")]
            assert own == list(self.model.events)
            assert len(self.books.ledger.stream) == len(keys)

    def teardown(self) -> None:
        if hasattr(self, "books"):
            self.report()

    @property
    def now(self) -> datetime:
        return self.books.clock.now()

    def _late(self) -> dict[str, Sent]:
        return {key: one for key, one in self.model.events.items() if one.is_late}

    def _pick[T](self, known: dict[str, T], index: int) -> tuple[str, T]:
        return list(known.items())[index % len(known)]


def _body(key: str, sent: Sent, **changes: Any) -> str:
    event = {
        "metric": sent.metric,
        "customerRef": sent.customer,
        "quantity": sent.quantity,
        "ts": times.to_text(sent.at),
        "idempotencyKey": key,
    }
    return json.dumps([event | changes])


BooksOfATenant.TestCase.settings = settings(stateful_step_count=50)
TestBooksOfATenant = BooksOfATenant.TestCase
