"""The in-memory DynamoDB answers as DynamoDB Local does, script by script."""

import itertools
from typing import Any

import pytest

from local import dynamodb_local
from tests.contract.scripts import SCRIPTS, Script
from tests.contract.services import create_tables, in_plain_numbers, run, run_in_memory

_prefixes = (f"contract{number}-" for number in itertools.count())


@pytest.fixture(scope="module")
def local_client(dynamodb_endpoint: str) -> Any:
    return dynamodb_local.client(dynamodb_endpoint)


def test_no_two_scripts_have_one_name() -> None:
    names = [script.name for script in SCRIPTS]

    assert len(set(names)) == len(names)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_memory_answers_as_dynamodb_local_does(script: Script, local_client: Any) -> None:
    prefix = next(_prefixes)
    create_tables(local_client, script, prefix)

    expected = in_plain_numbers(run(local_client, script, prefix))

    assert expected == run_in_memory(script)
