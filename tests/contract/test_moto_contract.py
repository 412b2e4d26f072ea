"""The in-memory DynamoDB answers as moto does where moto is right, and the list of gaps is true."""

import itertools
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from moto import mock_aws

from tests.contract.moto_gaps import gap_of
from tests.contract.scripts import SCRIPTS, Script
from tests.contract.services import create_tables, in_plain_numbers, run, run_in_memory

_prefixes = (f"contract{number}-" for number in itertools.count())


@pytest.fixture(scope="module")
def moto_client() -> Iterator[Any]:
    with mock_aws():
        yield boto3.client("dynamodb", region_name="us-east-1")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_memory_answers_as_moto_does_where_moto_is_right(script: Script, moto_client: Any) -> None:
    prefix, gap = next(_prefixes), gap_of(script.name)
    create_tables(moto_client, script, prefix)

    try:
        expected = in_plain_numbers(run(moto_client, script, prefix))
    except (AssertionError, AttributeError, KeyError, TypeError, ValueError):
        # moto itself broke down, in this process.
        assert gap is not None
        return

    # A gap that has been closed must be struck out, so both ways count.
    assert (expected == run_in_memory(script)) is (gap is None)
