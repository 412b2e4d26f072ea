"""What clients send, how they send it again, and what they were told: the input of the model."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from functools import partial
from typing import Any

from metering.names import TenantId
from tests.simulation.draw import BUSY_FOR, DAY, HOUR, Drawn, Kind, busy_from
from tests.simulation.world import NO_ANSWER, World, to_json

RETRY_AFTER_MAX = timedelta(minutes=3)
REQUEST_EVENTS_MAX = 5
BROKEN = ("not an event", {"metric": "api_calls"}, {"quantity": "many"})
"""What cannot be taken: from the queue it must land in quarantine."""
_EAST = timezone(timedelta(hours=5, minutes=45))
_QUANTITIES = ("{}", "{}e0", "~{}")
"""As texts, and as a number of JSON: see `to_json`."""


@dataclass(frozen=True, slots=True)
class DrawnMetric:
    """A metric: how it is counted, and told to Stripe."""

    name: str
    aggregation: str
    digits: int
    """Decimals of its quantities."""
    scale: int
    counts_late: bool
    """Late events count like others; otherwise they wait for approval."""

    @property
    def formula(self) -> str:
        """Of its meter at Stripe."""
        return "last" if self.aggregation == "last" else "sum"


METRICS = (
    DrawnMetric("api_calls", "sum", 3, 3, counts_late=False),
    DrawnMetric("cpu_hours", "sum", 5, 2, counts_late=True),
    DrawnMetric("peak_users", "max", 0, 0, counts_late=True),
    DrawnMetric("seats", "last", 0, 0, counts_late=True),
    DrawnMetric("jobs", "count", 2, 0, counts_late=False),
)
LATENESS = timedelta(hours=48)
CANARY = "canary-payload"
"""Stands in every event: nothing but its own tenant's items and answers may hold it."""


@dataclass(slots=True, eq=False)
class Copy:
    """One event as it was sent: another copy may have its key, and the same content or another."""

    tenant: TenantId
    key: str
    """Empty: the client sends none, and ours is derived from the content."""
    metric: str
    customer: str
    quantity: Decimal
    at: datetime
    number: int
    answers: list[str] = field(default_factory=list)
    """What the client was told of it, in order: accepted, duplicate, conflict, or an error."""
    is_queued: bool = False

    def content(self) -> tuple[str, str, Decimal, datetime]:
        """What makes it the same as another one."""
        return self.metric, self.customer, self.quantity, self.at

    def spelled(self, spelling: int) -> dict[str, Any]:
        """The event as JSON: the same thing in one of several ways."""
        plain = spelling % 2 == 0
        at = self.at if plain else self.at.astimezone(_EAST)
        event: dict[str, Any] = {
            "metric": self.metric,
            "customerRef" if plain else "customer_ref": self.customer,
            "quantity": _QUANTITIES[spelling % 3].format(self.quantity),
            "ts": at.isoformat(),
            "meta": {"n": self.number, "note": f"{CANARY} of {self.tenant}"},
        }
        if self.key:
            event["idempotencyKey"] = self.key
        return event


@dataclass(frozen=True, slots=True)
class Request:
    """Copies that are sent together."""

    at: datetime
    copies: tuple[Copy, ...]
    is_queued: bool


class Clients:
    """Sends what was drawn, each request until it is answered for good."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._kernel = world.kernel
        drawn = tuple(_Draw(world.drawn, world.tenants).requests())
        self.requests = tuple(_without(world.drawn.left_out, drawn))
        self.copies = [copy for request in self.requests for copy in request.copies]
        self.waiting = 0
        """How many requests have no definite answer yet."""
        self.told: Callable[[Copy, str], None] = lambda _copy, _status: None
        """Hears each definite answer about a copy, as it is heard."""

    def start(self) -> None:
        """Send everything in its time."""
        for number, request in enumerate(self.requests):
            self.waiting += 1
            self._kernel.spawn(
                f"client#{number}",
                partial(self._send, request, number),
                after=request.at - self._kernel.now,
            )
        if len(self._world.tenants) > 1:
            chance = random.Random(f"trespasser {self._world.drawn.seed}")
            after = self._world.drawn.span * chance.random()
            self._kernel.spawn("trespasser", partial(self._trespass, chance), after=after)

    def _send(self, request: Request, number: int) -> None:
        if request.is_queued:
            self._enqueue(request, number)
        else:
            self._post(request, number)
        self.waiting -= 1

    def _trespass(self, chance: random.Random) -> None:
        """Send another tenant's event with one's own key; nobody knows of it as of one's own."""
        own, other = chance.sample(self._world.tenants, 2)
        query = chance.choice(({}, {"tenantId": str(own)}))
        event = Copy(other, "trespass", METRICS[0].name, "cus_0", Decimal(7), self._kernel.now, -1)
        events = [{**event.spelled(0), "tenantId": other}]
        self._world.http(own, "POST", "/v1/events/ingest", {"events": events}, query=query)

    def _enqueue(self, request: Request, number: int) -> None:
        events: list[Any] = [copy.spelled(number) for copy in request.copies]
        tenant = request.copies[0].tenant
        body: Any = [{"tenantId": tenant, **event} for event in events]
        if number % 7 == 0:
            body.append(BROKEN[number % len(BROKEN)])
        for copy in request.copies:
            copy.is_queued = True
        self._world.enqueue(to_json(body))

    def _post(self, request: Request, number: int) -> None:
        left = list(request.copies)
        spelling = number
        while left:
            events = [copy.spelled(spelling) for copy in left]
            status, answer = self._world.http(
                left[0].tenant, "POST", "/v1/events/ingest", {"events": events}
            )
            if status == NO_ANSWER or answer is None or "results" not in answer:
                self._kernel.pause(RETRY_AFTER_MAX * self._kernel.random.random())
                continue
            left = self._heard(left, answer["results"])
            if left:
                self._kernel.pause(RETRY_AFTER_MAX * self._kernel.random.random())
            spelling += 1

    def _heard(self, copies: list[Copy], results: list[dict[str, Any]]) -> list[Copy]:
        """The copies that must be sent again."""
        again = []
        for copy, result in zip(copies, results, strict=True):
            status = result["status"]
            copy.key = copy.key or result["idempotencyKey"]
            if result.get("retryable"):
                again.append(copy)
                continue
            copy.answers.append(status if status != "error" else f"error: {result['error']}")
            self.told(copy, status)
            self._kernel.saw(f"told {status}")
        return again


