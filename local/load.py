"""A lean load generator for the local API: keep-alive connections, each with one request at a time.

Its own process, so that its CPU is not the stack's; raw HTTP/1.1, so that it takes little of it.
"""

import asyncio
import json
import time
from argparse import ArgumentParser
from dataclasses import asdict, dataclass
from itertools import count
from typing import Any

LOOPBACK = "127.0.0.1"
CUSTOMERS = 200
REQUESTS_MAX = 1_000_000


@dataclass(frozen=True, slots=True)
class LoadReport:
    """What one run of load came to; times in milliseconds."""

    requests: int
    events: int
    failed: int
    seconds: float
    p50_ms: float
    p95_ms: float
    p99_ms: float

    @property
    def requests_per_s(self) -> float:
        """Answered requests a second."""
        return self.requests / self.seconds

    @property
    def events_per_s(self) -> float:
        """Accepted events a second."""
        return self.events / self.seconds


class Load:
    """One run: `connections` at once, `batch` events a request, until the time is up."""

    def __init__(self, port: int, connections: int, batch: int, seconds: float, run: str) -> None:
        self._port = port
        self._connections = connections
        self._batch = batch
        self._seconds = seconds
        self._run = run
        self._numbers = count()
        self._latencies_ms: list[float] = []
        self._accepted = 0
        self._failed = 0
        self._at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())

    async def run(self) -> LoadReport:
        """Put the load on; returns when every connection has its last answer."""
        started = time.perf_counter()
        deadline = started + self._seconds
        await asyncio.gather(*(self._connection(deadline) for _ in range(self._connections)))
        seconds = time.perf_counter() - started
        ranked = sorted(self._latencies_ms) or [0.0]
        p50, p95, p99 = (ranked[int(len(ranked) * share)] for share in (0.5, 0.95, 0.99))
        done = len(self._latencies_ms)
        return LoadReport(done, self._accepted, self._failed, seconds, p50, p95, p99)

    async def _connection(self, deadline: float) -> None:
        reader, writer = await asyncio.open_connection(LOOPBACK, self._port)
        for _ in range(REQUESTS_MAX):
            sent_at = time.perf_counter()
            if sent_at >= deadline:
                break
            writer.write(self._request())
            status, body = await _answer(reader)
            self._latencies_ms.append((time.perf_counter() - sent_at) * 1000)
            self._note(status, body)
        writer.close()
        await writer.wait_closed()

    def _request(self) -> bytes:
        body = json.dumps({"events": [self._event() for _ in range(self._batch)]}).encode()
        head = (
            "POST /v1/events/ingest HTTP/1.1\r\nhost: localhost\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body

    def _event(self) -> dict[str, Any]:
        number = next(self._numbers)
        return {
            "tenantId": "load",
            "metric": "api_calls",
            "customerRef": f"cus_load{number % CUSTOMERS}",
            "quantity": 1,
            "ts": self._at,
            "idempotencyKey": f"{self._run}-{number}",
        }

    def _note(self, status: int, body: bytes) -> None:
        if status == 200:  # noqa: PLR2004 (HTTP)
            self._accepted += json.loads(body)["accepted"]
        else:
            self._failed += 1


async def _answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    status = int(head.split(b" ", 2)[1])
    length = int(head.split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
    return status, await reader.readexactly(length)


def main() -> None:
    """Run as a process: figures by flags, the report as one JSON line."""
    parser = ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--connections", type=int, required=True)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--run", required=True)
    flags = parser.parse_args()
    load = Load(flags.port, flags.connections, flags.batch, flags.seconds, flags.run)
    print(json.dumps(asdict(asyncio.run(load.run()))))


if __name__ == "__main__":
    main()
