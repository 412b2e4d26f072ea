"""Dollars per million events, for each way that an event can come in (`docs/cost.md`)."""

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

from infra.cost.assumed import ASSUMED, GB, MONTH_S, Assumed
from infra.cost.counting import Stream, counting
from infra.cost.duration import duration_ms, invocation_usd
from infra.cost.measurement import Measurement, Taken
from infra.cost.prices import (
    BACKUP,
    FUNCTION_URL,
    HTTP_API,
    LOG,
    MILLION,
    QUEUE_REQUEST,
    READ_UNIT,
    REST_API,
    TABLE_STORAGE,
    TRACE,
    TRAFFIC_OUT,
    WRITE_UNIT,
    Price,
)
from infra.cost.sheet import Sheet, usd
from infra.cost.traffic import Spread
from infra.functions import INGEST, INGEST_QUEUE, Function

STATEMENTS = 25
CALLS_AT_ONCE = 4
ITEM_OVERHEAD_BYTES = 100
"""What DynamoDB adds to each stored item, and to each entry of an index."""
REFERENCE = Stream(Decimal(100), 1, Spread(25))
"""A hundred events a second over 25 counters with the skew of real traffic."""
QUEUED_AT_ONCE = 10
"""Messages of one request to the queue where they are sent, received and deleted in tens."""


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that is paid for each event."""

    name: str
    each: Decimal
    """Dollars an event."""
    comes_of: str
    """The figure that it was computed from, for people."""


@dataclass(frozen=True, slots=True)
class Path:
    """One way in."""

    name: str
    lines: tuple[Line, ...]
    target: Decimal | None = None
    """Dollars a million at most; None where none was set."""

    @property
    def million(self) -> Decimal:
        """Dollars for a million events."""
        return MILLION * sum((line.each for line in self.lines), Decimal(0))

    def line(self, name: str) -> Decimal:
        """Dollars a million of one line, 0 where the path has none."""
        return MILLION * sum((one.each for one in self.lines if one.name == name), Decimal(0))


def paths(
    measured: Measurement, assumed: Assumed = ASSUMED, stream: Stream = REFERENCE
) -> list[Path]:
    """Every path, for one kind of traffic."""
    counted = _counted(stream, measured, assumed)

    def http(
        name: str, taken: Taken, price: Price, target: str | None = None, door: str = "HTTP API"
    ) -> Path:
        lines = _http(taken, price, door, assumed, stream)
        return Path(name, (*lines, *counted), Decimal(target) if target else None)

    one, many = measured.single, measured.batch
    return [
        http("single, HTTP API", one, HTTP_API, "2.30"),
        http("single, function URL", one, FUNCTION_URL, door="function URL"),
        http("single, REST API", one, REST_API, door="REST API"),
        http("batch of 100", many, HTTP_API, "0.75"),
        http("batch of 100, event index", measured.batch_indexed, HTTP_API, "1.40"),
        Path("queue, 1 a message, by ten", (*_queue(measured.queue_single, 1, assumed), *counted)),
        Path("queue, 100 a message", (*_queue(measured.queue_batch, 100, assumed), *counted)),
    ]


def _http(
    taken: Taken, price: Price, door: str, assumed: Assumed, stream: Stream
) -> Iterator[Line]:
    requests = 1 / taken.of
    size = "single events" if taken.of == 1 else f"batches of {taken.of}"
    yield Line("door", price.each * requests, f"{door}, {requests:.2f} requests an event")
    yield from _function(INGEST, taken, assumed, size)
    access = assumed.access_log_bytes if price is not FUNCTION_URL else Decimal(0)
    yield Line("access log", access / GB * LOG.each * requests, f"{access} bytes a request")
    out = taken.answer_bytes / GB * TRAFFIC_OUT.each * requests
    yield Line("answers out", out, f"{taken.answer_bytes:,.0f} bytes a request, measured")
    yield Line(
        "tracing",
        traced(stream.events_per_s / taken.of, assumed) * TRACE.each * requests,
        f"X-Ray, {assumed.traced_share * 100:.0f} % of requests",
    )
    yield from _ledger(taken)


def _queue(taken: Taken, events: int, assumed: Assumed) -> Iterator[Line]:
    """Sent, received and deleted; tens share a request where messages are small."""
    at_once = QUEUED_AT_ONCE if events == 1 else 1
    requests = Decimal(3) / at_once / events
    yield Line("door", QUEUE_REQUEST.each * requests, f"{requests:.2f} queue requests an event")
    yield from _function(INGEST_QUEUE, taken, assumed, f"{taken.of} events an invocation")
    yield from _ledger(taken)


def _function(function: Function, taken: Taken, assumed: Assumed, size: str) -> Iterator[Line]:
    lasts = ingest_ms(function, taken, assumed)
    yield Line(
        "ingest function",
        invocation_usd(function, lasts, assumed) / taken.of,
        f"{taken.cpu_ms:.2f} ms of CPU measured ({size}), {lasts:.0f} ms"
        f" at {function.memory_mb} MB",
    )
    log = taken.log_bytes / GB * LOG.each / taken.of
    yield Line("log", log, f"{taken.log_bytes:,.0f} bytes an invocation, measured")


def ingest_ms(function: Function, taken: Taken, assumed: Assumed) -> Decimal:
    """How long an invocation that stores so many events lasts."""
    if taken.of == 1:
        waits = assumed.item_wait_ms
    else:
        waits = -(-taken.of // (STATEMENTS * CALLS_AT_ONCE)) * assumed.statements_wait_ms
    return duration_ms(function, taken.cpu_ms, assumed, waits_ms=waits)


def _ledger(taken: Taken) -> Iterator[Line]:
    units = taken.written / taken.of
    yield Line("ledger", units * WRITE_UNIT.each, f"{units:.2f} write units an event, measured")
    reads = taken.read / taken.of
    yield Line("settings", reads * READ_UNIT.each, f"{reads:.4f} read units an event, measured")


def _counted(stream: Stream, measured: Measurement, assumed: Assumed) -> list[Line]:
    parts = counting(stream, measured, assumed)
    batch = stream.batch
    return [
        Line("aggregator", parts.invocations, f"{batch:,.0f} events a batch"),
        Line(
            "lanes",
            parts.lanes,
            f"{stream.spread.touched(batch):,.1f} counters a batch: {stream.lanes_per_event:.3f}"
            " write units an event",
        ),
        Line("marks, directory", parts.marks, "one a counter and minute, one an hour, per shard"),
        Line("calendars", parts.reads, "a customer's, every 30 s and shard"),
    ]


def traced(requests_per_s: Decimal, assumed: Assumed) -> Decimal:
    """The part of a function's invocations that X-Ray traces.

    So many each second in any case, and a share of the others.
    """
    always = min(assumed.traced_a_second / requests_per_s, Decimal(1))
    return always + (1 - always) * assumed.traced_share


def stored_bytes(measured: Measurement, *, event_index: bool) -> Decimal:
    """What one event takes in the ledger, its entry in the index included."""
    if not event_index:
        return measured.entry_bytes + ITEM_OVERHEAD_BYTES
    return 2 * (measured.indexed_bytes + ITEM_OVERHEAD_BYTES)


# --- for people -----------------------------------------------------------------------------------


def sheets(measured: Measurement, assumed: Assumed = ASSUMED) -> list[Sheet]:
    """The paths, where their figures come from, and what quieter traffic costs."""
    found = paths(measured, assumed)
    return [
        _costs(found),
        _sources(found),
        _quieter(measured, assumed),
        _storage(measured),
    ]


def _costs(found: list[Path]) -> Sheet:
    names = list(dict.fromkeys(line.name for path in found for line in path.lines))
    rows = [(name, *(usd(path.line(name)) for path in found)) for name in names]
    rows.append(("**sum**", *(f"**{usd(path.million)}**" for path in found)))
    rows.append(("target", *(_judged(path) for path in found)))
    return Sheet(
        "Dollars per million events",
        ("", *(path.name for path in found)),
        tuple(rows),
        f"At {REFERENCE.events_per_s} events a second over {REFERENCE.spread.counters} counters.",
    )


def _judged(path: Path) -> str:
    if path.target is None:
        return "–"
    return f"{usd(path.target)} {'met' if path.million <= path.target else 'MISSED'}"


def _sources(found: list[Path]) -> Sheet:
    wanted = [one for one in found if one.target is not None or "queue" in one.name]
    rows = [
        (f"{path.name}: {line.name}", line.comes_of, usd(MILLION * line.each))
        for path in wanted
        for line in path.lines
        if path is wanted[0] or line.name not in _SAME
    ]
    return Sheet("Where each line comes from", ("line", "from", "per million"), tuple(rows))


_SAME = ("aggregator", "lanes", "marks, directory", "calendars")


def _quieter(measured: Measurement, assumed: Assumed) -> Sheet:
    rows = []
    for rate in ("0.1", "1", "10", "100", "1000"):
        shards = max(1, int(Decimal(rate) // 1000))
        stream = Stream(Decimal(rate), shards, REFERENCE.spread)
        by_name = {path.name: path for path in paths(measured, assumed, stream)}
        names = ("single, HTTP API", "batch of 100", "batch of 100, event index")
        month = by_name["batch of 100"].million / MILLION * stream.events_per_s * MONTH_S
        rows.append(
            (
                f"{rate} events/s",
                f"{stream.batch:,.1f}",
                f"{stream.lanes_per_event:.3f}",
                *(usd(by_name[name].million) for name in names),
                usd(month),
            )
        )
    return Sheet(
        "Quieter and busier traffic, per million events",
        (
            "25 counters, one shard",
            "events a batch",
            "lanes an event",
            "single",
            "batch of 100",
            "batch of 100, event index",
            "a month of batches",
        ),
        tuple(rows),
    )


def _storage(measured: Measurement) -> Sheet:
    rows = []
    for event_index in (False, True):
        size = stored_bytes(measured, event_index=event_index)
        gb = size * MILLION / GB
        rows.append(
            (
                "with the event index" if event_index else "without the event index",
                f"{size:,.0f}",
                usd(gb * TABLE_STORAGE.each),
                usd(gb * BACKUP.each),
            )
        )
    return Sheet(
        "Keeping a million events for a month",
        ("", "bytes an event", "storage", "point-in-time recovery"),
        tuple(rows),
    )
