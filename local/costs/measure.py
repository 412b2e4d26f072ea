"""A short measurement of every function that a month's bill depends on, in about a minute.

Each function has a process of its own, entered at its handler with the events that Lambda would
hand over, on DynamoDB Local and the Stripe stand-in. CPU is that process's; units and bytes are
counted there. What is warm on AWS nearly always is measured warm.
"""

import json
import os
import platform
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from itertools import count, islice
from typing import Any

from infra.cost.measurement import Measurement, Taken
from infra.functions import (
    AGGREGATOR,
    INGEST,
    INGEST_QUEUE,
    LANE_FOLDER,
    PERIOD_CLOSER,
    REBUILDER,
    RECONCILER,
    WRITER,
    Function,
)
from local import dynamodb_local
from local.bench.aggregator import record, skewed
from local.bench.billed import TENANT, Billed, billed
from local.bench.folding import Record
from local.bench.ingest import request, sent_event
from local.bench.measure import Deployment, cpu_and_wall, deployment
from local.bench.process import FunctionProcess, Invocation
from local.bench.units import size_of
from metering.names import CustomerRef, Metric, TenantId

COUNTED = {"COUNT_UNITS": "on", "METRICS": "emf", "DEPLOYMENT": "cost"}
"""What the functions' processes are told: count, and say numbers as on AWS."""
LONG = {"SETTINGS_CACHE_S": "3600", "CHANGED_SLOT_S": "86400"}
"""So long that what happens every half minute or minute happens once, in the first batch."""
WARMING = 10
SINGLES, BATCHES = 150, 12
CUSTOMERS = 40
METRICS = tuple(Metric(f"metric_{number}") for number in range(3))
FIRST, WHOLE, PART = Decimal("1.5"), Decimal(1), Decimal("0.1")

_numbers = count()


def measure() -> Measurement:
    """Measure everything."""
    os.environ.setdefault("AWS_DEFAULT_REGION", dynamodb_local.REGION)
    for name, value in dynamodb_local.CREDENTIALS.items():
        os.environ.setdefault(name.upper(), value)
    parts = {"at": _made(), **of_events()}
    with deployment(EVENT_INDEX="on") as indexed:
        parts |= {f"{name}_indexed": taken for name, taken in _ingest(indexed).items()}
        parts["indexed_bytes"] = _size(indexed, "events")
    return Measurement(**parts | of_stripe())


def of_events() -> dict[str, Any]:
    """What taking and counting events takes, without the event index."""
    with deployment(EVENT_INDEX="off") as deployed:
        parts: dict[str, Any] = _ingest(deployed) | _queue(deployed) | _folding(deployed)
        parts["entry_bytes"] = _size(deployed, "events")
        parts["lane_bytes"] = _size(deployed, "counters")
        parts["recounted"] = _recounted(deployed)
        return parts


def of_stripe(customers: int = CUSTOMERS) -> dict[str, Taken]:
    """What telling Stripe and comparing takes, and the schedules that find nothing to do."""
    with billed(reads_a_month=100_000, told=COUNTED) as world:
        return _stripe_side(world, customers)


def _made() -> str:
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        capture_output=True,
        check=False,
        cwd=dynamodb_local.PROJECT,
        text=True,
    )
    day = f"{datetime.now(UTC):%Y-%m-%d}"  # noqa: TID251 (of the measurement itself)
    return (
        f"{day}, commit {commit.stdout.strip() or 'unknown'}, {platform.machine()},"
        f" {os.cpu_count()} cores, Python {platform.python_version()}, `make cost`"
    )


# --- what an invocation took ----------------------------------------------------------------------


