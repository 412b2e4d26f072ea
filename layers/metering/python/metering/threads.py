"""Where work that waits for others is done: on threads, or in turn so that it can be replayed."""

from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any

type Threads = Callable[[int, str], Executor]
"""At most so many threads of such a name; `ThreadPoolExecutor` is one."""


class InTurn(Executor):
    """One thing after the other, in the caller's own thread."""

    def __init__(self, _count: int = 1, _name: str = "") -> None:
        super().__init__()

    def submit[**P, T](self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Call it at once; what it raises, the future's `result` raises."""
        future: Future[T] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:  # noqa: BLE001 (as every executor does)
            future.set_exception(error)
        return future

    def map(self, fn: Callable[..., Any], *iterables: Any, **_: Any) -> Any:
        """Each result when it is asked for, without a future."""
        return map(fn, *iterables)
