"""Finding the functions' handlers and calling them as Lambda does."""

import importlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from infra.functions import Function
from local.context import LambdaContext

type Handler = Callable[[dict[str, Any], LambdaContext], Any]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Loaded:
    """A function whose code is imported."""

    function: Function
    handler: Handler

    def invoke(self, event: dict[str, Any]) -> Any:
        """The handler's answer to one event; whatever it raises comes through."""
        return self.handler(event, LambdaContext.of(self.function))


def load(function: Function) -> Loaded | None:
    """Import a function's handler; None, with the reason logged, when that fails.

    As on Lambda, a function that cannot be imported breaks itself and not its neighbours.
    """
    module, _, name = function.handler.rpartition(".")
    try:
        return Loaded(function, getattr(importlib.import_module(module), name))
    except ModuleNotFoundError as missing:
        if missing.name is None or not module.startswith(missing.name):
            log.exception("function %s cannot be imported and stays off", function.name)
        else:
            log.warning("function %s does not exist yet (%s); it stays off", function.name, module)
    except Exception:
        log.exception("function %s cannot be imported and stays off", function.name)
    return None
