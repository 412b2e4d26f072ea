"""What worlds must meet sometimes: a soak in which one of these never happened proves too little.

A situation is a sentence and the keys that speak of it, with `*` for any text. Keys come from the
kernel (`fault | function | call`, and whatever the world `saw`), from the stream's mapping
(`stream: ...`), from the queue (`queue: ...`) and from the `Witness`. The sentence itself is a key
as well: whoever writes a new part of the world says `kernel.saw(sentence)` and needs no other.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache

_POST = "writer | post v?/billing/meter_events"


@dataclass(frozen=True, slots=True)
class Situation:
    """Something that worlds must meet sometimes."""

    sentence: str
    keys: tuple[str, ...] = ()

    def is_told_by(self, key: str) -> bool:
        """Whether a key speaks of it."""
        return key == self.sentence or any(fnmatchcase(key.lower(), one) for one in self.keys)


def _one(sentence: str, *keys: str) -> Situation:
    return Situation(sentence, keys)


SITUATIONS = (
    # Clients
    _one("a client was told of a duplicate", "told duplicate"),
    _one("a client was told of a conflict", "told conflict"),
    _one("a client heard nothing and asked again", "answer lost", "answer failed"),
    _one("a duplicate was acknowledged after 24 h", "duplicate after a day"),
    _one("a client's event was kept long after its request failed", "delayed | ingest | *execute*"),
    _one("ingest died after the ledger had kept events", "crash after | ingest | *execute*"),
    _one("a message that nobody can read was set aside", "quarantined as unparseable"),
    # The queue
    _one("a message came twice", "queue: a message was received twice"),
    _one("messages came out of order", "queue: messages came out of order"),
    _one("a message died and was moved back", "dead letters redriven"),
    _one("a message was moved back after 30 h", "dead letters redriven 30 h later"),
    # The stream
    _one("two invocations held one shard", "stream: a batch went to two invocations at once"),
    _one("a checkpoint was lost and records came again", "stream: a checkpoint was lost"),
    _one("a batch came again with other edges", "stream: a batch was cut elsewhere"),
    _one("a batch was done in part", "stream: a batch was done in part"),
    _one("bisecting reached a single record", "stream: a cut reached a single record"),
    _one("shards rolled", "shards rolled"),
    _one("a shard split with its parent undrained"),
    _one("a counter had usage in several lanes", "lanes beside each other"),
    _one("lanes at rest were folded", "lane folded"),
    _one("a record that nobody can read was in the stream", "quarantined as unreadable"),
    _one("the aggregator died after a lane was written", "crash after | aggregator | *execute*"),
    _one("an aggregator took too long and went on", "timed out | aggregator"),
    _one("counters were recounted while events came in", "counter recounted"),
    # DynamoDB
    _one("a transaction collided", "collided | *"),
    _one("a call was throttled", "throttled | *"),
    _one("a write landed after its sender had given up", "delayed | * | *write*"),
    _one("a late landing was refused", "late landing refused | *"),
    # Telling Stripe
    _one("a writer died between recording a push and sending it", f"crash before | {_POST}"),
    _one(
        "Stripe accepted, then the writer died before it noted that",
        f"crash after | {_POST}",
    ),
    _one("Stripe accepted and its answer was lost", f"drop_after | {_POST}"),
    _one("Stripe accepted after the writer had given up", f"delayed | {_POST}"),
    _one("Stripe answered 500 after it had accepted", f"error_after | {_POST}"),
    _one("Stripe was out while usage was told", f"outage * | {_POST}"),
    _one("Stripe limited the rate", f"rate_limited | {_POST}"),
    _one("a push was tried again", "push tried again"),
    _one("a push's outcome became unknown", "push unknown"),
    _one("a push was known not to have counted, and its delta told anew", "push closed as void"),
    _one("Stripe refused a push afterwards", "push closed as async_rejected"),
    _one("a push lowered what Stripe holds", "push of a negative delta"),
    _one("two writers ran at once", "schedule fired 2 times | writer"),
    _one("the billing table was restored from a backup"),
    # People and periods
    _one("an adjustment was approved", "adjustment approved*"),
    _one("an approved adjustment was reverted", "adjustment reverted*"),
    _one("a late event that waited was approved", "late event approved"),
    _one("a late event's approval was reverted", "late event's approval reverted"),
    _one("somebody decided about a stopped push", "stopped push decided"),
    _one("a counter that lost records was rebuilt", "rebuild: *"),
    _one("a subscription changed within its period", "subscription: *"),
    _one("a price was changed within a period"),
    _one("a month ended meanwhile", "month passed"),
    _one("usage was carried into a later period", "carried into a later period"),
    _one("late usage was billed apart by an invoice item", "billed apart"),
    _one("a period was closed", "period closed"),
    _one("a late event came after its period was closed"),
    _one("a webhook came twice", "webhook double", "webhook unanswered"),
    _one("a webhook was lost", "webhook lost"),
    _one("a webhook was forged", "webhook forged"),
    _one("a webhook was overheard and sent again later", "webhook replayed"),
    _one("webhooks' secret was being replaced", "webhook rotated"),
    _one("webhooks came out of order", "webhooks out of order"),
    _one("a meter was switched off for a while", "meter switched off"),
    _one("Stripe silently lost, doubled or gained usage", "drift: *"),
    _one("new code took over in the middle", "deployed"),
    # Machines
    _one("two machines' clocks were minutes apart", "clocks far apart"),
    _one("a schedule did not fire", "schedule fired 0 times | *"),
)


@cache
def _told_by(key: str) -> tuple[Situation, ...]:
    return tuple(one for one in SITUATIONS if one.is_told_by(key))


def situations_of(sighted: Mapping[str, int]) -> Counter[str]:
    """How often each situation was met, by its sentence; those that were not are missing."""
    met: Counter[str] = Counter()
    for key, times in sighted.items():
        if times:
            for situation in _told_by(key):
                met[situation.sentence] += times
    return met


def never(met: Mapping[str, int]) -> list[str]:
    """The situations that were not met."""
    return [one.sentence for one in SITUATIONS if not met.get(one.sentence)]


# --- which fault hit which call -------------------------------------------------------------------

DYNAMO_FAULTS = (
    "crash before", "crash after", "slow",
    "throttled", "collided", "lost", "answer lost", "delayed",
)  # fmt: skip
STRIPE_FAULTS = (
    "crash before", "crash after", "slow", "rate_limited", "error_before", "error_after",
    "unavailable", "drop_before", "drop_after", "delayed", "outage drop_before",
    "outage drop_after",
)  # fmt: skip
_READS = ("getitem", "batchgetitem", "query", "scan")


@dataclass(frozen=True, slots=True, order=True)
class Site:
    """Where a function makes a call."""

    function: str
    call: str

    @property
    def is_stripe(self) -> bool:
        """Whether Stripe is called, and not DynamoDB."""
        return " " in self.call

    @property
    def faults(self) -> tuple[str, ...]:
        """Those that can hit it: only transactions collide, and no read lands late."""
        if self.is_stripe:
            return STRIPE_FAULTS
        call = self.call.lower()
        return tuple(
            fault
            for fault in DYNAMO_FAULTS
            if not (fault == "collided" and call != "transactwriteitems")
            and not (fault == "delayed" and call in _READS)
        )


def sites_of(sighted: Mapping[str, int]) -> dict[Site, Counter[str]]:
    """How often which fault hit which call, by function and call."""
    sites: dict[Site, Counter[str]] = {}
    for key in sorted(sighted):
        fault, _, place = key.partition(" | ")
        function, _, call = place.partition(" | ")
        if call and fault in _KNOWN and function != "world":
            sites.setdefault(Site(function, call), Counter())[fault] += sighted[key]
    return dict(sorted(sites.items()))


_KNOWN = {*DYNAMO_FAULTS, *STRIPE_FAULTS}


def untouched(sites: Mapping[Site, Mapping[str, int]]) -> Iterable[tuple[Site, str]]:
    """Each fault that never hit a call that it could have hit."""
    for site, met in sites.items():
        for fault in site.faults:
            if not met.get(fault):
                yield site, fault
