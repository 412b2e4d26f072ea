"""The functions as Lambda runs them: environments that stay warm, timeouts, zombies and deaths."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from stripe import StripeError

from infra import functions
from infra.functions import Function
from local.handlers import Handler, load
from metering.adapters.machine import SystemMachine
from metering.errors import RetryableError
from metering.ports import SetupError
from metering.threads import InTurn
from metering.wiring import Wiring, using_here
from tests.simulation.aws.mapping import Failure
from tests.simulation.kernel import Kernel, ProcessDiedError

ZOMBIE_FOR = timedelta(minutes=2)
"""How long a timed-out invocation may still act."""
ONE_AT_A_TIME = frozenset({functions.API.name})
"""The router keeps its request in the module, so one environment serves one request; here all
environments share the module."""
NOT_OUR_BUGS = (RetryableError, SetupError, BotoCoreError, ClientError, StripeError)
"""What handlers may fail with when others fail."""

type MakeWiring = Callable[[SkewedClock, Machine], Wiring]
type Told = Callable[[Any], None]
"""Hears an invocation's answer, or the `Failure` that took its place."""


class SkewedClock:
    """A machine's clock that is off by some time."""

    def __init__(self, kernel: Kernel, off_by: timedelta) -> None:
        self._kernel = kernel
        self._off_by = off_by

    def now(self) -> datetime:
        """What this machine takes for the present instant."""
        return self._kernel.now + self._off_by


class Machine(SystemMachine):
    """A machine whose chance is drawn, whose threads work in turn, and whose waiting is virtual."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel

    def token_bytes(self, size: int) -> bytes:
        """Drawn from the world's seed."""
        return self._kernel.random.randbytes(size)

    def threads(self, count: int, name: str) -> Executor:
        """Threads that give way to each other only at their calls."""
        return InTurn(count, name) if self._kernel.running is None else Threads(self._kernel, name)

    def seconds(self) -> float:
        """Virtual."""
        return self._kernel.now.timestamp()

    def sleep(self, seconds: float) -> None:
        """Virtual."""
        self._kernel.pause(timedelta(seconds=seconds))


class Threads(Executor):
    """An executor whose threads are processes of the kernel: they interleave, and die together."""

    def __init__(self, kernel: Kernel, name: str) -> None:
        super().__init__()
        self._kernel = kernel
        self._name = name
        self._tasks: list[_Task] = []

    def map(self, fn: Callable[..., Any], *iterables: Any, **_: Any) -> Iterator[Any]:
        """Begin all at once; results in the order of what they are of."""
        tasks = [_Task(self._kernel, fn, arguments) for arguments in zip(*iterables, strict=False)]
        self._tasks += tasks
        return (task.result() for task in tasks)

    def shutdown(self, wait: bool = True, **_: Any) -> None:  # noqa: FBT001, FBT002 (the executor's own signature)
        """Wait for all that were begun."""
        for task in self._tasks if wait else ():
            task.wait()


class _Task:
    """One call on a thread."""

    def __init__(self, kernel: Kernel, call: Callable[..., Any], arguments: Any) -> None:
        parent = kernel.running
        assert parent is not None, "threads belong to processes"
        self._kernel = kernel
        self._parent = parent
        self._is_done = self._is_waited_for = False
        self._ended: Any = None
        kernel.spawn(parent.name, lambda: _outcome(call, arguments), self._end, within=parent)

    def _end(self, ended: Any) -> None:
        self._is_done, self._ended = True, ended
        if self._is_waited_for:
            self._kernel.wake(self._parent, None)

    def wait(self) -> None:
        """Give way until it has ended."""
        self._kernel.check_alive()
        if not self._is_done:
            self._is_waited_for = True
            self._kernel.wait()

    def result(self) -> Any:
        """What the call answered; what it raised is raised."""
        self.wait()
        answer, error = self._ended
        if error is not None:
            raise error
        return answer


def _outcome(call: Callable[..., Any], arguments: Any) -> tuple[Any, Exception | None]:
    try:
        return call(*arguments), None
    except Exception as error:  # noqa: BLE001 (raised where the result is asked for)
        return None, error