def _taken(done: Sequence[Invocation], of: float) -> Taken:
    """The average of some invocations, each of which dealt with `of` things."""

    def mean(values: Iterable[float]) -> Decimal:
        return round(Decimal(str(sum(values) / len(done))), 4)

    return Taken(
        of=Decimal(str(of)),
        cpu_ms=mean(1000 * one.cpu_s for one in done),
        counters_read=mean(one.read_units.get("counters", 0) for one in done),
        others_read=mean(
            units for one in done for table, units in one.read_units.items() if table != "counters"
        ),
        written=mean(units for one in done for units in one.write_units.values()),
        items=mean(items for one in done for items in one.items_written.values()),
        log_bytes=mean(one.log_bytes for one in done),
        answer_bytes=mean(len(json.dumps(one.answer).encode()) for one in done),
    )


def _size(deployed: Deployment, table: str) -> Decimal:
    """The mean size of ledger entries or lanes in bytes, without what AWS adds to each."""
    found = _hashed_or_placed(deployed, table)
    return round(Decimal(sum(map(size_of, found))) / len(found), 1)


def _hashed_or_placed(deployed: Deployment, table: str) -> list[dict[str, Any]]:
    """The items with an `h`: an entry's hash, a lane's position in its shard."""
    name = deployed.wiring.table(table)
    answer = deployed.wiring.dynamodb.scan(TableName=name, FilterExpression="attribute_exists(h)")
    return answer["Items"]


@contextmanager
def _process(function: Function, deployed: Deployment) -> Iterator[FunctionProcess]:
    process = FunctionProcess(function, deployed.environment | COUNTED | LONG)
    try:
        yield process
    finally:
        process.end()


# --- ingest ---------------------------------------------------------------------------------------


def _ingest(deployed: Deployment) -> dict[str, Taken]:
    from metering.auth import Scope  # noqa: PLC0415 (after the wiring)

    issuer = deployed.wiring.key_issuer
    key = issuer.create_key(TenantId("bench"), [Scope.EVENTS_WRITE]).text
    with _process(INGEST, deployed) as process:
        for _ in range(WARMING):
            process.invoke(_request(key, 1))
            process.invoke(_request(key, 100))
        return {
            "single": _asked(process, key, 1, SINGLES),
            "batch": _asked(process, key, 100, BATCHES),
        }


def _asked(process: FunctionProcess, key: str, events: int, times: int) -> Taken:
    done = [process.invoke(_request(key, events)) for _ in range(times)]
    assert all(one.answer["statusCode"] == 200 for one in done), done[-1].answer  # noqa: PLR2004
    return _taken(done, events)


def _request(key: str, events: int) -> dict[str, Any]:
    body = json.dumps({"events": [_event(next(_numbers)) for _ in range(events)]})
    return request(key, 0) | {"body": body}


def _event(number: int) -> dict[str, Any]:
    """With keys as long as real ones: storage and index are paid by the byte."""
    return sent_event(number) | {
        "idempotencyKey": f"0198c0de-7a5e-7000-8000-{number:012}",
        "customerRef": f"cus_Q1w2E3r4T5{number % 50:04}",
        "meta": {"path": "/v1/things", "status": 200},
    }


def _queue(deployed: Deployment) -> dict[str, Taken]:
    with _process(INGEST_QUEUE, deployed) as process:
        process.invoke(_messages(100, 1))
        ones = [process.invoke(_messages(100, 1)) for _ in range(BATCHES)]
        hundreds = [process.invoke(_messages(10, 100)) for _ in range(3)]
    assert not any(one.answer["batchItemFailures"] for one in ones + hundreds)
    return {"queue_single": _taken(ones, 100), "queue_batch": _taken(hundreds, 1000)}


def _messages(messages: int, events: int) -> dict[str, Any]:
    """What Lambda hands over of a queue."""
    bodies = ([_event(next(_numbers)) for _ in range(events)] for _ in range(messages))
    return {
        "Records": [
            {"messageId": f"message-{place}", "body": json.dumps({"events": body})}
            for place, body in enumerate(bodies)
        ]
    }


