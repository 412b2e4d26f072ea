"""Everything the stand-in remembers, per Stripe account.

Nothing here is changed but through `World.record(change)`: it applies the change and notes it, so
that a journal of changes is the whole state and replaying it is the only way to load one.
Objects are kept as Stripe's JSON shows them, never changed in place, oldest first.
"""

import heapq
from bisect import insort
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple, Protocol

from local.stripe.clock import SettableClock
from local.stripe.ids import Ids
from local.stripe.wire import Json

DEFAULT_ACCOUNT = "acct_standin"
DAY = timedelta(days=1)
SUMMARY_DELAY_S = 1.0

METER = "billing.meter"
CUSTOMER = "customer"
PRODUCT = "product"
PRICE = "price"
SUBSCRIPTION = "subscription"
ITEM = "subscription_item"


@dataclass(frozen=True, slots=True)
class Settings:
    """What differs between Stripe accounts, or is known by hearsay only."""

    summary_delay_s: float = SUMMARY_DELAY_S
    """How long after its receipt a meter event stays out of the summaries."""
    identifier_memory_s: float = DAY.total_seconds()
    """How long a meter event's identifier is refused; at this age exactly it is forgotten."""
    answer_after_s: float = 0.0
    """How long every answer takes; the effect comes first."""
    decimals: bool = False
    """Whether meter event values may have decimals."""
    negatives: bool = True
    """Whether meter event values may be below zero."""
    zero_rows: bool = False
    """Whether a summary without events is a row of 0, rather than no row."""
    asynchronous: frozenset[str] = frozenset()
    """Codes of meter event errors that are found only after a 200."""


@dataclass(frozen=True, slots=True)
class MeterEvent:
    """A meter event that was received and will count."""

    number: int
    """The order of receipt within the account."""
    identifier: str
    event_name: str
    meter: str
    customer: str
    value: Decimal
    timestamp: int
    received_at: datetime
    counts_from: datetime
    """From when on it shows in summaries."""
    cancelled_from: datetime | None = None
    foreign: bool = False
    """Injected by a control call, as if another writer had sent it."""


class StreamKey(NamedTuple):
    """Whose usage of what."""

    meter: str
    customer: str


@dataclass(frozen=True, slots=True)
class Rejection:
    """A meter event that was answered 200 and turned out wrong afterwards."""

    number: int
    identifier: str
    idempotency_key: str | None
    event_name: str
    meter: str | None
    code: str
    message: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Receipt:
    """The last use of an identifier."""

    received_at: datetime
    stream: StreamKey | None
    number: int


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """The first answer to an idempotency key."""

    status: int
    body: bytes
    headers: dict[str, str]
    fingerprint: str
    request_id: str
    at: datetime


@dataclass(slots=True)
class Account:
    """One Stripe account in test mode."""

    id: str
    objects: dict[str, dict[str, Json]] = field(default_factory=dict)
    streams: dict[StreamKey, list[MeterEvent]] = field(default_factory=dict)
    """Each sorted by timestamp, equal timestamps by receipt."""
    receipts: dict[str, Receipt] = field(default_factory=dict)
    """By identifier, oldest first."""
    rejections: list[Rejection] = field(default_factory=list)
    answers: dict[str, StoredAnswer] = field(default_factory=dict)
    """By idempotency key, oldest first."""
    received: int = 0
    meter_of: dict[str, str] = field(default_factory=dict)
    """The active meter of an event name."""
    items_of: dict[str, list[str]] = field(default_factory=dict)
    """The items of a subscription, oldest first."""
    due: list[tuple[int, str]] = field(default_factory=list)
    """When which subscription renews or ends (a heap; outdated entries stay in it)."""
    due_of: dict[str, int] = field(default_factory=dict)
    """The one entry of the heap that is valid for a subscription."""

    def all(self, kind: str) -> dict[str, Json]:
        """The objects of a kind by id, oldest first."""
        return self.objects.setdefault(kind, {})

    def get(self, kind: str, identity: str) -> Json | None:
        """An object, None when there is no such one or it was deleted."""
        found = self.all(kind).get(identity)
        return None if found is None or found.get("deleted") else found

    def newest_first(self, kind: str) -> Iterator[Json]:
        """The objects of a kind that were not deleted."""
        for found in reversed(self.all(kind).values()):
            if not found.get("deleted"):
                yield found

    def items(self, subscription: str) -> list[Json]:
        """A subscription's items, oldest first."""
        return [self.all(ITEM)[identity] for identity in self.items_of.get(subscription, ())]

    def events(self) -> Iterator[MeterEvent]:
        """Every received meter event, in no order."""
        for stream in self.streams.values():
            yield from stream


