"""Which of DynamoDB's errors mean "not now": those become `RetryableError`, the rest stay loud."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from botocore.exceptions import ClientError, HTTPClientError
from botocore.exceptions import ConnectionError as NoConnectionError

from metering.errors import RetryableError

_SERVER_ERROR = 500
_NOT_NOW = frozenset(
    {
        "InternalServerError",
        "LimitExceededException",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "ServiceUnavailable",
        "ThrottlingException",
        "TransactionConflictException",
        "TransactionInProgressException",
    }
)
_CANCELLED_FOR_NOW = frozenset(
    {"TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"}
)
"""Reasons of a cancelled transaction; AWS names them unlike the errors of single writes."""


@contextmanager
def retryable() -> Iterator[None]:
    """Around reads, and around writes that may be sent twice.

    Raises:
        RetryableError: DynamoDB throttled, failed on its side, or could not be reached.
    """
    try:
        yield
    except Exception as error:
        if not is_not_now(error):
            raise
        raise RetryableError(f"DynamoDB cannot answer now: {error}") from error


def items_of(pages: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """The items of a query's or a scan's pages, each page read when it is needed.

    Raises:
        RetryableError: a page could not be read for now.
    """
    with retryable():
        for page in pages:
            yield from page["Items"]


def is_not_now(error: Exception) -> bool:
    """Whether the same call may succeed later: throttled, failed on their side, not reached."""
    if not isinstance(error, ClientError):
        return isinstance(error, (NoConnectionError, HTTPClientError))
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return code_of(error) in _NOT_NOW or status >= _SERVER_ERROR or _only_collided(error)


def _only_collided(error: ClientError) -> bool:
    """Whether a transaction was cancelled by the moment alone: no condition failed."""
    codes = {reason.get("Code", "") for reason in error.response.get("CancellationReasons", [])}
    return bool(codes & _CANCELLED_FOR_NOW) and "ConditionalCheckFailed" not in codes


def code_of(error: ClientError) -> str:
    """DynamoDB's name for the error."""
    return error.response.get("Error", {}).get("Code", "")


@contextmanager
def first_refused() -> Iterator[list[int]]:
    """Around a transaction: which of its writes was the first whose condition did not hold.

    Empty when it was carried out; its position where nothing was.
    """
    position: list[int] = []
    try:
        yield position
    except ClientError as error:
        if not is_condition_failure(error):
            raise
        reasons = error.response["CancellationReasons"]
        failed = [reason.get("Code") == "ConditionalCheckFailed" for reason in reasons]
        position.append(failed.index(True))


def is_condition_failure(error: ClientError) -> bool:
    """Whether a condition did not hold: of the write itself, or of any one in a transaction."""
    if code_of(error) == "ConditionalCheckFailedException":
        return True
    reasons = error.response.get("CancellationReasons", [])
    return any(reason.get("Code") == "ConditionalCheckFailed" for reason in reasons)
