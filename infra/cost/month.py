"""What a month of an own workload costs, everything that runs beside the events included."""

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

from infra.alarms import alarms_of
from infra.cost.assumed import ASSUMED, GB, MONTH_S, Assumed
from infra.cost.counting import Stream, counting
from infra.cost.duration import duration_ms, invocation_usd, vcpus
from infra.cost.measurement import Measurement, Taken
from infra.cost.paths import Line, paths, stored_bytes, traced
from infra.cost.prices import (
    ALARM,
    BACKUP,
    DASHBOARD,
    EXPORT,
    KEY,
    LOG,
    METRIC,
    OBJECT_STORAGE,
    PROVISIONED_WRITE,
    QUEUE_REQUEST,
    READ_UNIT,
    SCHEDULE,
    SECRET,
    TABLE_STORAGE,
    TRACE,
    WRITE_UNIT,
)
from infra.cost.sheet import Sheet, number, usd
from infra.cost.traffic import Spread
from infra.deployments import PROD
from infra.environment import secrets_of
from infra.functions import (
    FUNCTIONS,
    LANE_FOLDER,
    PERIOD_CLOSER,
    REBUILDER,
    RECONCILER,
    WRITER,
    Function,
    Queue,
    Schedule,
)
from metering.survey import RECOUNTS_MAX
from metering.writer import RESERVE, THREADS

LOOKED_AT_S = Decimal(240)
"""How far back a run of the writer looks: its interval of a minute, an overlap of two, and a slot
of marks (`metering.writer`); each changed counter is looked at by several runs."""
SWEEP_S = Decimal(3600)
"""How often the writer looks at every counter of an open period."""
DAY_S = Decimal(86_400)
READ_EVERY_S = Decimal(23 * 3600)
"""How long the reconciler keeps what it read of a row at Stripe."""
READ_BYTES = Decimal(4096)
"""Of one read unit."""
LANES_KEPT_DAYS = 2
"""So long a lane stays before it is folded into its base."""
RECEIVES_A_QUEUE = Decimal(650_000)
"""Of an idle queue's pollers in a month."""
TARGET_USE = Decimal("0.7")
"""Which part of provisioned units is used, where capacity follows the load."""
UNMEASURED_CPU_MS = Decimal(200)
"""Of a scheduled function that `make cost` does not run."""


@dataclass(frozen=True, slots=True)
class Workload:
    """What somebody meters in a month of 30 days."""

    events: Decimal
    batch: int = 100
    """Events a request; 1 sends them singly."""
    customers: int = 1000
    metrics: int = 1
    event_index: bool = False
    queue: bool = False
    """Whether events come by the queue, `batch` a message, and not by HTTPS."""
    shards: int = 4
    """Of the ledger's stream; a new table on demand has about four partitions."""
    sync_s: int = 60
    """How often the writer runs."""
    reconcile_s: int = 3600
    """How often the reconciler runs."""
    even: bool = False
    """Whether all customers use as much."""
    kept_months: int = 1
    """How many months of events the ledger holds."""
    provisioned: bool = False

    @property
    def stream(self) -> Stream:
        """The events on their way to the aggregator, as they come on average."""
        spread = Spread(self.customers, self.metrics, even=self.even)
        return Stream(self.events / MONTH_S, self.shards, spread)


@dataclass(frozen=True, slots=True)
class Fixed:
    """What a deployment has, whatever happens in it."""

    alarm_metrics: int = sum(len(alarm.metrics) for alarm in alarms_of(PROD))
    """Metrics that alarms read; each is paid for."""
    metrics: int = 35
    """Our own on CloudWatch (`metering.adapters.emf.RULES`)."""
    dashboards: int = 1
    secrets: int = len(secrets_of(PROD))
    keys: int = 1
    """What the alarms' topics are encrypted with."""


@dataclass(frozen=True, slots=True)
class Item:
    """A line of the month's bill."""

    name: str
    usd: Decimal
    comes_of: str


