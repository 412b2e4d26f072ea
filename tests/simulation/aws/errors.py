"""DynamoDB's refusals, as the real client raises them."""

from typing import Any

from botocore.exceptions import ClientError


class Exceptions:
    """What stands in a client's `exceptions`: the errors that calls may raise, by AWS's names."""

    class ConditionalCheckFailedException(ClientError):  # noqa: N818 (AWS's own name)
        pass

    class TransactionCanceledException(ClientError):  # noqa: N818 (AWS's own name)
        pass

    class TransactionConflictException(ClientError):  # noqa: N818 (AWS's own name)
        pass

    class TransactionInProgressException(ClientError):  # noqa: N818 (AWS's own name)
        pass

    class IdempotentParameterMismatchException(ClientError):  # noqa: N818 (AWS's own name)
        pass

    class ResourceNotFoundException(ClientError):  # noqa: N818 (AWS's own name)
        pass

    class ProvisionedThroughputExceededException(ClientError):  # noqa: N818 (AWS's own name)
        pass

    class RequestLimitExceeded(ClientError):  # noqa: N818 (AWS's own name)
        pass

    class InternalServerError(ClientError):
        pass


_SERVER_ERRORS = {"InternalServerError": 500, "ServiceUnavailable": 503}


def refusal(code: str, message: str, operation: str, **more: Any) -> ClientError:
    """The error by which an operation is refused; `more` stands beside `Error` in its answer.

    Codes that the service model does not name (`ValidationException`, `ThrottlingException`) come
    as plain `ClientError`, as with the real client.
    """
    response: Any = {
        "Error": {"Message": message, "Code": code},
        "ResponseMetadata": {"HTTPStatusCode": _SERVER_ERRORS.get(code, 400), "RetryAttempts": 0},
        "message": message,
    }
    kind: type[ClientError] = getattr(Exceptions, code, ClientError)
    return kind(response | more, operation)


class InvalidError(Exception):
    """A request that DynamoDB would call a `ValidationException`; the message says why."""
