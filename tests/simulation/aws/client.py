"""The low-level DynamoDB client's methods over any way to make a call."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tests.simulation.aws.errors import Exceptions

Call = Callable[[str, dict[str, Any]], dict[str, Any]]
"""Takes an operation's name and its parameters; `MemoryDynamoDB.execute` is one."""


class Client:
    """What our adapters use of `boto3.client("dynamodb")`.

    `tokens` makes the token that botocore would send along with each transaction; without it none
    is sent, and a transaction that is done twice is done twice.
    """

    exceptions = Exceptions

    def __init__(self, call: Call, *, tokens: Callable[[], str] | None = None) -> None:
        self._call = call
        self._tokens = tokens

    def get_item(self, **params: Any) -> dict[str, Any]:
        return self._call("GetItem", params)

    def put_item(self, **params: Any) -> dict[str, Any]:
        return self._call("PutItem", params)

    def update_item(self, **params: Any) -> dict[str, Any]:
        return self._call("UpdateItem", params)

    def delete_item(self, **params: Any) -> dict[str, Any]:
        return self._call("DeleteItem", params)

    def query(self, **params: Any) -> dict[str, Any]:
        return self._call("Query", params)

    def scan(self, **params: Any) -> dict[str, Any]:
        return self._call("Scan", params)

    def batch_get_item(self, **params: Any) -> dict[str, Any]:
        return self._call("BatchGetItem", params)

    def batch_write_item(self, **params: Any) -> dict[str, Any]:
        return self._call("BatchWriteItem", params)

    def batch_execute_statement(self, **params: Any) -> dict[str, Any]:
        return self._call("BatchExecuteStatement", params)

    def transact_write_items(self, **params: Any) -> dict[str, Any]:
        if self._tokens is not None:
            params.setdefault("ClientRequestToken", self._tokens())
        return self._call("TransactWriteItems", params)

    def get_paginator(self, method: str) -> "Paginator":
        return Paginator({"query": self.query, "scan": self.scan}[method])


class Paginator:
    """Follows `LastEvaluatedKey` from page to page, each one call and made when it is needed."""

    def __init__(self, method: Callable[..., dict[str, Any]]) -> None:
        self._method = method

    def paginate(
        self,
        *,
        PaginationConfig: Mapping[str, int] | None = None,  # noqa: N803 (boto3's own name)
        **params: Any,
    ) -> Iterator[dict[str, Any]]:
        """The pages; `MaxItems` cuts the last one short, `PageSize` is each page's `Limit`."""
        config = dict(PaginationConfig or {})
        left, size = config.pop("MaxItems", None), config.pop("PageSize", None)
        if config:
            raise NotImplementedError(f"PaginationConfig with {sorted(config)}")
        if size is not None:
            params["Limit"] = size
        return self._pages(params, left)

    def _pages(self, params: dict[str, Any], left: int | None) -> Iterator[dict[str, Any]]:
        while True:
            page = self._method(**params)
            if left is not None:
                page["Items"] = page["Items"][:left]
                left -= len(page["Items"])
            yield page
            if "LastEvaluatedKey" not in page or left == 0:
                return
            params["ExclusiveStartKey"] = page["LastEvaluatedKey"]