def bill(
    workload: Workload,
    measured: Measurement,
    assumed: Assumed = ASSUMED,
    fixed: Fixed | None = None,
) -> list[Item]:
    """The month's bill."""
    return [
        *_events(workload, measured, assumed),
        *_stripe_side(workload, measured, assumed),
        *_scheduled(workload, measured, assumed),
        *_kept(workload, measured, assumed),
        *_fixed(fixed or Fixed()),
    ]


def _events(workload: Workload, measured: Measurement, assumed: Assumed) -> Iterator[Item]:
    for line in _way_in(workload, measured, assumed):
        yield Item(f"events: {line.name}", line.each * workload.events, line.comes_of)
    counted = counting(workload.stream, measured, assumed)
    stream = workload.stream
    yield Item(
        "counting: aggregator",
        counted.invocations * workload.events,
        f"{number(stream.batch)} events a batch",
    )
    lanes = counted.lanes * workload.events
    yield Item("counting: lanes", lanes, f"{stream.lanes_per_event:.3f} lanes an event")
    rest = (counted.marks + counted.reads) * workload.events
    yield Item("counting: marks, directory, calendars", rest, "once a minute, hour, half minute")
    cold = _new_lanes(workload) * READ_UNIT.each
    yield Item("counting: new lanes read", cold, "once a counter, day and shard")


def _new_lanes(workload: Workload) -> Decimal:
    return workload.stream.in_all_shards(DAY_S) * MONTH_S / DAY_S


def _way_in(workload: Workload, measured: Measurement, assumed: Assumed) -> list[Line]:
    """What each event costs until it is in the ledger; batches of any size, between 1 and 100.

    An invocation's CPU and log lie on the line through those of one event and of a hundred.
    """
    one, many = _by_size(workload, measured, assumed)
    if workload.batch == 1:
        return list(_provisioned(one, workload))
    if workload.batch >= 100:  # noqa: PLR2004
        return list(_provisioned(many, workload))
    share = (1 / Decimal(workload.batch) - Decimal("0.01")) / Decimal("0.99")
    between = [
        Line(
            left.name,
            left.each * share + right.each * (1 - share),
            f"between single events and batches of 100: {right.comes_of}",
        )
        for left, right in zip(one, many, strict=True)
    ]
    return list(_provisioned(between, workload))


_COUNTED = {"aggregator", "lanes", "marks, directory", "calendars"}


def _by_size(
    workload: Workload, measured: Measurement, assumed: Assumed
) -> tuple[list[Line], list[Line]]:
    """The lines of single events and of batches of 100."""
    found = {path.name: path for path in paths(measured, assumed, workload.stream)}
    if workload.queue:
        names = "queue, 1 a message, by ten", "queue, 100 a message"
    else:
        names = "single, HTTP API", "batch of 100"
    one, many = (
        [line for line in found[name].lines if line.name not in _COUNTED] for name in names
    )
    return _indexed(one, workload), _indexed(many, workload)


def _indexed(lines: list[Line], workload: Workload) -> list[Line]:
    """With the write unit that the event index takes."""
    if not workload.event_index:
        return lines
    index = Line("event index", WRITE_UNIT.each, "one write unit an event more")
    return [*lines, index]


def _provisioned(lines: list[Line], workload: Workload) -> Iterator[Line]:
    for line in lines:
        if workload.provisioned and line.name in {"ledger", "event index"}:
            each = line.each / WRITE_UNIT.each * PROVISIONED_WRITE.each / 3600 / TARGET_USE
            yield Line(line.name, each, f"provisioned, used to {TARGET_USE:.0%}")
        else:
            yield line


# --- Stripe's side --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Syncs:
    """How much the writer has to do in a month."""

    runs: Decimal
    pushes: Decimal
    looked: Decimal
    """Counters looked at without a push, sweeps included."""
    is_behind: bool
    """Whether more counters change than a run can tell: each waits for several runs."""


