"""A process that outlives its parent just long enough to end the parent's children.

It reads `+pid` and `-pid` lines from its input. The input ends when the parent is gone, however it
went: then every process group still noted is told to stop, and killed if it does not.
"""

import os
import signal
import sys
import time
from contextlib import suppress

GRACE_S = 5.0


def _signal_all(groups: set[int], number: int) -> set[int]:
    """Signal each group; those that still exist."""
    alive = set()
    for group in groups:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(group, number)
            alive.add(group)
    return alive


def main() -> None:
    """Note the children until the parent is gone, then end them."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    groups: set[int] = set()
    for line in sys.stdin:
        (groups.add if line[0] == "+" else groups.discard)(int(line[1:]))
    alive = _signal_all(groups, signal.SIGTERM)
    deadline = time.monotonic() + GRACE_S
    while alive and time.monotonic() < deadline:
        time.sleep(0.1)
        alive = _signal_all(alive, 0)
    _signal_all(alive, signal.SIGKILL)


if __name__ == "__main__":
    main()
