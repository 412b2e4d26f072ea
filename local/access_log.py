"""A web server's access log as usage: read from a file, or generated in a real log's shape.

Files may be plain or gzipped, and hold JSON lines (`line`, `offset_s`, `customer`, `bytes`) or
Apache's and nginx's combined format.
"""

import gzip
import json
import math
import random
import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

GZIP_MAGIC = b"\x1f\x8b"
GENERATED_REQUESTS = 7_000
GENERATED_CLIENTS = 1_302
GENERATED_HOURS = 58

_COMBINED = re.compile(
    r"(?P<client>\S+) \S+ \S+ \[(?P<time>[^\]]+)\] "
    r'"(?:[^"\\]|\\.)*" (?P<status>\d{3}) (?P<bytes>\d+|-)'
)


class LogError(Exception):
    """A log that cannot be metered; says which line and why."""


@dataclass(frozen=True, slots=True)
class Request:
    """One line of the log."""

    line: int
    offset_s: int
    """Seconds since the log's first request."""
    customer: str
    bytes: int


def read_log(path: Path) -> list[Request]:
    """The requests of a log file, in the file's order.

    Raises:
        LogError: no such file, empty, or a line that is in neither format.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise LogError(f"cannot read {path}: {error.strerror}") from None
    text = _unpacked(path, content).decode(errors="replace")
    # Only line feeds end lines: JSON may hold the other characters that `splitlines` cuts at.
    lines = [
        NumberedLine(number, line)
        for number, line in enumerate(text.split("\n"), start=1)
        if line.strip()
    ]
    if not lines:
        raise LogError(f"{path} holds no requests")
    read = _read_json_lines if lines[0].text.lstrip().startswith("{") else _read_combined
    return list(read(lines))


def _unpacked(path: Path, content: bytes) -> bytes:
    if not content.startswith(GZIP_MAGIC):
        return content
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise LogError(f"{path} is no whole gzip file: {error}") from None


class NumberedLine(NamedTuple):
    """A line that is not empty, and where it stands in its file, from 1."""

    number: int
    text: str


def _read_json_lines(lines: Iterable[NumberedLine]) -> Iterator[Request]:
    seen: dict[int, int] = {}
    for number, text in lines:
        try:
            request = _json_request(json.loads(text))
        except (ValueError, KeyError, TypeError) as error:
            raise LogError(
                f"line {number} is not a request: {error!r}; it needs line, offset_s, customer"
                " and bytes"
            ) from None
        # The idempotency keys are made of it.
        if request.line in seen:
            raise LogError(
                f"line {number} has the same `line` as line {seen[request.line]}: {request.line};"
                " number the requests differently"
            )
        seen[request.line] = number
        yield request


def _json_request(row: dict[str, Any]) -> Request:
    customer = row["customer"]
    if not isinstance(customer, str) or not customer:
        raise ValueError(f"customer is {customer!r}")
    # Another name would need a Stripe customer of its own before Stripe could be told.
    name = customer if customer.startswith("cus_") else _pseudonym(customer)
    return Request(_whole(row, "line"), _whole(row, "offset_s"), name, _whole(row, "bytes"))


def _whole(row: dict[str, Any], name: str) -> int:
    number = row[name]
    if type(number) is not int or number < 0:
        raise ValueError(f"{name} is {number!r}, not a whole number from 0 up")
    return number


def _read_combined(lines: Iterable[NumberedLine]) -> Iterator[Request]:
    rows = [_combined_row(number, text) for number, text in lines]
    first = min(at for at, _, _ in rows)
    for number, (at, client, size) in enumerate(rows):
        yield Request(number, int((at - first).total_seconds()), _pseudonym(client), size)


def _combined_row(number: int, line: str) -> tuple[datetime, str, int]:
    match = _COMBINED.match(line)
    if match is None:
        raise LogError(f"line {number} is neither JSON nor combined log format: {line[:80]!r}")
    try:
        at = datetime.strptime(match["time"], "%d/%b/%Y:%H:%M:%S %z")
    except ValueError:
        raise LogError(f"line {number} has no such time: [{match['time']}]") from None
    return at, match["client"], 0 if match["bytes"] == "-" else int(match["bytes"])


def _pseudonym(client: str) -> str:
    """A client's address must not become a customer's name."""
    return "cus_" + blake2b(client.encode(), digest_size=7).hexdigest()


# --- generating -----------------------------------------------------------------------------------

_SIZE_QUANTILES = (
    (0.08, 200),
    (0.5, 10_000),
    (0.9, 55_000),
    (0.99, 1_200_000),
    (1.0, 69_000_000),
)
"""Share of responses up to a size in bytes; the first 8 % are empty."""


def generate_log(seed: int = 1) -> list[Request]:
    """Requests in the shape of a real log: skewed clients, heavy-tailed sizes, lines out of order.

    A few clients make a fifth of the requests and half of them one or two; one response in a
    hundred carries most of the bytes; half of the lines are earlier than the line before.
    """
    chance = random.Random(seed)  # noqa: S311 (a log, not a secret)
    clients = _clients(chance)
    hours = sorted(chance.randrange(GENERATED_HOURS) for _ in clients)
    return [
        Request(line, hour * 3600 + chance.randrange(60), client, _size(chance))
        for line, (hour, client) in enumerate(zip(hours, clients, strict=True))
    ]


def _clients(chance: random.Random) -> list[str]:
    """The client of each request: 5 % for the busiest, then less and less."""
    requests = [350, *[175] * 4, *[70] * 5]
    quiet = GENERATED_CLIENTS // 2
    requests += [chance.choice((1, 2)) for _ in range(quiet)]
    rest = GENERATED_CLIENTS - len(requests)
    left = GENERATED_REQUESTS - sum(requests) - rest
    drawn = [1] * rest
    for index in chance.choices(range(rest), k=left):
        drawn[index] += 1
    names = [f"cus_{chance.getrandbits(56):014x}" for _ in range(GENERATED_CLIENTS)]
    made = [name for name, count in zip(names, requests + drawn, strict=True) for _ in range(count)]
    chance.shuffle(made)
    return made


def _size(chance: random.Random) -> int:
    share = chance.random()
    if share < _SIZE_QUANTILES[0][0]:
        return 0
    for (low, smallest), (high, largest) in pairwise(_SIZE_QUANTILES):
        if share <= high:
            within = (share - low) / (high - low)
            return int(smallest * math.pow(largest / smallest, within))
    return _SIZE_QUANTILES[-1][1]