def pushes_of_a_run(measured: Measurement, assumed: Assumed = ASSUMED) -> Decimal:
    """As many as a run of the writer can tell: bound by its core, or by its threads' waiting."""
    works_s = WRITER.timeout_s - Decimal(RESERVE.total_seconds())
    return works_s * pushes_a_second(measured, assumed)


def pushes_a_second(
    measured: Measurement, assumed: Assumed = ASSUMED, threads: int = THREADS
) -> Decimal:
    """While a run of the writer lasts."""
    return min(by_core(measured, assumed), threads * 1000 / assumed.stripe_wait_ms)


def by_core(measured: Measurement, assumed: Assumed = ASSUMED) -> Decimal:
    """Pushes a second that the writer's core allows."""
    cpu_ms = measured.writer_more.beyond(measured.writer_idle).each().cpu_ms
    return vcpus(WRITER) * 1000 / (cpu_ms * assumed.cpu_factor)


def syncs(workload: Workload, measured: Measurement, assumed: Assumed = ASSUMED) -> Syncs:
    """Each run tells Stripe one delta for each counter that changed since the run before.

    That takes every change for a whole unit more; where units are large there are fewer pushes.
    """
    runs = MONTH_S / workload.sync_s
    spread, rate = workload.stream.spread, workload.stream.events_per_s
    wanted = spread.touched(rate * workload.sync_s)
    changed = min(wanted, pushes_of_a_run(measured, assumed))
    seen = spread.touched(rate * (LOOKED_AT_S - 60 + workload.sync_s))
    active = spread.touched(rate * MONTH_S)
    sweeps = min(runs, MONTH_S / SWEEP_S)
    looked = runs * max(seen - changed, Decimal(0)) + sweeps * active
    return Syncs(runs, runs * changed, looked, changed < wanted)


def _stripe_side(workload: Workload, measured: Measurement, assumed: Assumed) -> Iterator[Item]:
    work = syncs(workload, measured, assumed)
    idle, more, looked = measured.writer_idle, measured.writer_more, measured.writer_looked
    push, look = more.beyond(idle).each(), looked.beyond(idle).each()
    amounts = [(idle, work.runs), (push, work.pushes), (look, work.looked)]
    cpu_ms = sum((taken.cpu_ms * many for taken, many in amounts), Decimal(0))
    waits = work.pushes * assumed.stripe_wait_ms / THREADS + work.runs * 3 * assumed.item_wait_ms
    yield Item(
        "Stripe: writer's time",
        _time(WRITER, work.runs, cpu_ms, waits, assumed),
        f"{number(work.runs)} runs, {number(work.pushes)} pushes"
        f"{' (all that it can)' if work.is_behind else ''}, {push.cpu_ms:.2f} ms of CPU each",
    )
    written = sum((taken.written * many for taken, many in amounts), Decimal(0))
    yield Item(
        "Stripe: writer's writes",
        written * WRITE_UNIT.each,
        f"{push.written:.1f} write units a push",
    )
    read = sum((taken.read * many for taken, many in amounts), Decimal(0))
    yield Item(
        "Stripe: writer's reads",
        read * READ_UNIT.each,
        f"{look.read:.2f} read units a counter looked at, {number(work.looked)} looks",
    )
    logged = sum((taken.log_bytes * many for taken, many in amounts), Decimal(0))
    yield Item("Stripe: writer's log", logged / GB * LOG.each, f"{idle.log_bytes:,.0f} bytes a run")


def _time(
    function: Function, runs: Decimal, cpu_ms: Decimal, waits_ms: Decimal, assumed: Assumed
) -> Decimal:
    """Dollars for so many invocations, whose CPU and waiting are known in all."""
    lasts = duration_ms(function, cpu_ms, assumed, waits_ms=waits_ms)
    return runs * invocation_usd(function, lasts / runs, assumed)


