"""Fixtures that all tests share: DynamoDB Local, one per process, with fresh tables per test."""

import itertools
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import Phase, settings

from local import dynamodb_local
from local.ports import free_port
from metering.config import Config
from metering.wiring import Wiring, using

os.environ.setdefault("AWS_ACCESS_KEY_ID", "local")
os.environ.setdefault("AWS_SECRET_ACCESS_KEY", "local")
os.environ.setdefault("AWS_DEFAULT_REGION", dynamodb_local.REGION)

settings.register_profile("repeatable", derandomize=True, deadline=None, max_examples=100)
settings.register_profile("nightly", deadline=None, max_examples=20_000, print_blob=True)
# Mutants need to be noticed, not explained: no shrinking, and few examples for each of thousands.
_SEEN_ONLY = (Phase.explicit, Phase.generate)
settings.register_profile(
    "mutation", derandomize=True, deadline=None, max_examples=20, phases=_SEEN_ONLY
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))

_prefixes = (f"t{number}-" for number in itertools.count())


class SetClock:
    """A clock that tests move."""

    def __init__(self, now: datetime) -> None:
        self._now = now

    def now(self) -> datetime:
        return self._now

    def advance(self, by: timedelta) -> None:
        self._now += by

    def set(self, now: datetime) -> None:
        self._now = now


@pytest.fixture
def clock() -> SetClock:
    return SetClock(datetime(2026, 11, 20, 12, tzinfo=UTC))


@pytest.fixture(scope="session")
def dynamodb_endpoint() -> Iterator[str]:
    port = free_port()
    process = dynamodb_local.start(port)
    yield dynamodb_local.endpoint(port)
    process.terminate()
    process.wait(timeout=10)


@pytest.fixture
def config(dynamodb_endpoint: str) -> Config:
    """A deployment of its own: fresh tables under a prefix nobody else uses."""
    prefix = next(_prefixes)
    dynamodb_local.create_tables(dynamodb_local.client(dynamodb_endpoint), prefix=prefix)
    return Config(
        table_prefix=prefix, dynamodb_endpoint=dynamodb_endpoint, auth=False, settings_cache_s=0
    )


@pytest.fixture
def wiring(config: Config, clock: SetClock) -> Iterator[Wiring]:
    """Everything real over DynamoDB Local, with a clock that stands still; handlers find it too."""
    with using(Wiring(config, clock=clock)) as wired:
        yield wired