type Undo = Callable[[], None] | None
"""How to take a step back; None where nobody ever has to."""


class Change(Protocol):
    """One step of the state."""

    def apply(self, world: "World") -> Undo:
        """Take the step."""
        ...


class World:
    """All accounts, the clock, and what is going on."""

    def __init__(self, clock: SettableClock, settings: Settings, *, seed: str) -> None:
        self.clock = clock
        self.settings = settings
        self.ids = Ids(seed)
        self.request_ids = Ids(seed + "/requests")
        self.accounts: dict[str, Account] = {}
        self.in_flight: set[Hashable] = set()
        self.changes: list[Change] = []
        """Those not yet in the journal."""
        self.journaled = False
        self._undos: list[Callable[[], None]] = []
        self._begun_at = 0

    def account(self, identity: str = DEFAULT_ACCOUNT) -> Account:
        """An account; all of them exist."""
        found = self.accounts.get(identity)
        if found is None:
            found = self.accounts[identity] = Account(identity)
        return found

    def record(self, change: Change) -> None:
        """Apply a change and note it for the journal, if there is one."""
        undo = change.apply(self)
        if undo is not None:
            self._undos.append(undo)
        if self.journaled:
            self.changes.append(change)

    def begin(self) -> None:
        """From here on, changes are of one request: all of them stay, or none."""
        self._undos.clear()
        self._begun_at = len(self.changes)

    def roll_back(self) -> None:
        """Take back what was changed since `begin`."""
        for undo in reversed(self._undos):
            undo()
        self._undos.clear()
        del self.changes[self._begun_at :]


# --- the changes ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Put:
    """An object is created, or replaced by its next form."""

    account: str
    content: Json

    def apply(self, world: World) -> Undo:
        """Store it and keep the look-ups right."""
        account = world.account(self.account)
        before = account.all(self.content["object"]).get(self.content["id"])
        _store(account, self.content)
        if before is None:
            return lambda: _unstore(account, self.content)
        return lambda: _store(account, before)


def _store(account: Account, content: Json) -> None:
    kind, identity = content["object"], content["id"]
    account.all(kind)[identity] = content
    if kind == METER:
        _index_meter(account, content)
    elif kind == ITEM:
        _index_item(account, content)
    elif kind == SUBSCRIPTION:
        schedule(account, identity)


def _unstore(account: Account, content: Json) -> None:
    kind, identity = content["object"], content["id"]
    del account.all(kind)[identity]
    if kind == METER and account.meter_of.get(content["event_name"]) == identity:
        del account.meter_of[content["event_name"]]
    elif kind == ITEM:
        account.items_of[content["subscription"]].remove(identity)


def _index_meter(account: Account, meter: Json) -> None:
    name = meter["event_name"]
    if meter["status"] == "active":
        account.meter_of[name] = meter["id"]
    elif account.meter_of.get(name) == meter["id"]:
        del account.meter_of[name]


def _index_item(account: Account, item: Json) -> None:
    subscription = item["subscription"]
    siblings = account.items_of.setdefault(subscription, [])
    if item["id"] not in siblings:
        siblings.append(item["id"])
    schedule(account, subscription)


def schedule(account: Account, subscription: str) -> None:
    """Note when a subscription next needs attention."""
    found = account.get(SUBSCRIPTION, subscription)
    if found is None or found["status"] == "canceled":
        return
    instants = [item["current_period_end"] for item in account.items(subscription)]
    if found["cancel_at"]:
        instants.append(found["cancel_at"])
    if found["status"] == "trialing":
        instants.append(found["trial_end"])
    _enter(account, subscription, min(instants, default=None))


def _enter(account: Account, subscription: str, instant: int | None) -> None:
    """Enter an instant, unless the subscription gets attention before it anyway."""
    pending = account.due_of.get(subscription)
    if instant is not None and (pending is None or instant < pending):
        account.due_of[subscription] = instant
        heapq.heappush(account.due, (instant, subscription))