def _scheduled(workload: Workload, measured: Measurement, assumed: Assumed) -> Iterator[Item]:
    yield from _reconciler(workload, measured, assumed)
    known = {
        PERIOD_CLOSER.name: measured.period_closer,
        REBUILDER.name: measured.rebuilder,
        LANE_FOLDER.name: measured.lane_folder,
    }
    runs_of_all = Decimal(0)
    for function in FUNCTIONS:
        if not isinstance(function.trigger, Schedule):
            continue
        runs = runs_of(function, workload)
        runs_of_all += runs
        if function in {WRITER, RECONCILER}:
            continue
        taken = known.get(function.name, Taken(Decimal(1), UNMEASURED_CPU_MS))
        yield _idle(function, runs, taken, assumed)
    scan = _scan_of_counters(workload, measured) * runs_of(LANE_FOLDER, workload)
    yield Item("lane_folder: scans", scan * READ_UNIT.each, "the counters table, every six hours")
    yield Item("schedules", runs_of_all * SCHEDULE.each, f"{number(runs_of_all)} runs")
    traces = runs_of_all * traced(Decimal(1), assumed) * TRACE.each
    yield Item("schedules: tracing", traces, "X-Ray")


def runs_of(function: Function, workload: Workload) -> Decimal:
    """How often a scheduled function runs in a month."""
    assert isinstance(function.trigger, Schedule)
    chosen = {WRITER.name: workload.sync_s, RECONCILER.name: workload.reconcile_s}
    return MONTH_S / chosen.get(function.name, function.trigger.every_s)


def _idle(function: Function, runs: Decimal, taken: Taken, assumed: Assumed) -> Item:
    cost = _time(
        function, runs, runs * taken.cpu_ms, runs * (1 + taken.read) * assumed.item_wait_ms, assumed
    )
    cost += runs * (taken.read * READ_UNIT.each + taken.written * WRITE_UNIT.each)
    cost += runs * taken.log_bytes / GB * LOG.each
    return Item(function.name, cost, f"{number(runs)} runs that find nothing to do")


def _reconciler(workload: Workload, measured: Measurement, assumed: Assumed) -> Iterator[Item]:
    """All rows of the open period in each run; each is read at Stripe once a day at most."""
    runs, rate = runs_of(RECONCILER, workload), workload.stream.events_per_s
    rows = workload.stream.spread.touched(rate * MONTH_S)
    idle = measured.reconciler_idle
    read = measured.reconciler_first.beyond(idle).each()
    again = measured.reconciler_again.beyond(idle).each()
    reads = rows * min(runs, MONTH_S / READ_EVERY_S)
    amounts = [(idle, runs), (read, reads), (again, rows * runs)]
    cpu_ms = sum((taken.cpu_ms * many for taken, many in amounts), Decimal(0))
    entries = recounted_a_run(workload)
    recount_ms = runs * entries * measured.recounted.each().cpu_ms
    lasts_s = (cpu_ms + recount_ms) / runs / vcpus(RECONCILER) / 1000
    late = (
        f"; TOO LONG for {RECONCILER.timeout_s} s, see docs/scale.md"
        if lasts_s > RECONCILER.timeout_s
        else ""
    )
    yield Item(
        "comparing: reconciler's time",
        _time(RECONCILER, runs, cpu_ms + recount_ms, reads * assumed.stripe_wait_ms / 8, assumed),
        f"{number(rows)} rows, {number(runs)} runs of some {number(lasts_s)} s{late}",
    )
    units = sum(
        (
            many * (taken.read * READ_UNIT.each + taken.written * WRITE_UNIT.each)
            for taken, many in amounts
        ),
        Decimal(0),
    )
    yield Item("comparing: rows and reports", units, f"{again.read:.2f} read units a row and run")
    yield Item(
        "comparing: recounts",
        runs * entries * _read_units_of_an_entry(workload, measured) * READ_UNIT.each,
        f"{number(entries)} events read a run, halfway through the month",
    )


