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
INVOICE_GRACE_S = 3_600

METER = "billing.meter"
CUSTOMER = "customer"
PRODUCT = "product"
PRICE = "price"
SUBSCRIPTION = "subscription"
ITEM = "subscription_item"
EVENT = "event"
THIN_EVENT = "v2.core.event"
WEBHOOK_ENDPOINT = "webhook_endpoint"
EVENT_DESTINATION = "v2.core.event_destination"
ALERT = "billing.alert"
USAGE_RECORD = "usage_record"
INVOICE = "invoice"
INVOICE_ITEM = "invoiceitem"
TEST_CLOCK = "test_helpers.test_clock"


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
    report_samples: int = 5
    """How many errors of a kind an error report shows at most; Stripe promises none."""
    calls_per_s: int = 0
    """How many calls an account may make in a second before it gets 429; 0 for any number."""
    invoice_grace_s: int = INVOICE_GRACE_S
    """How long the draft of a cycle's end waits before it is finalized."""
    clock_advance_s: float = 0.0
    """How long a test clock stays `advancing`; at 0 the next request finds it `ready`."""
    clock_windows: bool = True
    """Whether timestamps of a clock customer's meter events are held against the test clock."""
    webhooks_in_own_time: bool = False
    """Whether webhooks are signed at the stand-in's time, for a receiver whose clock is moved along
    with it; else they are at the machine's, which nobody can move."""


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


class Cause(NamedTuple):
    """The request that brings something about; nothing where time does."""

    request_id: str | None
    idempotency_key: str | None


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
class PendingDelivery:
    """An event that a destination has not confirmed yet."""

    id: str
    kind: str
    """`event` or `v2.core.event`."""
    event: str
    destination: str
    first_at: datetime
    due_at: datetime
    tried: int = 0
    """How many attempts were answered by anything but a 2xx."""


@dataclass(frozen=True, slots=True)
class KeyRule:
    """What one API key may do; a key without a rule may do everything."""

    scopes: frozenset[str] | None = None
    """Such as `billing_meter_read`; None for all of them."""
    revoked: bool = False
    account: str | None = None
    """The account that the key belongs to; None for any."""
    connected: frozenset[str] = frozenset()
    """The other accounts that `Stripe-Account` may name."""


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
class Agenda:
    """When which object needs attention, on one clock."""

    entries: list[tuple[int, str]] = field(default_factory=list)
    """A heap; outdated entries stay in it."""
    valid: dict[str, int] = field(default_factory=dict)
    """The one entry of an object that is not outdated."""

    def enter(self, identity: str, instant: int) -> None:
        """Enter an instant, unless the object gets attention before it anyway."""
        pending = self.valid.get(identity)
        if pending is None or instant < pending:
            self.valid[identity] = instant
            heapq.heappush(self.entries, (instant, identity))

    def due(self, until: int) -> Iterator[tuple[int, str]]:
        """Take out what is due, also what is entered meanwhile, in the order of time."""
        while self.entries and self.entries[0][0] <= until:
            instant, identity = heapq.heappop(self.entries)
            if self.valid.get(identity) == instant:
                del self.valid[identity]
                yield instant, identity


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
    """Of v1 by idempotency key, oldest first."""
    answers_of_v2: dict[str, StoredAnswer] = field(default_factory=dict)
    """Of v2 by idempotency key, oldest first."""
    deliveries: dict[str, PendingDelivery] = field(default_factory=dict)
    """Webhooks that are still to be delivered, oldest first."""
    received: int = 0
    reported: int = 0
    """Up to which receipt the rejections are in error reports."""
    meter_of: dict[str, str] = field(default_factory=dict)
    """The active meter of an event name."""
    items_of: dict[str, list[str]] = field(default_factory=dict)
    """The items of a subscription, oldest first."""
    agendas: dict[str | None, Agenda] = field(default_factory=dict)
    """What happens by itself, by test clock; under None on the stand-in's own clock."""
    pending_items: dict[str, list[str]] = field(default_factory=dict)
    """A customer's invoice items that are on no invoice yet, oldest first."""

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

    def agenda(self, clock: str | None) -> Agenda:
        """What happens by itself on a test clock, or on the stand-in's own."""
        return self.agendas.setdefault(clock, Agenda())

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
        self.key_rules: dict[str, KeyRule] = {}
        self.cause = Cause(None, None)
        """The request that is being executed."""
        self.before: dict[tuple[str, str, str], Json] = {}
        """What the objects that a request replaced were before it, by account, kind and id."""
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
        self.before.clear()
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
        world.before[self.account, self.content["object"], self.content["id"]] = before
        return lambda: _store(account, before)


def _store(account: Account, content: Json) -> None:
    kind, identity = content["object"], content["id"]
    account.all(kind)[identity] = content
    if kind == METER:
        _index_meter(account, content)
    elif kind == ITEM:
        _index_item(account, content)
    elif kind == INVOICE_ITEM:
        _index_invoice_item(account, content)
    elif kind in _SCHEDULED:
        schedule(account, kind, identity)


