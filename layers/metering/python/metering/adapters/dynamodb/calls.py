"""Several calls of one invocation, one after the other or some at once."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

STATEMENTS_MAX = 25
"""Of one BatchExecuteStatement."""

MapOver = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]
"""`map`, or a thread pool's: results in the order of what they are of."""


def map_of(calls_at_once: int) -> MapOver:
    """What applies a function to many things, `calls_at_once` at a time."""
    if calls_at_once == 1:
        return map
    pool = ThreadPoolExecutor(calls_at_once, "dynamodb")

    def map_some(function: Callable[[Any], Any], things: Iterable[Any]) -> Iterable[Any]:
        waiting = list(things)
        # A single call is not worth the way to another thread.
        return map(function, waiting) if len(waiting) == 1 else pool.map(function, waiting)

    return map_some