def recounted_a_run(workload: Workload) -> Decimal:
    """Events that a run of the reconciler reads, halfway through the month.

    Counters that changed since the last run are recounted, 4,000 at most, each with its period's
    events so far. Without the event index that is a pass over the whole ledger.
    """
    so_far = workload.events / 2
    if not workload.event_index:
        return so_far + workload.events * (workload.kept_months - 1)
    stream = workload.stream
    changed = stream.spread.touched(stream.events_per_s * workload.reconcile_s)
    return so_far * min(RECOUNTS_MAX / changed, Decimal(1))


def _read_units_of_an_entry(workload: Workload, measured: Measurement) -> Decimal:
    """Strong reads of the ledger; of the index eventual ones, which cost half."""
    if not workload.event_index:
        return measured.entry_bytes / READ_BYTES
    return measured.indexed_bytes / READ_BYTES / 2


def _scan_of_counters(workload: Workload, measured: Measurement) -> Decimal:
    """Read units of one pass over the counters table: a base a counter and day, and young lanes."""
    size = measured.lane_bytes
    bases = workload.stream.spread.touched(workload.stream.events_per_s * DAY_S) * 30
    lanes = workload.stream.in_all_shards(DAY_S) * LANES_KEPT_DAYS
    return (bases * workload.kept_months + lanes) * size / READ_BYTES


# --- what is kept, and what is always there -------------------------------------------------------


def _kept(workload: Workload, measured: Measurement, assumed: Assumed) -> Iterator[Item]:
    each = stored_bytes(measured, event_index=workload.event_index)
    gb = workload.events * workload.kept_months * each / GB
    said = f"{gb:,.1f} GB: {workload.kept_months} months of events of {each:,.0f} bytes"
    yield Item("kept: ledger", gb * TABLE_STORAGE.each, said)
    yield Item("kept: point-in-time recovery", gb * BACKUP.each, f"{gb:,.1f} GB")
    fresh = workload.events * stored_bytes(measured, event_index=False) / GB
    exported = fresh * EXPORT.each
    exported += fresh * workload.kept_months * assumed.compression * OBJECT_STORAGE.each
    yield Item("kept: archive in S3", exported, f"{fresh:,.1f} GB exported, and kept compressed")


def _fixed(fixed: Fixed) -> Iterator[Item]:
    alarms = fixed.alarm_metrics
    yield Item("fixed: alarms", alarms * ALARM.each, f"{alarms} metrics of alarms")
    yield Item("fixed: metrics", fixed.metrics * METRIC.each, f"{fixed.metrics} custom metrics")
    yield Item("fixed: dashboard", fixed.dashboards * DASHBOARD.each, f"{fixed.dashboards}")
    yield Item("fixed: secrets", fixed.secrets * SECRET.each, f"{fixed.secrets} secrets")
    yield Item("fixed: key", fixed.keys * KEY.each, "of the alarms' topics")
    queues = sum(1 for one in FUNCTIONS if isinstance(one.trigger, Queue))
    polls = queues * RECEIVES_A_QUEUE
    yield Item("fixed: queue's pollers", polls * QUEUE_REQUEST.each, f"{number(polls)} receives")


# --- for people -----------------------------------------------------------------------------------


def sheet(workload: Workload, items: list[Item]) -> Sheet:
    """The bill as a table."""
    total = sum((item.usd for item in items), Decimal(0))
    rows = [(item.name, usd(item.usd), item.comes_of) for item in items]
    per_million = total / workload.events * 1_000_000
    rows.append(("**sum**", f"**{usd(total)}**", f"{usd(per_million)} per million events"))
    return Sheet(
        f"A month of {number(workload.events)} events",
        ("", "a month", "from"),
        tuple(rows),
        f"{workload.customers:,} customers with {workload.metrics} metrics each,"
        f" {workload.batch} events a {'message' if workload.queue else 'request'}, the event index"
        f" {'on' if workload.event_index else 'off'}, the writer every {workload.sync_s} s,"
        f" the reconciler every {workload.reconcile_s} s,"
        f" {workload.shards} shards.",
    )
