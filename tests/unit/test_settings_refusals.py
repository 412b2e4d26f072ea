"""Which of DynamoDB's errors mean "not now"."""

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from metering.adapters.dynamodb.refusals import retryable
from metering.errors import RetryableError


def an_error(code: str, *reasons: str, status: int = 400) -> ClientError:
    response = {
        "Error": {"Code": code, "Message": "-"},
        "ResponseMetadata": {"HTTPStatusCode": status},
        "CancellationReasons": [{"Code": reason} for reason in reasons],
    }
    return ClientError(response, "TransactWriteItems")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "error",
    [
        an_error("ThrottlingException"),
        an_error("ProvisionedThroughputExceededException"),
        an_error("Anything", status=500),
        an_error("TransactionCanceledException", "None", "TransactionConflict"),
        an_error("TransactionCanceledException", "ThrottlingError"),
        EndpointConnectionError(endpoint_url="http://127.0.0.1:1"),
    ],
)
def test_what_passes_is_to_be_tried_again(error: Exception) -> None:
    with pytest.raises(RetryableError), retryable():
        raise error


@pytest.mark.parametrize(
    "error",
    [
        an_error("ValidationException"),
        an_error("ConditionalCheckFailedException"),
        an_error("TransactionCanceledException", "ConditionalCheckFailed", "TransactionConflict"),
        ValueError("ours"),
    ],
)
def test_what_stays_wrong_stays_loud(error: Exception) -> None:
    with pytest.raises(type(error)), retryable():
        raise error
