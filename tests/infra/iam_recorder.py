"""What each function was seen to do, in IAM's words: every call of DynamoDB, every secret.

A function is told by the process that runs in a simulated world, or by the frame of its handler
that stands on the stack. The adapter's method that made a call is noted as well, so that a test can
say which methods no world has reached.
"""

import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import CodeType, FrameType
from typing import Any
from unittest.mock import patch

from infra.permissions import (
    ExportResource,
    IndexResource,
    Resource,
    SecretResource,
    TableResource,
)
from metering.adapters.dynamodb import client
from metering.adapters.stripe_client import StripeConnection
from metering.adapters.stripe_key import StripeKey
from metering.adapters.stripe_webhook import StripeWebhookSettings
from metering.push import Mode
from tests.simulation.aws.client import Paginator
from tests.simulation.draw import draw
from tests.simulation.kernel import Kernel
from tests.simulation.run import Lived, live

ADAPTERS = Path(client.__file__).parent
READS_SECRET = "secretsmanager:GetSecretValue"
OWN_KEY, SHADOW_KEY, WEBHOOK_SECRET = "stripe-key", "stripe-shadow-key", "stripe-webhook"
_STATEMENT = re.compile(
    r'\s*(?P<verb>INSERT INTO|UPDATE|DELETE FROM|EXISTS\s*\(\s*SELECT .+? FROM|SELECT .+? FROM)\s+"'
    r'(?P<table>[^"]+)"(?:\."(?P<index>[^"]+)")?',
    re.IGNORECASE | re.DOTALL,
)
_PARTIQL = {"I": "PartiQLInsert", "U": "PartiQLUpdate", "D": "PartiQLDelete", "S": "PartiQLSelect"}

type Needed = tuple[str, Resource]
type Who = Callable[[], str | None]
"""Which function runs now, if any."""


# --- what a call needs ----------------------------------------------------------------------------


def needed_for(operation: str, params: Mapping[str, Any]) -> Iterator[Needed]:
    """The actions that IAM checks for a call, each with its resource.

    Sources: AWS, "Using IAM with DynamoDB transactions", "IAM security policies with PartiQL for
    DynamoDB", and the service authorization reference.
    """
    for action, resource in _parts(operation, params):
        yield f"dynamodb:{action}", resource


def _parts(operation: str, params: Mapping[str, Any]) -> Iterator[Needed]:
    match operation:
        case "BatchGetItem" | "BatchWriteItem":
            yield from ((operation, TableResource(table)) for table in params["RequestItems"])
        case "BatchExecuteStatement":
            yield from (_of_statement(one["Statement"]) for one in params["Statements"])
        case "ExecuteStatement":
            yield _of_statement(params["Statement"])
        case "TransactWriteItems" | "TransactGetItems":
            for part in params["TransactItems"]:
                yield from (
                    (f"{verb.removesuffix('Item')}Item", _asked(on)) for verb, on in part.items()
                )
        case "ExportTableToPointInTime":
            yield operation, TableResource(_table_of(params["TableArn"]))
        case "DescribeExport":
            yield operation, ExportResource(_table_of(params["ExportArn"]))
        case _:
            yield operation, _asked(params)


def _asked(params: Mapping[str, Any]) -> Resource:
    table = params["TableName"]
    return (
        IndexResource(table, params["IndexName"]) if "IndexName" in params else TableResource(table)
    )


def _table_of(arn: str) -> str:
    return arn.partition("table/")[2].partition("/")[0]


def _of_statement(text: str) -> Needed:
    found = _STATEMENT.match(text)
    if found is None:
        raise NotImplementedError(f"which permission needs the statement {text}?")
    verb = "S" if "SELECT" in found["verb"].upper() else found["verb"][0].upper()
    table, index = found["table"], found["index"]
    return _PARTIQL[verb], IndexResource(table, index) if index else TableResource(table)


# --- who makes it ---------------------------------------------------------------------------------


