"""Stripe's error answers: the envelope, and the texts and codes that its clients look at."""

from collections.abc import Sequence
from typing import Any

_DOCS = "https://stripe.com/docs/error-codes/"

BAD_REQUEST = 400
UNAUTHORIZED = 401
FORBIDDEN = 403
NOT_FOUND = 404
CONFLICT = 409
TOO_MANY_REQUESTS = 429
INTERNAL_ERROR = 500
UNAVAILABLE = 503


class RefusedError(Exception):
    """A request that Stripe answers with an error.

    `before_execution` says that nothing had begun: such an answer is never stored under an
    idempotency key.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = BAD_REQUEST,
        kind: str = "invalid_request_error",
        code: str | None = None,
        param: str | None = None,
        headers: dict[str, str] | None = None,
        before_execution: bool = False,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.kind = kind
        self.code = code
        self.param = param
        self.headers = headers or {}
        self.before_execution = before_execution

    def envelope(self) -> dict[str, Any]:
        """`{"error": {…}}` without the fields that have nothing to say."""
        error = {"message": self.message, "type": self.kind, "code": self.code, "param": self.param}
        if self.code:
            error["doc_url"] = _DOCS + self.code.replace("_", "-")
        return {"error": {name: value for name, value in error.items() if value is not None}}


# --- parameters: refused before anything begins ---------------------------------------------------


def invalid(message: str, param: str | None, *, code: str | None = None) -> RefusedError:
    """A parameter with a value that cannot be."""
    return RefusedError(message, code=code, param=param, before_execution=True)


def unknown_parameters(names: Sequence[str]) -> RefusedError:
    """Parameters that the endpoint does not have."""
    plural = "s" if len(names) > 1 else ""
    message = f"Received unknown parameter{plural}: {', '.join(names)}"
    return invalid(message, names[0], code="parameter_unknown")


def not_yet(name: str) -> RefusedError:
    """A parameter that Stripe has and the stand-in does not, said rather than ignored."""
    return invalid(
        f"The Stripe stand-in does not do `{name}` yet; leave it out.",
        name,
        code="parameter_unknown",
    )


def missing_parameter(name: str) -> RefusedError:
    """A required parameter that was not given."""
    return invalid(f"Missing required param: {name}.", name, code="parameter_missing")


def empty_parameter(name: str) -> RefusedError:
    """An empty text where a field cannot be unset."""
    return invalid(
        f"You passed an empty string for '{name}'. We assume empty values are an attempt to unset "
        f"a field; however '{name}' cannot be unset. You should remove '{name}' from your request "
        "or supply a non-empty value.",
        name,
        code="parameter_invalid_empty",
    )


# --- objects ----------------------------------------------------------------------------------


def no_such(kind: str, identity: str, *, param: str, status: int = BAD_REQUEST) -> RefusedError:
    """An object that is not there: 404 in the path, 400 as a parameter."""
    message = f"No such {kind}: '{identity}'"
    return RefusedError(message, status=status, code="resource_missing", param=param)


def unrecognized_url(method: str, path: str) -> RefusedError:
    """A path that the stand-in does not serve."""
    return RefusedError(
        f"Unrecognized request URL ({method}: {path}). The Stripe stand-in serves the paths listed "
        "in docs/stripe-stand-in.md.",
        status=NOT_FOUND,
        before_execution=True,
    )


# --- the caller as a whole ------------------------------------------------------------------------


def unauthorized(message: str, *, code: str | None = None) -> RefusedError:
    """No key, one that is not for test mode, or one that was revoked."""
    headers = {"WWW-Authenticate": 'Bearer realm="Stripe"'}
    return RefusedError(
        message, status=UNAUTHORIZED, code=code, headers=headers, before_execution=True
    )


def key_in_use(key: str) -> RefusedError:
    """The twin of a request that has not been answered yet."""
    return RefusedError(
        "There is currently another in-progress request using this Idempotent Key (that probably "
        f"means you submitted twice, and the other request is still going through): {key}. Please "
        "try again later.",
        status=CONFLICT,
        kind="idempotency_error",
        code="idempotency_key_in_use",
        before_execution=True,
    )


def key_reused(key: str) -> RefusedError:
    """The same idempotency key with another path or other parameters."""
    return RefusedError(
        "Keys for idempotent requests can only be used with the same endpoint and the same "
        f"parameters they were first used with. Try using a key other than '{key}' if you meant "
        "to execute a different request.",
        kind="idempotency_error",
        before_execution=True,
    )


def rate_limited(reason: str) -> RefusedError:
    """429 with its `Stripe-Rate-Limited-Reason`; the SDK does not retry it."""
    return RefusedError(
        "Request rate limit exceeded. Learn more about rate limits here "
        "https://stripe.com/docs/rate-limits.",
        status=TOO_MANY_REQUESTS,
        code="rate_limit",
        headers={"Stripe-Rate-Limited-Reason": reason},
        before_execution=True,
    )


def lock_timeout() -> RefusedError:
    """429 without a reason; it asks to be retried."""
    return RefusedError(
        "This object cannot be accessed right now because another API request or Stripe process is "
        "currently accessing it. If you see this error intermittently, retry the request.",
        status=TOO_MANY_REQUESTS,
        code="lock_timeout",
        headers={"Stripe-Should-Retry": "true"},
        before_execution=True,
    )


def internal_error() -> RefusedError:
    """500: the caller cannot know whether anything happened."""
    return RefusedError("An unknown error occurred", status=INTERNAL_ERROR, kind="api_error")


def unavailable() -> RefusedError:
    """503: nothing happened."""
    return RefusedError(
        "Stripe is temporarily unavailable. Please try again later.",
        status=UNAVAILABLE,
        kind="api_error",
        before_execution=True,
    )
