"""The only place that builds clients, reads the environment and connects ports to adapters.

Adapters are imported when first asked for, so that a function pays only for what it uses.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING

from metering.adapters.clock import SystemClock
from metering.config import Config

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient

    from metering import ports


class Wiring:
    """One process's objects, each made once; tests hand in their own client or clock."""

    def __init__(
        self,
        config: Config,
        *,
        clock: "ports.Clock | None" = None,
        dynamodb: "DynamoDBClient | None" = None,
    ) -> None:
        self.config = config
        self.clock: ports.Clock = clock or SystemClock()
        self._dynamodb = dynamodb

    @cached_property
    def dynamodb(self) -> "DynamoDBClient":
        """The low-level client."""
        from metering.adapters.dynamodb.client import make_client

        return self._dynamodb or make_client(self.config)


_current: Wiring | None = None


def current() -> Wiring:
    """The process's wiring, made from the environment on first use."""
    global _current  # noqa: PLW0603 (made once per cold start)
    if _current is None:
        _current = Wiring(Config.from_environment(os.environ))
    return _current


@contextmanager
def using(wiring: Wiring) -> Iterator[Wiring]:
    """Let `current` answer this wiring for a while."""
    global _current  # noqa: PLW0603
    before, _current = _current, wiring
    try:
        yield wiring
    finally:
        _current = before
