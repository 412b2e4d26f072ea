"""How routes are registered, with what the API's document says of them."""

from collections.abc import Callable, Collection
from inspect import getdoc
from typing import Any

from aws_lambda_powertools.event_handler.api_gateway import Router

from functions.api.fields import ERROR_STATUSES, ErrorBody, RefusedCaller

JSON = "application/json"
OUR_FAULT = 500
TOO_MUCH = 422
RETRY_AFTER = {
    "retry-after": {
        "description": "Seconds after which to send it again.",
        "schema": {"type": "integer", "minimum": 1},
    }
}
LISTINGS: set[str] = set()
"""Operations that may be answered 422. Powertools describes its own 422 for every operation, which
is none of ours, so what the document says of it is put there afterwards."""
_OF_ALL = (400, 401, 403, OUR_FAULT, 503)
_OF_BODIES = (415,)
_OF_NAMES = (404,)


def new_router() -> Router:
    """A router for one noun's routes."""
    return Router()  # type: ignore[no-untyped-call]


def serve[F: Callable[..., Any]](
    router: Router,
    route: str,
    model: Any = None,
    *,
    tag: str,
    status: int = 200,
    may: Collection[int] = (),
    responses: dict[int, Any] | None = None,
) -> Callable[[F], F]:
    """Register a function for `METHOD /path`; its name and docstring become the document's.

    `model` is the answer's form; None has no JSON body. `may` are the statuses of refusals beside
    those that every route has; `responses` says other things of answers than the route's kind does.
    """
    method, path = route.split(" ")
    refused = {*_OF_ALL, *may, *_of_kind(method, path)}

    def register(function: F) -> F:
        if TOO_MUCH in refused:
            LISTINGS.add(function.__name__)
        registered: F = router.route(
            path,
            method=method,
            summary=(getdoc(function) or "").partition("\n")[0],
            operation_id=function.__name__,
            responses={status: success(model)} | refusals(refused) | (responses or {}),
            tags=[tag],
        )(function)
        return registered

    return register


def serve_anyone[F: Callable[..., Any]](
    router: Router, route: str, responses: dict[int, Any], *, tag: str
) -> Callable[[F], F]:
    """Register a function that is answered without a key, and refuses nothing but `responses`."""
    method, path = route.split(" ")

    def register(function: F) -> F:
        registered: F = router.route(
            path,
            method=method,
            summary=(getdoc(function) or "").partition("\n")[0],
            operation_id=function.__name__,
            responses=responses | refusals({OUR_FAULT}),
            tags=[tag],
        )(function)
        return registered

    return register


def success(model: Any) -> dict[str, Any]:
    """What the document says of an answer that is no refusal."""
    said: dict[str, Any] = {"description": "Success"}
    return said if model is None else said | {"content": {JSON: {"model": model}}}


def refusals(statuses: Collection[int]) -> dict[int, Any]:
    """What the document says of refusals, by their statuses."""
    return {status: _refusal(status) for status in sorted(statuses)}


def _refusal(status: int) -> dict[str, Any]:
    model = RefusedCaller if status in {401, 403} else ErrorBody
    said: dict[str, Any] = {
        "description": ERROR_STATUSES[status],
        "content": {JSON: {"model": model}},
    }
    return said | {"headers": RETRY_AFTER} if status == 503 else said  # noqa: PLR2004 (as above)


def _of_kind(method: str, path: str) -> tuple[int, ...]:
    of_body = _OF_BODIES if method in {"POST", "PUT"} else ()
    return of_body + (_OF_NAMES if "<" in path else ())