def _recounted(deployed: Deployment) -> Taken:
    """A pass over the ledger as the reconciler makes it, in this process."""
    read: list[object] = []
    tenant = TenantId("bench")
    cpu_s, _ = cpu_and_wall(lambda: read.extend(deployed.wiring.ledger.to_recount(tenant)))
    return Taken(Decimal(len(read)), round(Decimal(str(1000 * cpu_s)), 4))


# --- the aggregator -------------------------------------------------------------------------------


def _folding(deployed: Deployment) -> dict[str, Taken]:
    """Batches of the skew of real traffic over 25 counters."""
    records = (record(number, customer) for number, customer in enumerate(skewed(12_000)))
    with _process(AGGREGATOR, deployed) as process:
        (first,) = _folded(process, records, 500, 1)
        _folded(process, records, 500, 1)
        batches = {
            "folded_500": _taken(_folded(process, records, 500, 8), 500),
            "folded_60": _taken(_folded(process, records, 60, 30), 60),
            "folded_1": _taken(_folded(process, records, 1, 60), 1),
        }
    lanes = len(_hashed_or_placed(deployed, "counters"))
    return batches | {"folded_cold": _taken([first], lanes)}


def _folded(
    process: FunctionProcess, records: Iterator[Record], size: int, times: int
) -> list[Invocation]:
    done = []
    for _ in range(times):
        event = {
            "Records": list(islice(records, size)),
            "shardId": "shardId-1",
            "eventSourceARN": "arn:aws:dynamodb:us-east-1:1:table/events/stream/1",
        }
        done.append(process.invoke(event))
        assert not done[-1].answer["batchItemFailures"], done[-1].answer
    return done


# --- what has to do with Stripe, and the schedules ------------------------------------------------


def _stripe_side(world: Billed, number: int) -> dict[str, Taken]:
    customers = _set_up(world, number)
    pairs = len(customers) * len(METRICS)
    with world.process(WRITER) as writer, world.process(RECONCILER) as reconciler:
        parts = {
            "writer_idle": _idle(world, writer),
            "reconciler_idle": _idle(world, reconciler),
        }
        parts["writer_new"] = _written(world, writer, customers, FIRST)
        parts["writer_more"] = _written(world, writer, customers, WHOLE)
        parts["writer_looked"] = _written(world, writer, customers, PART)
        assert world.told() == (2 * pairs, Decimal(2 * pairs)), world.told()
        parts["reconciler_first"] = _compared(world, reconciler, verify=True)
        parts["reconciler_again"] = _compared(world, reconciler, verify=False)
    for function in (PERIOD_CLOSER, REBUILDER, LANE_FOLDER):
        with world.process(function) as process:
            parts[function.name] = _idle(world, process)
    return parts


def _set_up(world: Billed, number: int) -> list[CustomerRef]:
    for metric in METRICS:
        world.map(metric)
    return world.add_customers(number)


def _idle(world: Billed, process: FunctionProcess) -> Taken:
    """The second invocation, for the first one makes clients."""
    world.cost(process, {})
    return _taken([world.cost(process, {}).function], 1)


def _written(
    world: Billed, process: FunctionProcess, customers: Sequence[CustomerRef], quantity: Decimal
) -> Taken:
    """The run that finds all counters changed."""
    usage = [(customer, metric, quantity) for customer in customers for metric in METRICS]
    world.use(usage, stores=True)
    cost = world.cost(process, {})
    assert cost.function.answer["complete"], cost.function.answer
    return _taken([cost.function], len(usage))


def _compared(world: Billed, process: FunctionProcess, *, verify: bool) -> Taken:
    month = f"{datetime.now(UTC):%Y-%m}"  # noqa: TID251 (of the usage above)
    event: Mapping[str, Any] = {"tenantId": TENANT, "period": month, "verify": verify}
    done = world.cost(process, event).function
    (report,) = done.answer["reports"]
    assert not report["investigate"], report
    return _taken([done], report["rows"])
