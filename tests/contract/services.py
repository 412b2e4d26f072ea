"""How scripts are run against a DynamoDB, and its answers made comparable with another's."""

import json
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from decimal import Context, Decimal
from functools import partial
from typing import Any

from botocore.exceptions import ClientError

from infra.tables import TABLES
from tests.contract.scripts import Script
from tests.simulation.aws.client import Client
from tests.simulation.aws.dynamodb import MemoryDynamoDB

type Outcome = tuple[str, Any]
"""`answer` and what it says, or `error` and what our code could see of it."""

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
_WIDE = Context(prec=200)
_IGNORED = {"ItemCollectionMetrics", "ResponseMetadata", "ConsumedCapacity"}
"""Nobody asks for the last two; DynamoDB Local and moto tell them here and there all the same."""
KEPT_OF_ERRORS = ("Item", "CancellationReasons")


def method_of(operation: str) -> str:
    """The client's method for an operation of the service model."""
    return "".join(f"_{one.lower()}" if one.isupper() else one for one in operation).lstrip("_")


def attempt(call: Callable[[], Any]) -> tuple[Any, ClientError | None]:
    """A call's answer, or else its error."""
    try:
        return call(), None
    except ClientError as error:
        return None, error


def comparable(operation: str, answer: Any, error: ClientError | None) -> Outcome:
    """What a call came to, less all that no code of ours may rely on."""
    if error is not None:
        return "error", _without_messages(error.response)
    return "answer", _comparable(operation, answer)


def _without_messages(response: Any) -> dict[str, Any]:
    kept = {name: response[name] for name in KEPT_OF_ERRORS if name in response}
    if "CancellationReasons" in kept:
        reasons = kept["CancellationReasons"]
        kept["CancellationReasons"] = [
            {name: one[name] for name in ("Code", "Item") if name in one} for one in reasons
        ]
    return kept | {"Code": response["Error"]["Code"]}


def _comparable(operation: str, answer: Any) -> dict[str, Any]:
    kept = {name: value for name, value in answer.items() if name not in _IGNORED}
    if operation == "BatchGetItem":
        kept["Responses"] = {name: _by_key(items) for name, items in kept["Responses"].items()}
    if operation == "Scan" and "Items" in kept:
        kept["Items"] = _by_key(kept["Items"])
    if operation == "BatchExecuteStatement":
        kept["Responses"] = [_statement(one) for one in kept["Responses"]]
    return kept


def _by_key(items: Iterable[Any]) -> list[Any]:
    """Items whose order AWS does not promise, in one of ours."""
    return sorted(
        items, key=lambda item: json.dumps(in_plain_numbers(item), sort_keys=True, default=repr)
    )


def _statement(response: Any) -> dict[str, Any]:
    error = response.get("Error")
    if error is None:
        return {name: value for name, value in response.items() if name != "TableName"}
    return {name: error[name] for name in ("Code", "Item") if name in error}


def in_plain_numbers(value: Any) -> Any:
    """The same with all numbers in normal form.

    AWS answers so; DynamoDB Local leaves numbers in maps, in lists and of updates as they were
    sent, and moto leaves them all.
    """
    if isinstance(value, (list, tuple)):
        return type(value)(in_plain_numbers(member) for member in value)
    if not isinstance(value, dict):
        return value
    if value.keys() == {"N"} and isinstance(value["N"], str):
        return {"N": f"{Decimal(value['N']).normalize(_WIDE):f}"}
    return {name: in_plain_numbers(member) for name, member in value.items()}


# --- scripts --------------------------------------------------------------------------------------


def run_in_memory(script: Script) -> list[Outcome]:
    return run(Client(MemoryDynamoDB(TABLES, now=lambda: NOW).execute), script, "")


def create_tables(client: Any, script: Script, prefix: str) -> None:
    """Those that the script names; each takes DynamoDB Local some milliseconds."""
    text = str(script.steps)
    for table in TABLES:
        if f"'{table.name}'" in text or f'"{table.name}"' in text:
            client.create_table(**table.creation_request(prefix=prefix))


def run(client: Any, script: Script, prefix: str) -> list[Outcome]:
    names = {table.name: prefix + table.name for table in TABLES}
    former = {prefixed: name for name, prefixed in names.items()}
    outcomes = []
    for operation, params in script.steps:
        call = partial(getattr(client, method_of(operation)), **renamed(params, names))
        outcomes.append(renamed(comparable(operation, *attempt(call)), former))
    return outcomes


def renamed(value: Any, names: Mapping[str, str]) -> Any:
    """The same with other names of tables, wherever a request or an answer names them."""
    if isinstance(value, (list, tuple)):
        return type(value)(renamed(member, names) for member in value)
    if not isinstance(value, dict):
        return value
    return {names.get(name, name): _renamed_in(name, one, names) for name, one in value.items()}


def _renamed_in(name: str, value: Any, names: Mapping[str, str]) -> Any:
    if name == "TableName":
        return names.get(value, value)
    if name == "Statement":
        table = value.split('"')[1]
        return value.replace(f'"{table}"', f'"{names.get(table, table)}"')
    return renamed(value, names)
