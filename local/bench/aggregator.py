"""What it costs to count events, on time and late."""

import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from rich.table import Table

from local.bench.folding import Record, fold, stream_record
from local.bench.measure import Size, console, cpu_and_wall, deployment, results
from metering.wiring import Wiring

AGGREGATED = 40_000
SMALL_BATCHES = 6_000
COUNTERS = 25
LATE_EVENTS, LATE_COUNTERS = 10_000, 1_000
BATCH = 7_000
"""Records of 850 bytes that fit in the 6 MB of one invocation."""


def measure(size: Size) -> None:
    """Large batches, small ones with the write units that they take, and late events."""
    table = results(
        "aggregator, in one process over DynamoDB Local", "figure", "measured", "target"
    )
    with deployment(EVENT_INDEX="off") as deployed:
        _measure(table, size, deployed.wiring)
    with deployment(EVENT_INDEX="off"):
        _measure_late(table, size)
    console.print(table)


def _measure(table: Table, size: Size, wiring: Wiring) -> None:
    many, few = size.of(AGGREGATED), size.of(SMALL_BATCHES)
    customers = skewed(many + few)
    entries = [record(number, customers[number]) for number in range(many)]
    cpu, wall = cpu_and_wall(lambda: fold(entries, 500))
    table.add_row(
        f"batches of 500 over {COUNTERS} counters",
        f"{many / cpu:,.0f} events/s of CPU ({many / wall:,.0f} wall)",
        "10,000",
    )
    with _counted_writes(wiring) as written:
        fold((record(many + number, customers[many + number]) for number in range(few)), 60)
    units = _units_of_a_lane(wiring)
    table.add_row(
        f"batches of 60 over {COUNTERS} counters: write units per event",
        f"{written['lanes'] * units / few:.3f} lanes"
        f" + {written['others'] / few:.4f} marks and directory",
        "0.25",
    )


def skewed(number: int) -> list[int]:
    """Customers with the skew of real traffic: the first has 35 %, five have 78 %, ten 90 %."""
    shares = [0.35, *[0.43 / 4] * 4, *[0.12 / 5] * 5, *[0.10 / 15] * 15]
    return random.Random(1).choices(range(COUNTERS), shares, k=number)  # noqa: S311 (no secret)


def record(number: int, customer: int, *, is_late: bool = False) -> Record:
    """What the stream tells of the `number`-th event, of one of the customers."""
    at = datetime.now(UTC).isoformat(timespec="microseconds")[:-6] + "Z"  # noqa: TID251
    image = {
        "pk": {"S": f"5:bench{number}"},
        "t": {"S": "bench"},
        "k": {"S": f"bench-{number}"},
        "m": {"S": "api_calls"},
        "c": {"S": f"cus_{customer}"},
        "q": {"N": "1.5"},
        "ts": {"S": at},
        "ra": {"S": at},
        "src": {"S": "sdk"},
        "h": {"B": "AAAAAAAAAAAAAAAAAAAAAA=="},
    } | ({"late": {"BOOL": True}} if is_late else {})
    return stream_record(number, image)


@contextmanager
def _counted_writes(wiring: Wiring) -> Iterator[dict[str, int]]:
    """Count the counters table's write statements: lanes, and all others."""
    written = {"lanes": 0, "others": 0}

    def count(params: Any, **_: object) -> None:
        for statement in json.loads(params["body"])["Statements"]:
            is_lane = "'h':" in statement["Statement"] or "SET h" in statement["Statement"]
            written["lanes" if is_lane else "others"] += 1

    event = "before-call.dynamodb.BatchExecuteStatement"
    wiring.dynamodb.meta.events.register_last(event, count)
    try:
        yield written
    finally:
        wiring.dynamodb.meta.events.unregister(event, count)


def _units_of_a_lane(wiring: Wiring) -> Decimal:
    """Write units of one lane, by ReturnConsumedCapacity of the same item put once more.

    DynamoDB Local tells no capacity for PartiQL statements, so a lane is written back by PutItem.
    """
    table = wiring.table("counters")
    items = wiring.dynamodb.scan(TableName=table, FilterExpression="attribute_exists(h)")["Items"]
    answers = [
        wiring.dynamodb.put_item(TableName=table, Item=item, ReturnConsumedCapacity="TOTAL")
        for item in items
    ]
    units = [Decimal(str(answer["ConsumedCapacity"]["CapacityUnits"])) for answer in answers]
    return sum(units, Decimal(0)) / len(units)


def _measure_late(table: Table, size: Size) -> None:
    events, counters = size.of(LATE_EVENTS), size.of(LATE_COUNTERS)
    late = [record(number, number % counters) for number in range(events)]
    _, first = cpu_and_wall(lambda: fold(late, BATCH))
    again = [record(number + events, number % counters, is_late=True) for number in range(events)]
    _, second = cpu_and_wall(lambda: fold(again, BATCH))
    table.add_row(
        f"{events:,} late events over {counters:,} counters, wall",
        f"{second:.2f} s ({first:.2f} s where the counters are new)",
        "2 s",
    )
