"""Somebody who watches a world's tables and says what came to pass there.

Product code tells nobody that a push's outcome became unknown or that a lane was folded; the items
do. What is seen is a sentence with a count, for `situations`.
"""

from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta

from infra.tables import ADJUSTMENTS, BILLING, COUNTERS, EVENTS, QUARANTINE
from metering.adapters.dynamodb.counter_item import RECOUNT, read_sort_key
from tests.simulation.aws.dynamodb import Change
from tests.simulation.aws.items import Item
from tests.simulation.run import Lived

DAY = timedelta(days=1)
SKEWED_MUCH_S = 240


class Witness:
    """Watches one world from its beginning on."""

    def __init__(self, lived: Lived) -> None:
        self.lived = lived
        self._seen: Counter[str] = Counter()
        self._up_to_the_first: tuple[str, ...] = ()
        self._closed: list[tuple[str, str, str, str]] = []
        """Tenant, customer, start and end of each period that was closed."""
        self._looks: dict[str, Callable[[Item], None]] = {
            BILLING.name: self._billing,
            EVENTS.name: self._entry,
            QUARANTINE.name: self._quarantine,
            ADJUSTMENTS.name: self._adjustment,
        }
        lived.world.tables.subscribe(self._watch)

    def seen(self) -> Counter[str]:
        """Everything that happened, by its sentence."""
        world = self.lived.world
        self._at_the_end()
        told = Counter({f"stream: {what}": times for what, times in world.mapping.seen.items()})
        told.update({f"queue: {what}": times for what, times in world.queue.seen.items()})
        return world.kernel.counts + told + self._seen

    def last_steps(self) -> tuple[str, ...]:
        """The steps that led to what broke first; where nobody saw it break, the very last."""
        return self._up_to_the_first or tuple(self.lived.world.kernel.last)

    # --- while it lives ---

    def _watch(self, change: Change) -> None:
        if self.lived.watch.violations and not self._up_to_the_first:
            self._up_to_the_first = tuple(self.lived.world.kernel.last)
        if change.table == COUNTERS.name:
            self._counter(change)
        elif change.new_image is not None and change.table in self._looks:
            self._looks[change.table](change.new_image)

    def _counter(self, change: Change) -> None:
        sort = change.keys["sk"]["S"]
        is_folded = change.event_name == "REMOVE" and not change.by_ttl
        self._seen["lane folded"] += is_folded and sort.startswith("e0")
        if sort.startswith("e0"):
            self._seen["counter recounted"] += read_sort_key(sort)[-1] == RECOUNT

    def _billing(self, item: Item) -> None:
        if "open" in item:
            self._push(item["open"]["M"])
        elif "seq" in item:
            self._seen[f"push closed as {item['state']['S']}"] += 1
        elif "began_at" in item:
            self._period(item)
        if "stopped" in item:
            self._seen["stream stopped"] += 1
        if item.get("carried_in", {"L": ()})["L"]:
            self._seen["carried into a later period"] += 1
        if item.get("items", {"L": ()})["L"]:
            self._seen["billed apart"] += 1

    def _period(self, close: Item) -> None:
        state = close["state"]["S"]
        self._seen[f"period {state}"] += 1
        if state == "closed":
            names = ("tenant", "customer", "period_start", "period_end")
            tenant, customer, start, end = (close[name]["S"] for name in names)
            self._closed.append((tenant, customer, start, end))

    def _entry(self, item: Item) -> None:
        if self._closed and "ts" in item:
            tenant, customer, at = (item[name]["S"] for name in ("t", "c", "ts"))
            self._seen["a late event came after its period was closed"] += any(
                one[:2] == (tenant, customer) and one[2] <= at < one[3] for one in self._closed
            )

    def _push(self, push: Item) -> None:
        self._seen[f"push {push['state']['S']}"] += 1
        self._seen["push tried again"] += int(push["attempts"]["N"]) > 1
        self._seen["push of a negative delta"] += push["delta"]["N"].startswith("-")
        self._seen["push doubtful"] += push["doubtful"]["BOOL"]

    def _quarantine(self, item: Item) -> None:
        if "kind" in item:
            self._seen[f"quarantined as {item['kind']['S']}"] += 1

    def _adjustment(self, item: Item) -> None:
        if "status" in item:
            self._seen[f"adjustment {item['status']['S']} | {item['reason']['S']}"] += 1

    # --- at the end ---

    def _at_the_end(self) -> None:
        drawn = self.lived.drawn
        ended = drawn.start + drawn.span
        self._seen["month passed"] += (drawn.start.year, drawn.start.month) != (
            ended.year,
            ended.month,
        )
        self._seen["clocks far apart"] += drawn.faults.skew_s > SKEWED_MUCH_S
        self._seen["several tenants"] += drawn.tenants > 1
        self._seen["lanes beside each other"] += self._crowded_counters()
        self._duplicates()

    def _crowded_counters(self) -> int:
        """How many counters have usage of one day in more than one lane."""
        lanes: Counter[tuple[str, object]] = Counter()
        for item in self.lived.world.tables.items(COUNTERS.name):
            partition, sort = item["pk"]["S"], item["sk"]["S"]
            if sort.startswith("e0") and "h" in item:
                *counter, _ = read_sort_key(sort)
                lanes[partition, tuple(counter)] += 1
        return sum(count > 1 for count in lanes.values())

    def _duplicates(self) -> None:
        sent_at: dict[tuple[str, str], datetime] = {}
        for request in sorted(self.lived.clients.requests, key=lambda one: one.at):
            for copy in request.copies:
                first_at = sent_at.setdefault((copy.tenant, copy.key), request.at)
                is_late = "duplicate" in copy.answers and request.at - first_at > DAY
                self._seen["duplicate after a day"] += is_late
