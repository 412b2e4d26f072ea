"""What a process has of its machine beside clients and a clock: chance, threads, and waiting."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from concurrent.futures import Executor


class SystemMachine:
    """The machine that it runs on; what a function does not ask for, it does not import."""

    def token_bytes(self, size: int) -> bytes:
        """So many random bytes, fit for secrets."""
        from secrets import token_bytes  # noqa: PLC0415 (most functions draw none)

        return token_bytes(size)

    def threads(self, count: int, name: str) -> "Executor":
        """See `metering.threads.Threads`."""
        from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 (ingest has one thread)

        return ThreadPoolExecutor(count, name)

    def seconds(self) -> float:
        """Seconds since some moment: only differences mean something."""
        from time import monotonic  # noqa: PLC0415 (as `sleep`)

        return monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait."""
        from time import sleep  # noqa: PLC0415 (only who sends to Stripe waits)

        sleep(seconds)
