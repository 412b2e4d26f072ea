"""A client whose every call is made twice, to DynamoDB Local and in memory, and compared."""

import ast
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

from metering.adapters import dynamodb as adapters
from tests.contract.services import attempt, comparable, in_plain_numbers, method_of
from tests.simulation.aws.client import Client, Paginator
from tests.simulation.aws.dynamodb import MemoryDynamoDB

FOLDER = Path(adapters.__path__[0])
_CLIENTS = {"_client", "_dynamodb"}
_HELPERS = {"refusals.py"}
"""They walk through pages that others have asked for."""


class Site(NamedTuple):
    """Where an adapter calls the client."""

    module: str
    function: str
    method: str

    def __str__(self) -> str:
        return f"{self.module.removesuffix('.py')}.{self.function}.{self.method}"


def sites_in_adapters() -> set[Site]:
    """Every place in the adapters that calls the client, read from their source."""
    return {site for path in FOLDER.glob("*.py") for site in _sites_in(path)}


def _sites_in(path: Path) -> Iterator[Site]:
    for function in ast.walk(ast.parse(path.read_text())):
        if not isinstance(function, ast.FunctionDef):
            continue
        for node in ast.walk(function):
            match node:
                case ast.Call(
                    func=ast.Attribute(value=ast.Attribute(attr=client), attr=method)
                ) if client in _CLIENTS:
                    yield Site(path.name, function.name, method)


class Mirror(Client):
    """Answers as DynamoDB Local does, after it has seen memory answer the same."""

    def __init__(self, local: Any, memory: MemoryDynamoDB) -> None:
        super().__init__(self._twice)
        self.meta = local.meta
        self.exceptions = local.exceptions
        self._local = local
        self._memory = memory
        self._lock = Lock()
        self.differences: list[str] = []
        self.sites: set[Site] = set()

    def get_paginator(self, method: str) -> Paginator:
        self._note("get_paginator")
        return super().get_paginator(method)

    def _twice(self, operation: str, params: dict[str, Any]) -> dict[str, Any]:
        method = method_of(operation)
        self._note(method)
        with self._lock:
            answer, error = attempt(partial(getattr(self._local, method), **params))
            actual = attempt(partial(self._memory.execute, operation, params))
        # Items of one sort key come from an index in any order, as all do from a scan.
        kind = "Scan" if "IndexName" in params else operation
        expected = in_plain_numbers(comparable(kind, answer, error))
        if expected != comparable(kind, *actual):
            self.differences.append(f"{operation} {params}: {expected}, in memory {actual}")
        if error is not None:
            raise error
        return dict(answer)

    def _note(self, method: str) -> None:
        frame: Any = sys._getframe(1)
        while frame is not None:
            path = Path(frame.f_code.co_filename)
            if path.parent == FOLDER and path.name not in _HELPERS:
                self.sites.add(Site(path.name, frame.f_code.co_name, method))
                return
            frame = frame.f_back
