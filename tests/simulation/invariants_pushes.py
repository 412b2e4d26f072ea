"""What Stripe is told, and what it holds: I5, I6, I7, I8, I13 and I14."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import ROUND_FLOOR, Decimal
from typing import Any, NamedTuple
from urllib.parse import parse_qs

from infra.tables import BILLING
from local.stripe.state import ITEM, SUBSCRIPTION, EventCancelled, EventReceived, MeterEvent, Put
from local.stripe.wire import Request, Response
from tests.simulation.aws.dynamodb import Change
from tests.simulation.clients import METRICS
from tests.simulation.invariants_items import (
    WIDE,
    ZERO,
    Entry,
    Item,
    instant,
    name,
    parts_of,
    sums_of,
    together,
)
from tests.simulation.invariants_ledger import LedgerWatch
from tests.simulation.violation import Found
from tests.simulation.world import World

METER_EVENTS = "/v1/billing/meter_events"
DIGITS_MAX = 15
SENDS_MAX = 60
"""Of one identifier: the longest world has some forty runs of the writer in a day."""
FENCE = timedelta(hours=23, minutes=15)
"""Nothing is sent again 23 h after its first attempt; the rest is for skewed clocks, and for
requests that were under way."""
GRACE = timedelta(hours=1)
SKEW = timedelta(minutes=10)


class Sent(NamedTuple):
    """What an identifier stands for."""

    event_name: str
    customer: str
    value: str
    at: int


class ApartItem(NamedTuple):
    """An invoice item for usage that came too late, as its stream's item says."""

    stripe_id: str
    units: int
    amount: int
    price: str


class Stream(NamedTuple):
    """A running total at Stripe, as its item says."""

    id: str
    tenant: str
    customer: str
    metric: str
    start: datetime
    end: datetime
    event_name: str
    stripe_customer: str
    role: str
    kind: str
    scale: int
    accepted: int
    next_seq: int
    carried_in: Decimal
    carried_out: Decimal
    open: Item | None
    is_needy: bool
    """Somebody must look at it again."""
    apart: tuple[ApartItem, ...]
    """The invoice items that bill usage of it by themselves."""
    on_its_way: ApartItem | None
    """The one that is to be next."""
    stopped: str
    """Why it waits for somebody; empty when it does not."""
    life: int
    """Which life of the store began it."""

    @property
    def total(self) -> tuple[str, ...]:
        """What it has in common with the same running total in another life of the store."""
        counter = self.tenant, self.customer, self.metric, self.start.isoformat()
        return *counter, self.event_name, self.stripe_customer, self.role

    @property
    def name(self) -> str:
        """For sentences."""
        return f"{self.metric} of {self.customer} ({self.tenant}) from {self.start:%Y-%m-%d %H:%M}"


def stream_of(item: Item) -> Stream | None:
    """The stream of an item of `billing`; None for others."""
    if "next_seq" not in item:
        return None
    carried = [Decimal(one["M"]["quantity"]["N"]) for one in item["carried_in"]["L"]]
    return Stream(
        item["sk"]["S"].rpartition("#")[2],
        item["tenant"]["S"],
        item["customer"]["S"],
        item["metric"]["S"],
        instant(item["period_start"]["S"]),
        instant(item["period_end"]["S"]),
        item["event_name"]["S"],
        item["stripe_customer"]["S"],
        item["role"]["S"],
        item["kind"]["S"],
        int(item["scale"]["N"]),
        int(item["accepted"]["N"]),
        int(item["next_seq"]["N"]),
        sum(carried, ZERO),
        Decimal(item["carried_out"]["N"]),
        item["open"]["M"] if "open" in item else None,
        item["due"]["BOOL"] or "item" in item or "until" in item.get("stopped", {}).get("M", {}),
        tuple(_apart_item(one["M"]) for one in item["items"]["L"]),
        _apart_item(item["item"]["M"]) if "item" in item else None,
        item["stopped"]["M"]["reason"]["S"] if "stopped" in item else "",
        int(item["incarnation"]["N"]),
    )


def _apart_item(item: Item) -> ApartItem:
    units, amount = int(item["units"]["N"]), int(item["amount"]["N"])
    return ApartItem(item["stripe_id"]["S"], units, amount, item["price_id"]["S"])


def accepted_of(streams: Iterable[Stream]) -> int:
    """What Stripe has taken by some streams: of a total's several lives, by the last one, which
    began with what the others had told."""
    lives: dict[tuple[str, ...], Stream] = {}
    for one in streams:
        if one.total not in lives or lives[one.total].life < one.life:
            lives[one.total] = one
    return sum(one.accepted for one in lives.values())