@dataclass(frozen=True, slots=True)
class Removed:
    """A subscription item is taken off its subscription."""

    account: str
    identity: str

    def apply(self, world: World) -> Undo:
        """Forget it."""
        account = world.account(self.account)
        item = account.all(ITEM).pop(self.identity)
        siblings = account.items_of[item["subscription"]]
        place = siblings.index(self.identity)
        del siblings[place]

        def undo() -> None:
            account.all(ITEM)[self.identity] = item
            siblings.insert(place, self.identity)

        return undo


@dataclass(frozen=True, slots=True)
class EventReceived:
    """A meter event is taken."""

    account: str
    event: MeterEvent

    def apply(self, world: World) -> None:
        """Put it into its stream and remember its identifier."""
        account = world.account(self.account)
        event = self.event
        key = StreamKey(event.meter, event.customer)
        insort(account.streams.setdefault(key, []), event, key=lambda one: one.timestamp)
        account.received = event.number
        _remember(account, event.identifier, Receipt(event.received_at, key, event.number))


def _remember(account: Account, identifier: str, receipt: Receipt) -> None:
    # Taken out first, so that the dictionary stays in order of receipt.
    account.receipts.pop(identifier, None)
    account.receipts[identifier] = receipt


@dataclass(frozen=True, slots=True)
class EventRejected:
    """A meter event was answered 200 and does not count."""

    account: str
    rejection: Rejection

    def apply(self, world: World) -> None:
        """Keep it for the error reports; its identifier is used all the same."""
        account = world.account(self.account)
        account.rejections.append(self.rejection)
        account.received = self.rejection.number
        receipt = Receipt(self.rejection.at, None, account.received)
        _remember(account, self.rejection.identifier, receipt)


@dataclass(frozen=True, slots=True)
class EventCancelled:
    """A meter event stops counting at an instant."""

    account: str
    stream: StreamKey
    number: int
    cancelled_from: datetime

    def apply(self, world: World) -> None:
        """Mark it."""
        stream = world.account(self.account).streams[self.stream]
        for index, event in enumerate(stream):
            if event.number == self.number:
                stream[index] = replace(event, cancelled_from=self.cancelled_from)


@dataclass(frozen=True, slots=True)
class ReceiptsForgotten:
    """The oldest identifiers have passed the time they are remembered."""

    account: str
    count: int

    def apply(self, world: World) -> None:
        """Drop them."""
        receipts = world.account(self.account).receipts
        for identifier in list(receipts)[: self.count]:
            del receipts[identifier]


@dataclass(frozen=True, slots=True)
class Settled:
    """All that is still waiting to be aggregated is aggregated now."""

    at: datetime

    def apply(self, world: World) -> None:
        """Let received events count and cancelled ones stop."""
        for account in world.accounts.values():
            for stream in account.streams.values():
                stream[:] = [self._settled(event) for event in stream]

    def _settled(self, event: MeterEvent) -> MeterEvent:
        if event.counts_from > self.at:
            event = replace(event, counts_from=self.at)
        if event.cancelled_from and event.cancelled_from > self.at:
            event = replace(event, cancelled_from=self.at)
        return event


@dataclass(frozen=True, slots=True)
class Answered:
    """The first answer to an idempotency key."""

    account: str
    key: str
    answer: StoredAnswer

    def apply(self, world: World) -> None:
        """Keep it for replays."""
        answers = world.account(self.account).answers
        answers.pop(self.key, None)
        answers[self.key] = self.answer


@dataclass(frozen=True, slots=True)
class AnswerForgotten:
    """An idempotency key has passed the time it is remembered."""

    account: str
    key: str

    def apply(self, world: World) -> None:
        """Drop it."""
        del world.account(self.account).answers[self.key]


@dataclass(frozen=True, slots=True)
class ClockMoved:
    """The stand-in's time was set by a control call."""

    offset: timedelta
    stands_at: datetime | None

    def apply(self, world: World) -> None:
        """Take up the position."""
        world.clock.restore(self.offset, self.stands_at)


@dataclass(frozen=True, slots=True)
class Wiped:
    """Everything is forgotten but the settings and the time."""

    def apply(self, world: World) -> None:
        """Start with no accounts."""
        world.accounts.clear()
        world.in_flight.clear()


CHANGES: tuple[type[Any], ...] = (
    Put,
    Removed,
    EventReceived,
    EventRejected,
    EventCancelled,
    ReceiptsForgotten,
    Settled,
    Answered,
    AnswerForgotten,
    ClockMoved,
    Wiped,
)
