"""A DynamoDB client that fails where a test says: refused, lost after it took effect, or killed.

Calls are counted from 1: those of one operation, or all of them.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from botocore.exceptions import ClientError, ReadTimeoutError

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient

CALLS_MAX = 200
"""No unit of work that a test kills makes more calls than this."""


class KilledError(BaseException):
    """The process ends here; nothing may catch it."""


class Call(NamedTuple):
    """One call of the client."""

    number: int
    """Among all calls, or among those of its operation; see `FaultyClient.around`."""
    operation: str
    request: dict[str, Any]


Go = Callable[[], Any]
Around = Callable[[Call, Go], Any]


def throttled() -> ClientError:
    """DynamoDB took nothing: too many requests."""
    return _refusal("ThrottlingException", 400)


def broken() -> ClientError:
    """DynamoDB has trouble of its own."""
    return _refusal("InternalServerError", 500)


def timed_out() -> ReadTimeoutError:
    """The answer did not come; what was asked may have been done."""
    return ReadTimeoutError(endpoint_url="http://127.0.0.1")


def _refusal(code: str, status: int) -> ClientError:
    answer: Any = {
        "Error": {"Code": code, "Message": "a test said so"},
        "ResponseMetadata": {"HTTPStatusCode": status},
    }
    return ClientError(answer, "Any")


class FaultyClient:
    """Wraps a real client; a test says what happens around which call."""

    def __init__(self, client: "DynamoDBClient") -> None:
        self._client = client
        self._operations = client.meta.method_to_api_mapping
        self._arounds: list[tuple[str | None, Collection[int], Around]] = []
        self._lock = Lock()
        self.calls: list[str] = []
        """The operations called so far, in order."""

    @property
    def client(self) -> "DynamoDBClient":
        """Itself, as what a wiring takes."""
        return cast("DynamoDBClient", self)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._client, name)
        return partial(self._call, name) if name in self._operations else found

    def get_paginator(self, operation: str) -> Any:
        """The real paginator, whose every page is a call of this client."""
        paginator = getattr(self._client, "get_paginator")(operation)  # noqa: B009 (typed by name)
        paginator._method = getattr(self, operation)
        return paginator

    def _call(self, operation: str, **request: Any) -> Any:
        with self._lock:
            self.calls.append(operation)
            number, of_operation = len(self.calls), self.calls.count(operation)
        go: Go = partial(getattr(self._client, operation), **request)
        for wanted, at, around in self._arounds:
            count = number if wanted is None else of_operation
            if wanted in {None, operation} and (not at or count in at):
                go = partial(around, Call(count, operation, request), go)
        return go()

    # --- what a test says -------------------------------------------------------------------------

    def around(self, operation: str | None, around: Around, *, at: Collection[int] = ()) -> None:
        """Have `around` make these calls (none named: every one) of an operation, or of any."""
        self._arounds.append((operation, at, around))

    def fail(
        self,
        operation: str | None,
        error: BaseException,
        *,
        at: Collection[int] = (),
        after_effect: bool = False,
    ) -> None:
        """Raise `error` in place of calls, or of their answers once they have taken effect."""

        def failing(call: Call, go: Go) -> Any:
            if after_effect:
                go()
            raise error

        self.around(operation, failing, at=at)

    def refuse_statements(self, codes: Mapping[int, str], *, at: int = 1) -> None:
        """Of one BatchExecuteStatement, answer these statements (from 0) with error codes.

        They are not executed; the others are.
        """

        def refusing(call: Call, go: Go) -> Any:
            statements = call.request["Statements"]
            kept = [one for number, one in enumerate(statements) if number not in codes]
            answers = iter(self._execute(kept))
            responses = [
                {"Error": {"Code": codes[number], "Message": "a test said so"}}
                if number in codes
                else next(answers)
                for number in range(len(statements))
            ]
            return {"Responses": responses}

        self.around("batch_execute_statement", refusing, at={at})

    def _execute(self, statements: list[Any]) -> list[Any]:
        if not statements:
            return []
        return list(self._client.batch_execute_statement(Statements=statements)["Responses"])

    def before(self, operation: str | None, do: Callable[[], object], *, at: int) -> None:
        """Do something else just before a call."""

        def doing(call: Call, go: Go) -> Any:
            do()
            return go()

        self.around(operation, doing, at={at})

    def after(self, operation: str | None, do: Callable[[], object], *, at: int) -> None:
        """Do something else when a call has taken effect, before its answer is seen."""

        def doing(call: Call, go: Go) -> Any:
            answer = go()
            do()
            return answer

        self.around(operation, doing, at={at})


class Deaths:
    """Clients that die at their first call, at their second, ... until one lives through."""

    def __init__(self, client: "DynamoDBClient", *, after_effect: bool) -> None:
        self._client = client
        self._after_effect = after_effect
        self.number = 0

    def __iter__(self) -> Iterator[FaultyClient]:
        """At most `CALLS_MAX` lives."""
        for at in range(1, CALLS_MAX):
            mortal = FaultyClient(self._client)
            mortal.fail(None, KilledError(), at={at}, after_effect=self._after_effect)
            yield mortal
            if len(mortal.calls) < at:
                return
            self.number += 1
        raise AssertionError(f"not done after {CALLS_MAX} calls")


@contextmanager
def dying() -> Iterator[None]:
    """Until the process is killed, if it is."""
    try:
        yield
    except KilledError:
        return
