"""How routes are registered, with what the API's document says of them."""

from collections.abc import Callable, Collection
from functools import wraps
from inspect import getdoc
from typing import Any, cast

from aws_lambda_powertools.event_handler.api_gateway import Router

from functions.api import call
from functions.api.fields import ERROR_STATUSES, ErrorBody, RefusedCaller
from metering.auth import Scope

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
SCOPES: dict[str, tuple[Scope, ...]] = {}
"""Which scopes open an operation; holding any one of them suffices."""
_AGAIN_LATER = frozenset({429, 503})
_SAID_BY_ERROR = frozenset({401, 403, 429})
_OF_ALL = (400, 401, 403, 429, OUR_FAULT, 503)
_OF_BODIES = (415,)
_OF_NAMES = (404,)


def new_router() -> Router:
    """A router for one noun's routes."""
    return Router()  # type: ignore[no-untyped-call]


def serve[F: Callable[..., Any]](  # noqa: PLR0913 (one per thing that the document says)
    router: Router,
    route: str,
    model: Any = None,
    *,
    scopes: tuple[Scope, ...],
    tag: str,
    status: int = 200,
    may: Collection[int] = (),
    responses: dict[int, Any] | None = None,
) -> Callable[[F], F]:
    """Register a function for `METHOD /path`; its name and docstring become the document's.

    `model` is the answer's form; None has no JSON body. `scopes` are alternatives, of which the
    caller must hold one before the function is called. `may` are the statuses of refusals beside
    those that every route has; `responses` says other things of answers than the route's kind does.
    """
    method, path = route.split(" ")
    refused = {*_OF_ALL, *may, *_of_kind(method, path)}

    def register(function: F) -> F:
        if TOO_MUCH in refused:
            LISTINGS.add(function.__name__)
        SCOPES[function.__name__] = scopes
        registered: F = router.route(
            path,
            method=method,
            summary=(getdoc(function) or "").partition("\n")[0],
            operation_id=function.__name__,
            responses={status: success(model)} | refusals(refused) | (responses or {}),
            tags=[tag],
        )(_guarded(function, scopes))
        return registered

    return register


def _guarded[F: Callable[..., Any]](function: F, scopes: tuple[Scope, ...]) -> F:
    """The function, once the caller may ask it."""

    @wraps(function)
    def guarded(*arguments: Any, **named: Any) -> Any:
        call.current().caller.require(*scopes)
        return function(*arguments, **named)

    return cast("F", guarded)


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
    model = RefusedCaller if status in _SAID_BY_ERROR else ErrorBody
    said: dict[str, Any] = {
        "description": ERROR_STATUSES[status],
        "content": {JSON: {"model": model}},
    }
    return said | {"headers": RETRY_AFTER} if status in _AGAIN_LATER else said


def _of_kind(method: str, path: str) -> tuple[int, ...]:
    of_body = _OF_BODIES if method in {"POST", "PUT"} else ()
    return of_body + (_OF_NAMES if "<" in path else ())
