"""Execution environments: one invocation at a time, with objects of their own that outlive it.

What a function keeps between invocations (clients, warm copies of counters) lives in its wiring, so
an environment is a wiring. A killed one leaves nothing behind, and the next starts cold.
"""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from local.chaos import Kill, KillSwitch
from local.handlers import Loaded
from metering.config import Config
from metering.wiring import Wiring, using_here

if TYPE_CHECKING:
    from metering.ports import Clock


def wiring_from_environment(clock: "Clock | None" = None) -> Wiring:
    """A cold start's wiring, from the process's environment variables."""
    return Wiring(Config.from_environment(os.environ), clock=clock)


class Environment:
    """Where one copy of a function runs."""

    def __init__(
        self, loaded: Loaded, make_wiring: Callable[[], Wiring] = wiring_from_environment
    ) -> None:
        self._loaded = loaded
        self._make_wiring = make_wiring
        self._wiring: Wiring | None = None
        self._switch = KillSwitch()

    def invoke(self, event: dict[str, Any], *, kill: Kill | None = None) -> Any:
        """Run the handler on an event, to its end or to where `kill` ends it.

        Raises:
            HandlerKilledError: killed as asked; the environment is cold again.
        """
        if self._wiring is None:
            self._wiring = self._make_wiring()
        if kill is None:
            with using_here(self._wiring):
                return self._loaded.invoke(event)
        return self._invoke_and_kill(event, self._wiring, kill)

    def _invoke_and_kill(self, event: dict[str, Any], wiring: Wiring, kill: Kill) -> Any:
        try:
            with using_here(wiring), self._switch.armed(kill, wiring.dynamodb):
                return self._loaded.invoke(event)
        finally:
            # Whether the handler reached its k-th call or ended before, Lambda's copy is gone.
            self._wiring = None
