"""Which parameters the simulated DynamoDB knows; any other one is refused loudly."""

from collections.abc import Mapping
from typing import Any

_NAMED = {"ExpressionAttributeNames", "ExpressionAttributeValues"}
_WRITE = {"TableName", "ConditionExpression", "ReturnValuesOnConditionCheckFailure"} | _NAMED
_PROJECTED = {"ProjectionExpression", "ExpressionAttributeNames", "ConsistentRead"}
_PAGE = {"TableName", "IndexName", "FilterExpression", "Select", "Limit", "ExclusiveStartKey"}
_PAGE |= _PROJECTED | _NAMED

_PARAMETERS: dict[str, set[str]] = {
    "GetItem": {"TableName", "Key"} | _PROJECTED,
    "Query": {"KeyConditionExpression", "ScanIndexForward"} | _PAGE,
    "Scan": _PAGE,
    "PutItem": {"Item", "ReturnValues"} | _WRITE,
    "UpdateItem": {"Key", "UpdateExpression", "ReturnValues"} | _WRITE,
    "DeleteItem": {"Key", "ReturnValues"} | _WRITE,
    "BatchGetItem": {"RequestItems"},
    "BatchGetItem's table": {"Keys"} | _PROJECTED,
    "BatchWriteItem": {"RequestItems"},
    "PutRequest": {"Item"},
    "DeleteRequest": {"Key"},
    "BatchExecuteStatement": {"Statements"},
    "BatchExecuteStatement's statement": {
        "Statement",
        "Parameters",
        "ReturnValuesOnConditionCheckFailure",
    },
    "TransactWriteItems": {"TransactItems", "ClientRequestToken"},
    "Put": {"Item"} | _WRITE,
    "Update": {"Key", "UpdateExpression"} | _WRITE,
    "Delete": {"Key"} | _WRITE,
    "ConditionCheck": {"Key"} | _WRITE,
}


def check(what: str, params: Mapping[str, Any]) -> None:
    """Refuse an operation, or a part of one, that has never been asked for.

    Raises:
        NotImplementedError: it, or one of its parameters, is not known.
    """
    known = _PARAMETERS.get(what)
    if known is None:
        raise NotImplementedError(f"DynamoDB's {what}")
    if not params.keys() <= known:
        raise NotImplementedError(f"{what} with {sorted(params.keys() - known)}")