def floored(total: Decimal, scale: int) -> int:
    """A total in the units that Stripe is told in."""
    return int(total.scaleb(scale, WIDE).to_integral_value(ROUND_FLOOR))


class PushesWatch:
    """Sees each write about pushes, each request to Stripe, and what Stripe makes of it."""

    def __init__(self, world: World, ledger: LedgerWatch, found: Found) -> None:
        self.streams: dict[str, Stream] = {}
        self.planted: list[MeterEvent | EventCancelled] = []
        """What Stripe took or lost without any request."""
        self.sends: Counter[str] = Counter()
        self._world = world
        self._ledger = ledger
        self._found = found
        self.stamped: dict[str, Sent] = {}
        self._first: dict[str, datetime] = {}
        self._closed: dict[str, dict[int, str]] = defaultdict(dict)
        self._peaks: dict[tuple[str, ...], int] = {}
        """The most that the streams of each running total ever planned to have told."""
        self._held: dict[tuple[str, str], Decimal] = defaultdict(Decimal)
        """What Stripe adds up, by event name and customer."""
        self._numbers: dict[int, str] = {}
        self._is_asked = False
        self._starts: dict[str, set[int]] = defaultdict(set)
        """When periods of subscriptions began, by subscription, as Stripe ever said."""
        self.reports: list[bytes] = []
        """All that were ever made, packed."""
        self.shows_from: datetime = world.kernel.now
        """When all that Stripe has taken shows in its summaries."""
        for item in world.core.world.account().all(ITEM).values():
            self._note_start(item)
        world.heard_of_restore = self._restored
        self._handle, self._record = world.core.handle, world.core.world.record
        world.core.handle = self._asked  # type: ignore[method-assign]
        world.core.world.record = self._recorded  # type: ignore[method-assign]

    def _restored(self) -> None:
        """The table is what it was at its backup; what was sent, and planned, remains so."""
        items = self._world.tables.items(BILLING.name)
        found = [stream for item in items if (stream := stream_of(item)) is not None]
        self.streams = {one.id: one for one in found}
        self._closed.clear()
        for item in items:
            if "seq" in item and "identifier" in item:
                self._check_closed(item)

    # --- as items are written ---

    def changed(self, change: Change) -> None:
        """Look at a write."""
        item = change.new_image
        if item is None:
            return
        stream = stream_of(item)
        if stream is not None:
            self._check_stream(stream)
        elif "seq" in item and "identifier" in item:
            self._check_closed(item)
        elif "rows" in item:
            self.reports.append(item["rows"]["B"])

    def _check_stream(self, stream: Stream) -> None:
        before = self.streams.get(stream.id)
        self.streams[stream.id] = stream
        last = before.next_seq if before else 1
        if not last <= stream.next_seq <= last + 1:
            self._found.say(
                "I5", f"{stream.name}: after push {last - 1} comes push {stream.next_seq - 1}"
            )
        if stream.open is None:
            return
        if "first_attempt_at" in stream.open:
            self._stamp(stream, stream.open)
        if stream.next_seq != last:
            self._check_plan(stream, stream.open)

    def _stamp(self, stream: Stream, push: Item) -> None:
        identifier = push["identifier"]["S"]
        at = int(instant(push["occurred_at"]["S"]).timestamp())
        sent = Sent(stream.event_name, stream.stripe_customer, push["value"]["S"], at)
        before = self.stamped.setdefault(identifier, sent)
        if before != sent:
            self._found.say("I6", f"{identifier} was stored as {before} and is now {sent}")

    def _check_plan(self, stream: Stream, push: Item) -> None:
        """No more is planned than was used by now; no value has too many digits."""
        if len(push["value"]["S"].lstrip("-")) > DIGITS_MAX:
            self._found.say("I11", f"{stream.name}: {push['value']['S']} has too many digits")
        if push["correction"]["BOOL"] or stream.kind != "delta":
            return
        planned = stream.accepted + int(push["delta"]["N"])
        self._peaks[stream.total] = max(planned, self._peaks.get(stream.total, 0))
        used = WIDE.add(self._most(stream), self._carried_in(stream))
        if planned > (most := floored(used, stream.scale)):
            self._found.say(
                "I5",
                f"{stream.name}: push {push['identifier']['S']} would make it {planned} in all,"
                f" and never more than {most} were used",
            )

    def _carried_in(self, stream: Stream) -> Decimal:
        """What it tells for closed periods, in all lives of the store."""
        if not stream.life:
            return stream.carried_in
        lives = (one for one in self.streams.values() if one.total == stream.total)
        return sum((one.carried_in for one in lives), ZERO)

    def _most(self, stream: Stream) -> Decimal:
        """The most that usage of the stream's period may have been counted to until now.

        Entries come by several shards: what lowers may be counted after what was written later, as
        an adjustment after its own reversal.
        """
        aggregation = aggregation_of(stream.metric)
        sums, most = together(()), ZERO
        for entry in self._ledger.entries.values():
            if _counts_in(entry, stream) and not _lowers(entry):
                sums = together((sums, sums_of(entry)))
                most = max(most, sums.value(aggregation))
        return most

    def _check_closed(self, item: Item) -> None:
        stream_id, seq = parts_of(item["pk"]["S"])[-1], int(item["seq"]["N"])
        identifier = item["identifier"]["S"]
        if self._closed[stream_id].setdefault(seq, identifier) != identifier:
            self._found.say(
                "I5",
                f"push {seq} of stream {stream_id} is {identifier} and was"
                f" {self._closed[stream_id][seq]}",
            )

    # --- as Stripe is asked ---

    def _asked(self, request: Request) -> Response:
        is_event = request.method == "POST" and request.path_only == METER_EVENTS
        if not is_event:
            return self._handle(request)
        self._check_request(request)
        before, self._is_asked = self._is_asked, True
        try:
            return self._handle(request)
        finally:
            self._is_asked = before

    def _check_request(self, request: Request) -> None:
        form = {key: values[0] for key, values in parse_qs(request.form).items()}
        identifier = form["identifier"]
        sent = Sent(
            form["event_name"],
            form["payload[stripe_customer_id]"],
            form["payload[value]"],
            int(form["timestamp"]),
        )
        stored = self.stamped.get(identifier)
        if stored != sent:
            self._found.say("I6", f"{identifier} is sent as {sent}, and is stored as {stored}")
        if not sent.value.lstrip("-").isdigit() or len(sent.value.lstrip("-")) > DIGITS_MAX:
            self._found.say("I11", f"{identifier} is sent with the value {sent.value!r}")
        now = self._world.kernel.now
        first = self._first.setdefault(identifier, now)
        if now - first > FENCE:
            self._found.say("I7", f"{identifier} is sent {now - first} after its first attempt")
        self.sends[identifier] += 1
        if self.sends[identifier] > SENDS_MAX:
            self._found.say("I13", f"{identifier} was sent {self.sends[identifier]} times")

    def _recorded(self, change: Any) -> None:
        self._record(change)
        if isinstance(change, EventReceived):
            self._received(change.event)
        elif isinstance(change, Put) and change.content.get("object") == ITEM:
            self._note_start(change.content)
        elif isinstance(change, EventCancelled):
            self.planted.append(change)
            stream = self._world.core.world.account().streams[change.stream]
            for event in stream:
                if event.number == change.number:
                    # That Stripe lost what lowers it makes it hold more, which is not our doing.
                    self._held[event.event_name, event.customer] -= max(event.value, ZERO)

    def _note_start(self, item: Item) -> None:
        self._starts[item["subscription"]].add(item["current_period_start"])

    def _received(self, event: MeterEvent) -> None:
        self.shows_from = max(self.shows_from, event.counts_from)
        if not self._is_asked or event.foreign:
            self.planted.append(event)
            return
        counter = event.event_name, event.customer
        self._held[counter] += event.value
        own = [one for one in self.streams.values() if _goes_to(one, counter)]
        if any(one.kind != "delta" for one in own):
            return
        planned = sum(self._peaks.get(one, 0) for one in dict.fromkeys(one.total for one in own))
        if self._held[counter] - self._refused_decreases(counter) > planned:
            self._found.say(
                "I8",
                f"Stripe holds {self._held[counter]} of {event.event_name} for {event.customer},"
                f" and all pushes together planned {planned}",
            )

    def _refused_decreases(self, counter: tuple[str, str]) -> Decimal:
        """What Stripe holds too much because it took a decrease and refused it afterwards."""
        rejections = self._world.core.world.account().rejections
        sent = (self.stamped.get(one.identifier) for one in rejections)
        values = (Decimal(one.value) for one in sent if one and one[:2] == counter)
        return -sum((value for value in values if value < 0), ZERO)

    # --- in the end ---

    def starts_of(self, customer: str) -> tuple[set[datetime], datetime | None]:
        """Where a customer's billing periods (`cus_...`) began, and when the subscription ended."""
        own = self._world.core.world.account().all(SUBSCRIPTION).values()
        found = [one for one in own if one["customer"] == customer]
        starts = {start for one in found for start in self._starts[one["id"]]}
        starts |= {one["start_date"] for one in found}
        ends = {one["ended_at"] for one in found if one.get("ended_at")}
        moments = {datetime.fromtimestamp(at, UTC) for at in starts | ends}
        return moments, datetime.fromtimestamp(max(ends), UTC) if ends else None

    def in_need(self) -> list[Stream]:
        """Those of which something is still to be done."""
        return [one for one in self.streams.values() if one.open is not None or one.is_needy]

    def end(self, cut_short: Collection[tuple[str, str]]) -> None:
        """Numbers without gap; nothing planned into a period that takes no usage any more.

        Of the customers whose periods somebody cut short, what was under way then is moved.
        """
        closes = dict(self._closes())
        self._check_carried()
        for stream in self.streams.values():
            numbers = set(self._closed[stream.id])
            if stream.open is not None:
                numbers.add(int(stream.open["seq"]["N"]))
            if numbers != set(range(1, stream.next_seq)):
                missing = sorted(set(range(1, stream.next_seq)) ^ numbers)
                self._found.say(
                    "I5",
                    f"{stream.name}: {len(numbers)} pushes of {stream.next_seq - 1}, {missing} are"
                    " missing or too many",
                )
        for item in self._world.tables.items(BILLING.name):
            if "seq" in item and "identifier" in item:
                self._check_in_time(item, closes, cut_short)

    def _check_carried(self) -> None:
        """What closed periods left to later ones is what those took over, to the last digit."""
        carried: dict[tuple[str, ...], Decimal] = defaultdict(Decimal)
        for one in self.streams.values():
            whose = one.role, one.tenant, one.customer, one.metric
            carried[whose] = WIDE.add(carried[whose], one.carried_in - one.carried_out)
        for (_, *counter), lacks in sorted(carried.items()):
            if lacks:
                self._found.say(
                    "I16",
                    f"{' of '.join(reversed(counter))}: what periods took over of closed ones is"
                    f" {lacks} more than those left to them",
                )

    def _closes(self) -> Iterator[tuple[tuple[str, str, datetime], datetime | None]]:
        """Until when each period that was closed, or is being closed, took usage; None: open."""
        for item in self._world.tables.items(BILLING.name):
            if item["pk"]["S"].startswith(name("closes")) and "state" in item:
                whose = item["tenant"]["S"], item["customer"]["S"]
                closed = item["closed_at"]["S"] if "closed_at" in item else ""
                is_closed = item["state"]["S"] == "closed" and closed
                yield (
                    (*whose, instant(item["period_start"]["S"])),
                    instant(closed) if is_closed else None,
                )

    def _check_in_time(
        self,
        item: Item,
        closes: dict[Any, datetime | None],
        cut_short: Collection[tuple[str, str]],
    ) -> None:
        stream = self.streams.get(parts_of(item["pk"]["S"])[-1])
        if stream is None or item["correction"]["BOOL"]:
            return
        if (stream.tenant, stream.customer) in cut_short:
            return
        key = stream.tenant, stream.customer, stream.start
        until = closes.get(key, stream.end + GRACE)
        planned_at = instant(item["planned_at"]["S"])
        if until is not None and planned_at > until + SKEW:
            self._found.say(
                "I14",
                f"{stream.name}: push {item['identifier']['S']} was planned at"
                f" {planned_at:%Y-%m-%d %H:%M}, and the period took usage until"
                f" {until:%Y-%m-%d %H:%M}",
            )


def aggregation_of(metric: str) -> str:
    """How a drawn metric is counted."""
    return next(one.aggregation for one in METRICS if one.name == metric)


def _counts_in(entry: Entry, stream: Stream) -> bool:
    is_whose = (entry.tenant, entry.customer, entry.metric) == (
        stream.tenant,
        stream.customer,
        stream.metric,
    )
    return is_whose and stream.start <= entry.at < stream.end


def _lowers(entry: Entry) -> bool:
    return entry.kind != "usage" and entry.quantity < 0


def _goes_to(stream: Stream, counter: tuple[str, str]) -> bool:
    return (stream.event_name, stream.stripe_customer) == counter and stream.role == "primary"


def at_stripe(event: MeterEvent) -> datetime:
    """When an event counts."""
    return datetime.fromtimestamp(event.timestamp, UTC)