@dataclass(frozen=True, slots=True)
class Context:
    """Lambda's, by the true clock."""

    kernel: Kernel
    ends_at: datetime
    aws_request_id: str

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until Lambda would end the invocation."""
        return max(0, int((self.ends_at - self.kernel.now) / timedelta(milliseconds=1)))


class Lambda:
    """One function and its environments."""

    def __init__(self, function: Function, kernel: Kernel, make: MakeWiring) -> None:
        loaded = load(function)
        assert loaded is not None, f"{function.name} cannot be imported"
        self.function = function
        self.bugs: list[BaseException] = []
        """What it failed with and nobody else is to blame for."""
        self._handler: Handler = loaded.handler
        self._kernel = kernel
        self._make = make
        self._warm: list[Wiring] = []
        self._waiting: deque[tuple[dict[str, Any], Told]] = deque()
        self._is_busy = False
        self._invocations = 0
        self.skew = timedelta()

    def invoke(self, event: dict[str, Any], told: Told = lambda _: None) -> None:
        """Start an invocation; `told` hears its end, or that it took too long."""
        if self.function.name in ONE_AT_A_TIME:
            if self._is_busy:
                self._waiting.append((event, told))
                return
            self._is_busy = True
        _Invocation(self, event, told)

    def deploy(self) -> None:
        """Every environment is replaced when it has answered."""
        self._warm.clear()

    # --- for invocations ---

    def begin(self) -> tuple[str, Wiring]:
        """A name for one, and where it runs."""
        self._invocations += 1
        name = f"{self.function.name}#{self._invocations}"
        if self._warm:
            return name, self._warm.pop(self._kernel.random.randrange(len(self._warm)))
        off_by = self.skew * (self._kernel.random.random() - 0.5)
        return name, self._make(SkewedClock(self._kernel, off_by), Machine(self._kernel))

    def run(self, event: dict[str, Any], context: Context, wiring: Wiring) -> Any:
        """The handler's answer, or its failure."""
        stands_in: Any = context
        try:
            with using_here(wiring):
                return self._handler(event, stands_in)
        except NOT_OUR_BUGS as error:
            self._kernel.saw(f"invocation failed | {self.function.name} | {type(error).__name__}")
            return Failure(repr(error))
        except Exception as error:  # noqa: BLE001 (it is kept and judged)
            self.bugs.append(error)
            return Failure(repr(error))

    def end(self, wiring: Wiring | None) -> None:
        """An invocation has ended; its environment stays warm unless it died."""
        if wiring is not None:
            self._warm.append(wiring)
        self._is_busy = False
        if self._waiting:
            self.invoke(*self._waiting.popleft())


class _Invocation:
    """One invocation, from its start to its end, its death, or its timeout."""

    def __init__(self, owner: Lambda, event: dict[str, Any], told: Told) -> None:
        self._lambda = owner
        self._kernel = owner._kernel
        self._told: Told | None = told
        name, self._wiring = owner.begin()
        limit = timedelta(seconds=owner.function.timeout_s)
        context = Context(self._kernel, self._kernel.now + limit, name)
        self._process = self._kernel.spawn(
            name, lambda: owner.run(event, context, self._wiring), self._end
        )
        self._kernel.later(limit, self._time_out)

    def _end(self, ended: Any) -> None:
        died = isinstance(ended, ProcessDiedError)
        self._kernel.note(f"{self._process.name} {'died' if died else 'ended'}")
        was_heard = self._told is None
        self._tell(Failure("the process died") if died else ended)
        self._lambda.end(None if died or was_heard else self._wiring)

    def _time_out(self) -> None:
        if self._told is None:
            return
        self._kernel.saw(f"timed out | {self._lambda.function.name}")
        self._kernel.note(f"{self._process.name} takes too long")
        self._tell(Failure("timed out"))
        self._kernel.later(ZOMBIE_FOR, lambda: self._kernel.kill(self._process))

    def _tell(self, ended: Any) -> None:
        told, self._told = self._told, None
        if told is not None:
            told(ended)
