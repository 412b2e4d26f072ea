"""The fixtures of the integration tests, over a mirror in place of DynamoDB Local alone."""

from collections.abc import Iterator
from typing import cast

import pytest
from types_boto3_dynamodb import DynamoDBClient

from infra.tables import TABLES
from metering.config import Config
from metering.wiring import Wiring, using
from tests.conftest import SetClock
from tests.contract.mirror import Mirror
from tests.integration.conftest import billing, stripe_server
from tests.simulation.aws.dynamodb import MemoryDynamoDB

__all__ = ["billing", "stripe_server"]


@pytest.fixture
def mirror(config: Config, clock: SetClock) -> Iterator[Mirror]:
    """Fails the test whose calls the two did not answer alike."""
    memory = MemoryDynamoDB(TABLES, prefix=config.table_prefix, now=clock.now)
    mirror = Mirror(Wiring(config).dynamodb, memory)
    yield mirror
    assert mirror.differences == []


@pytest.fixture
def wiring(config: Config, clock: SetClock, mirror: Mirror) -> Iterator[Wiring]:
    """Everything real; handlers find it too."""
    client = cast("DynamoDBClient", mirror)
    with using(Wiring(config, clock=clock, dynamodb=client)) as wired:
        yield wired
