"""Child processes that never outlive this one: stopped on the way out, or by the guard."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from local import guard
from local.dynamodb_local import PROJECT

STOP_WITHIN_S = 8.0
_TAIL_LINES = 25


class Child:
    """One running process and where its output goes."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], log: Path | None) -> None:
        self.name = name
        self.process = process
        self._log = log

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self.process.poll() is None

    def last_words(self) -> str:
        """The end of its output, as far as that went into a file."""
        if self._log is None:
            return ""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-_TAIL_LINES:])


class Children:
    """The processes that this one has started, in order; a context that ends them in reverse."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._children: list[Child] = []
        self._guard = subprocess.Popen(
            [sys.executable, "-I", "-S", guard.__file__],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(
        self, name: str, command: Sequence[str], *, cwd: Path = PROJECT, shows: bool = False
    ) -> Child:
        """Start a process in a group of its own; its output goes to a file, or here if it `shows`.

        Ctrl-C reaches the whole terminal group, but only this process decides when a child stops.
        """
        log = None if shows else self._logs / f"{name}.log"
        output = None if log is None else log.open("wb")
        with _signals_put_off(), closing(output) if output else nullcontext():
            process = subprocess.Popen(
                command,
                cwd=cwd,
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT if output else None,
                start_new_session=True,
            )
            child = Child(name, process, log)
            self._children.append(child)
            self._tell_guard(f"+{process.pid}")
        return child

    def dead(self) -> list[Child]:
        """Children that have ended by themselves."""
        return [child for child in self._children if not child.is_running]

    def processes(self) -> dict[str, psutil.Process]:
        """The running ones by name."""
        running = (child for child in self._children if child.is_running)
        return {child.name: psutil.Process(child.process.pid) for child in running}

    def stop(self) -> None:
        """End all, the youngest first, and wait until they are gone."""
        for child in reversed(self._children):
            _end(child.process)
            self._tell_guard(f"-{child.process.pid}")
        self._children.clear()
        if self._guard.stdin:
            self._guard.stdin.close()
        self._guard.wait()

    def _tell_guard(self, line: str) -> None:
        assert self._guard.stdin is not None
        self._guard.stdin.write(f"{line}\n".encode())
        self._guard.stdin.flush()


@contextmanager
def _signals_put_off() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM wait for the end of the block.

    Between the start of a process and the note of it, either would leave the process to nobody.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # signals reach the main thread only
        return
    put_off: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {one: signal.signal(one, lambda sent, _: put_off.append(sent)) for one in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for sent in put_off:
            signal.raise_signal(sent)


def _environment() -> dict[str, str]:
    """This process's, without its AWS settings: nothing local may ever reach a real account."""
    return {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_WITHIN_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