class _Draw:
    """Draws requests; its own source of chance, so that faults change nothing of them."""

    def __init__(self, drawn: Drawn, tenants: tuple[TenantId, ...]) -> None:
        self._drawn = drawn
        self._tenants = tenants
        self._chance = random.Random(f"clients {drawn.seed}")
        self._copies: list[Copy] = []

    def requests(self) -> Iterator[Request]:
        """All of them, in no order of time."""
        chance, drawn = self._chance, self._drawn
        number = 0
        while number < drawn.events:
            tenant = chance.choice(self._tenants)
            size = min(chance.randint(1, REQUEST_EVENTS_MAX), drawn.events - number)
            at = self._some_time()
            is_queued = chance.random() < drawn.queued
            copies = tuple(
                self._copy(tenant, number + index, at, may_lack_key=not is_queued)
                for index in range(size)
            )
            number += size
            yield Request(at, copies, is_queued)
            if chance.random() < drawn.again / 4:
                # An impatient client sends it twice, and both are under way at once.
                soon = at + timedelta(milliseconds=chance.randrange(50))
                yield Request(soon, tuple(map(_again, copies)), is_queued)

    def _some_time(self) -> datetime:
        chance, drawn = self._chance, self._drawn
        if drawn.rebuilds and chance.random() < 0.5:
            return busy_from(drawn) + BUSY_FOR * chance.random()
        return drawn.start + drawn.span * chance.random()

    def _copy(self, tenant: TenantId, number: int, at: datetime, *, may_lack_key: bool) -> Copy:
        """The next one; what it has in common with others may stand in the same request."""
        own = [one for one in self._copies if one.tenant == tenant]
        copy = self._drawn_copy(own, self._fresh(tenant, number, at), may_lack_key=may_lack_key)
        self._copies.append(copy)
        return copy

    def _drawn_copy(self, own: list[Copy], fresh: Copy, *, may_lack_key: bool) -> Copy:
        chance = self._chance
        known = [one for one in own if one.key]
        if known and chance.random() < self._drawn.again:
            return _again(chance.choice(known))
        if known and chance.random() < self._drawn.conflicting:
            standing = chance.choice(known)
            fresh.key = standing.key
            return self._nearly(standing) if chance.random() < 0.5 else fresh
        if may_lack_key and chance.random() < 0.15:
            fresh.key = ""
            keyless = [one for one in own if not one.key]
            is_near = keyless and chance.random() < 0.5
            return self._nearly(chance.choice(keyless)) if is_near else fresh
        return fresh

    def _nearly(self, copy: Copy) -> Copy:
        """Another event that differs from one in a single thing."""
        other = _again(copy)
        if self._chance.random() < 0.5:
            other.quantity += 1
        else:
            other.at -= timedelta(milliseconds=1)
        return other

    def _fresh(self, tenant: TenantId, number: int, at: datetime) -> Copy:
        chance = self._chance
        metric = chance.choice(METRICS[: self._drawn.metrics])
        customer = f"cus_{chance.randrange(self._drawn.customers)}"
        quantity = Decimal(chance.randrange(1, 10**6)).scaleb(-metric.digits)
        # An amount of money of so many digits is no invoice's: it cannot be billed apart.
        if chance.random() < 0.05 and self._drawn.kind is not Kind.CLOSING:
            quantity = Decimal(123456789012345).scaleb(-metric.digits)
            if metric.digits > metric.scale > 0:
                quantity += Decimal("0.000000000001")  # More digits than a float keeps.
        # Keys are the same in every tenant: they must never meet.
        return Copy(
            tenant, f"key-{number}", metric.name, customer, quantity, self._when(at), number
        )

    def _when(self, at: datetime) -> datetime:
        """When it was used: mostly just before, sometimes long before, rarely ahead."""
        chance = self._chance
        ago = timedelta(seconds=chance.randrange(0, 600))
        if chance.random() < self._drawn.late:
            ago = chance.choice((HOUR, 5 * HOUR, 30 * HOUR, 3 * DAY, 9 * DAY, 36 * DAY))
        elif chance.random() < 0.03:
            ago = -timedelta(minutes=30)
        return at - ago


def _without(places: tuple[int, ...], requests: tuple[Request, ...]) -> Iterator[Request]:
    """The requests without the copies at some places, counted over all of them."""
    place = 0
    for request in requests:
        numbered = enumerate(request.copies, place)
        place += len(request.copies)
        kept = tuple(copy for at, copy in numbered if at not in places)
        if kept:
            yield replace(request, copies=kept)


def _again(copy: Copy) -> Copy:
    return Copy(
        copy.tenant, copy.key, copy.metric, copy.customer, copy.quantity, copy.at, copy.number
    )
