"""What it costs to take events."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import count
from typing import Any

from rich.table import Table

from local.bench.measure import Size, console, cpu_and_wall, deployment, results
from metering.wiring import Wiring

REQUESTS = 200
SINGLES = 1_000
WARMING = 30

_numbers = count()


def measure(size: Size) -> None:
    """Batches and single events, with the event index and without, API keys required."""
    table = results("ingest, in one process over DynamoDB Local", "figure", "measured", "target")
    for event_index in ("off", "on"):
        with deployment(EVENT_INDEX=event_index) as deployed:
            _measure(table, size, deployed.wiring, event_index)
    console.print(table)


def _measure(table: Table, size: Size, wiring: Wiring, event_index: str) -> None:
    from functions.ingest.handler import handler  # noqa: PLC0415 (after the wiring)
    from metering.auth import Scope  # noqa: PLC0415
    from metering.names import TenantId  # noqa: PLC0415

    key = wiring.key_issuer.create_key(TenantId("bench"), [Scope.EVENTS_WRITE]).text

    def send(requests: Sequence[dict[str, Any]]) -> None:
        for one in requests:
            answer = handler(one, None)
            assert answer["statusCode"] == 200, answer  # noqa: PLR2004

    index = "with" if event_index == "on" else "without"
    for batch, full, target in ((100, REQUESTS, 0.12), (1, SINGLES, 1.2)):
        number = size.of(full)
        requests = [request(key, batch) for _ in range(number + WARMING)]
        send(requests[:WARMING])
        cpu, wall = cpu_and_wall(lambda rest=requests[WARMING:]: send(rest))  # type: ignore[misc]
        events = number * batch
        table.add_row(
            f"{batch} a request, {index} event index: CPU per event",
            f"{cpu / events * 1000:.3f} ms (wall {wall / events * 1000:.3f})",
            f"{target} ms",
        )


def request(key: str, batch: int) -> dict[str, Any]:
    """What API Gateway hands over of a request with so many new events."""
    events = [sent_event(next(_numbers)) for _ in range(batch)]
    return {
        "headers": {"authorization": f"Bearer {key}", "content-type": "application/json"},
        "queryStringParameters": {},
        "requestContext": {
            "requestId": "bench",
            "http": {"method": "POST", "sourceIp": "127.0.0.1"},
        },
        "body": json.dumps({"events": events}),
        "isBase64Encoded": False,
    }


def sent_event(number: int) -> dict[str, Any]:
    """An event as a client sends it: a resource, no `meta`, a key of its own."""
    return {
        "tenantId": "bench",
        "metric": "api_calls",
        "customerRef": f"cus_{number % 50}",
        "resourceId": "region-1",
        "quantity": 1.5,
        "ts": datetime.now(UTC).isoformat(),  # noqa: TID251 (a client's clock)
        "idempotencyKey": f"bench-{number}",
        "source": "sdk",
    }
