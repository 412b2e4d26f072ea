"""Starts one function as Lambda's runtime does, has it answer once, and writes what that took.

`python -I -S starter.py REPORT PATH...` in an environment like Lambda's. The last of the PATHs
holds only `awslambdaric`, which on Lambda is the runtime's own; those before are what Lambda puts
first (`/var/task`, `/opt/python`).
"""

import json
import os
import sys
from pathlib import Path
from time import process_time
from typing import Any, Never

_report, *_paths, _runtime = sys.argv[1:]
sys.path[:] = [*_paths, *sys.path[1:], _runtime]  # less the folder that this file is in

from awslambdaric import bootstrap  # type: ignore[import-untyped]  # noqa: E402 (found only now)
from awslambdaric.lambda_runtime_client import (  # type: ignore[import-untyped]  # noqa: E402
    LambdaRuntimeClient,
)


class OneAnswer(LambdaRuntimeClient):  # type: ignore[misc, unused-ignore]
    """Hands on the first answer and ends the process, which Lambda would freeze now."""

    def post_invocation_result(self, *answer: Any, **more: Any) -> Never:
        """See `LambdaRuntimeClient`."""
        spent_ms = (process_time() - _started) * 1000
        loaded = {
            name: getattr(module, "__file__", None) or ""
            for name, module in sys.modules.items()
            if name not in _before
        }
        super().post_invocation_result(*answer, **more)
        Path(_report).write_text(json.dumps({"cpu_ms": spent_ms, "modules": loaded}))
        os._exit(0)

    def post_invocation_error(self, *error: Any, **more: Any) -> Never:
        """See `LambdaRuntimeClient`."""
        super().post_invocation_error(*error, **more)
        os._exit(1)


_client = OneAnswer(os.environ["AWS_LAMBDA_RUNTIME_API"])
_before = set(sys.modules)
_started = process_time()
bootstrap.run(os.environ["_HANDLER"], _client)