def _unstore(account: Account, content: Json) -> None:
    kind, identity = content["object"], content["id"]
    del account.all(kind)[identity]
    if kind == METER and account.meter_of.get(content["event_name"]) == identity:
        del account.meter_of[content["event_name"]]
    elif kind == ITEM:
        account.items_of[content["subscription"]].remove(identity)
    elif kind == INVOICE_ITEM:
        _index_invoice_item(account, {"id": identity, "deleted": True})


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
    schedule(account, SUBSCRIPTION, subscription)


def _index_invoice_item(account: Account, item: Json) -> None:
    if not item.get("deleted") and item["invoice"] is None:
        pending = account.pending_items.setdefault(item["customer"], [])
        if item["id"] not in pending:
            pending.append(item["id"])
        return
    for pending in account.pending_items.values():
        if item["id"] in pending:
            pending.remove(item["id"])
            return


def schedule(account: Account, kind: str, identity: str) -> None:
    """Note when an object next needs attention, if ever, on the clock that it lives on."""
    found = account.get(kind, identity)
    if found is None:
        return
    instant = _SCHEDULED[kind](account, found)
    if instant is not None:
        account.agenda(found.get("test_clock")).enter(identity, instant)


def _subscription_due(account: Account, subscription: Json) -> int | None:
    if subscription["status"] == "canceled":
        return None
    instants = [item["current_period_end"] for item in account.items(subscription["id"])]
    if subscription["cancel_at"]:
        instants.append(subscription["cancel_at"])
    if subscription["status"] == "trialing":
        instants.append(subscription["trial_end"])
    return min(instants, default=None)


def _invoice_due(_: Account, invoice: Json) -> int | None:
    """A draft is finalized by itself, unless it is held."""
    at: int | None = invoice["automatically_finalizes_at"]
    return at


def _clock_due(_: Account, clock: Json) -> int | None:
    """An advancing clock arrives; the instant is one of the stand-in's own clock."""
    at: int | None = clock["arrives_at"]
    return at


_SCHEDULED: dict[str, Callable[[Account, Json], int | None]] = {
    SUBSCRIPTION: _subscription_due,
    INVOICE: _invoice_due,
    TEST_CLOCK: _clock_due,
}


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
class RejectionsReported:
    """The rejections up to a receipt are in error reports."""

    account: str
    number: int

    def apply(self, world: World) -> Undo:
        """Remember how far the reports go."""
        account = world.account(self.account)
        before, account.reported = account.reported, self.number

        def undo() -> None:
            account.reported = before

        return undo


@dataclass(frozen=True, slots=True)
class DeliveryScheduled:
    """A destination is to be told of an event, or told again."""

    account: str
    delivery: PendingDelivery

    def apply(self, world: World) -> Undo:
        """Keep it until it is confirmed."""
        deliveries = world.account(self.account).deliveries
        before = deliveries.get(self.delivery.id)
        deliveries[self.delivery.id] = self.delivery

        def undo() -> None:
            if before is None:
                del deliveries[self.delivery.id]
            else:
                deliveries[self.delivery.id] = before

        return undo


@dataclass(frozen=True, slots=True)
class DeliveryEnded:
    """A destination was told of an event, or never will be."""

    account: str
    delivery: str

    def apply(self, world: World) -> None:
        """Forget it."""
        del world.account(self.account).deliveries[self.delivery]


@dataclass(frozen=True, slots=True)
class KeyRuled:
    """What an API key may do was set by a control call."""

    key: str
    rule: KeyRule

    def apply(self, world: World) -> None:
        """Hold the key to it."""
        world.key_rules[self.key] = self.rule


@dataclass(frozen=True, slots=True)
class Answered:
    """The first answer to an idempotency key."""

    account: str
    key: str
    answer: StoredAnswer
    of_v2: bool = False

    def apply(self, world: World) -> None:
        """Keep it for replays."""
        account = world.account(self.account)
        answers = account.answers_of_v2 if self.of_v2 else account.answers
        answers.pop(self.key, None)
        answers[self.key] = self.answer


@dataclass(frozen=True, slots=True)
class AnswerForgotten:
    """An idempotency key has passed the time it is remembered."""

    account: str
    key: str
    of_v2: bool = False

    def apply(self, world: World) -> None:
        """Drop it."""
        account = world.account(self.account)
        del (account.answers_of_v2 if self.of_v2 else account.answers)[self.key]


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
        world.key_rules.clear()


CHANGES: tuple[type[Any], ...] = (
    Put,
    Removed,
    EventReceived,
    EventRejected,
    EventCancelled,
    ReceiptsForgotten,
    Settled,
    RejectionsReported,
    DeliveryScheduled,
    DeliveryEnded,
    KeyRuled,
    Answered,
    AnswerForgotten,
    ClockMoved,
    Wiped,
)
