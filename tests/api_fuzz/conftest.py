"""One deployment per test process for all fuzzing; each test's tenants are its own."""

from collections.abc import Iterator

import pytest

from local import dynamodb_local
from metering.config import Config
from tests.api_fuzz.fuzzed_world import FuzzedWorld


@pytest.fixture(scope="package")
def deployment(dynamodb_endpoint: str) -> FuzzedWorld:
    prefix = "fuzz-"
    dynamodb_local.create_tables(dynamodb_local.client(dynamodb_endpoint), prefix=prefix)
    return FuzzedWorld(
        Config(table_prefix=prefix, dynamodb_endpoint=dynamodb_endpoint, settings_cache_s=0)
    )


@pytest.fixture(scope="module")
def fuzzed(request: pytest.FixtureRequest, deployment: FuzzedWorld) -> Iterator[FuzzedWorld]:
    """The deployment, which the handlers find too."""
    with deployment.in_use(request.module.__name__.rpartition("_")[2]):
        yield deployment