def function_on_stack() -> str | None:
    """Whose handler is at work in this thread."""
    for code in _codes():
        if code.co_name == "handler" and code.co_filename.endswith("/handler.py"):
            return code.co_filename.split("/")[-2]
    return None


def _codes() -> Iterator[CodeType]:
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        yield frame.f_code
        frame = frame.f_back


@cache
def _adapter_of(file: str) -> str | None:
    path = Path(file)
    return path.stem if path.parent == ADAPTERS else None


def _adapter_methods() -> Iterator[tuple[str, str]]:
    """Module and method of every adapter's frame on the stack."""
    for code in _codes():
        adapter = _adapter_of(code.co_filename)
        if adapter is not None:
            yield adapter, code.co_qualname


@dataclass(slots=True)
class Recorder:
    """Everything that was seen."""

    uses: dict[str, set[Needed]] = field(default_factory=dict)
    """By function."""
    methods: dict[str, set[tuple[str, str]]] = field(default_factory=dict)
    """Of adapters, that stood above a call; by function."""

    def hear(self, function: str, operation: str, params: Mapping[str, Any]) -> None:
        """A function makes a call."""
        self.uses.setdefault(function, set()).update(needed_for(operation, params))
        self.methods.setdefault(function, set()).update(_adapter_methods())

    def hear_call(self, operation: str, params: Mapping[str, Any]) -> None:
        """The function on the stack makes a call; what tests do by themselves is nobody's."""
        function = function_on_stack()
        if function is not None:
            self.hear(function, operation, params)

    def hear_method(self, function: str) -> None:
        """A function prepares a call that somebody else will make, page by page."""
        self.methods.setdefault(function, set()).update(_adapter_methods())

    def reads(self, function: str | None, secret: str) -> None:
        """A function needs a secret; what tests do by themselves is nobody's."""
        if function is not None:
            used = self.uses.setdefault(function, set())
            used.add((READS_SECRET, SecretResource(secret)))

    @contextmanager
    def listening(self, who: Who = function_on_stack) -> Iterator[None]:
        """Hear of secrets and of paginators; `who` says which function runs."""
        use_key, read_key = StripeConnection._key_and_client, StripeKey.read
        read_secrets, paginate = StripeWebhookSettings.secrets, Paginator.paginate

        def use(connection: StripeConnection) -> Any:
            self.reads(who(), _secret_of(connection._key))
            return use_key(connection)

        def read(key: StripeKey) -> str:
            self.reads(who(), _secret_of(key))
            return read_key(key)

        def secrets(settings: StripeWebhookSettings) -> tuple[str, ...]:
            self.reads(who(), WEBHOOK_SECRET)
            return read_secrets(settings)

        def pages(paginator: Paginator, **params: Any) -> Any:
            function = who()
            if function is not None:
                self.hear_method(function)
            return paginate(paginator, **params)

        with (
            patch.object(StripeConnection, "_key_and_client", use),
            patch.object(StripeKey, "read", read),
            patch.object(StripeWebhookSettings, "secrets", secrets),
            patch.object(Paginator, "paginate", pages),
        ):
            yield


def _secret_of(key: StripeKey) -> str:
    return SHADOW_KEY if key.only is Mode.TEST else OWN_KEY


# --- worlds ---------------------------------------------------------------------------------------


def hear_world(recorder: Recorder, seed: int) -> None:
    """Live through a simulated world, and hear all that its functions do."""
    kernels: list[Kernel] = []

    def who() -> str | None:
        running = kernels[0].running if kernels else None
        return running.name.partition("#")[0] if running else None

    def overheard(operation: str, params: Mapping[str, Any]) -> None:
        function = who()
        assert function is not None, "only processes are overheard"
        recorder.hear(function, operation, params)

    def begun(lived: Lived) -> None:
        kernels.append(lived.world.kernel)
        lived.world.dynamo_network.overheard = overheard

    with recorder.listening(who):
        live(draw(seed), begun)
