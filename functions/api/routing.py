"""How routes are registered, with what the API's document says of them."""

from collections.abc import Callable
from inspect import getdoc
from typing import Any

from aws_lambda_powertools.event_handler.api_gateway import Router

from functions.api.fields import ERROR_STATUSES, ErrorBody


def new_router() -> Router:
    """A router for one noun's routes."""
    return Router()  # type: ignore[no-untyped-call]


def serve[F: Callable[..., Any]](
    router: Router, route: str, model: Any = None, *, tag: str, status: int = 200
) -> Callable[[F], F]:
    """Register a function for `METHOD /path`; its name and docstring become the document's.

    `model` is the answer's form; None has no JSON body.
    """
    method, path = route.split(" ")

    def register(function: F) -> F:
        registered: F = router.route(
            path,
            method=method,
            summary=(getdoc(function) or "").partition("\n")[0],
            operation_id=function.__name__,
            responses=_responses(model, status),
            tags=[tag],
        )(function)
        return registered

    return register


def _responses(model: Any, status: int) -> dict[int, Any]:
    success: dict[str, Any] = {"description": "Success"}
    if model is not None:
        success["content"] = {"application/json": {"model": model}}
    refusals = {
        code: {"description": text, "content": {"application/json": {"model": ErrorBody}}}
        for code, text in ERROR_STATUSES.items()
    }
    return {status: success} | refusals
