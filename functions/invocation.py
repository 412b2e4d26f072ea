"""Around every handler: what was counted in an invocation leaves when it ends, however it ends."""

from collections.abc import Callable
from functools import wraps

from metering import wiring


def invocation[**P, R](handler: Callable[P, R]) -> Callable[P, R]:
    """The handler, after which its numbers are written out; what it raises comes through.

    A killed invocation takes its numbers with it: its function's errors tell of that.
    """

    @wraps(handler)
    def counted(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return handler(*args, **kwargs)
        finally:
            wiring.current().metrics.flush()

    return counted
