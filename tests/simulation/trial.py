"""One world on trial: lived through, judged, and kept as what can be told, counted and pickled."""

import signal
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from tests.simulation.draw import Drawn
from tests.simulation.kernel import EndlessWorldError
from tests.simulation.run import Lived, live
from tests.simulation.violation import Violation
from tests.simulation.witness import Witness

CPU_LIMIT_S = 20.0
"""Of one world; a thousand times what most take."""
_AGAIN_S = 2.0
ENDLESS = "it ends"
"""Stands in place of an invariant's name when a world turned in circles or hung."""
RAISED = "I0"
"""And when it came to grief; the error's type follows."""
LINES_OF_TRACEBACK = 12


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of a world."""

    drawn: Drawn
    broken: tuple[Violation, ...] = ()
    fingerprint: str = ""
    steps: int = 0
    last: tuple[str, ...] = ()
    """The last steps, up to where something broke first."""
    numbers: tuple[tuple[str, str], ...] = ()
    """What was compared and found right: where, and the number."""
    sighted: Counter[str] = field(default_factory=Counter)
    """How often what was seen, for `situations`."""
    cpu_s: float = 0.0
    virtual: timedelta = timedelta()

    @property
    def invariants(self) -> tuple[str, ...]:
        """Those that broke, each once, in the order in which they did."""
        return tuple(dict.fromkeys(one.invariant for one in self.broken))


type Live = Callable[[Drawn, Callable[[Lived], None]], Lived]
type TryOut = Callable[[Drawn], Trial]


class _TooLongError(BaseException):
    """The world uses up more time than any should; no `except Exception` may keep it."""


def try_out(
    drawn: Drawn, *, cpu_limit_s: float = CPU_LIMIT_S, live: Live = live, traced: bool = True
) -> Trial:
    """Live through a world, whatever comes of it; untraced, only a broken one has a fingerprint."""
    begun: list[Witness] = []
    began = time.process_time()
    errors: tuple[Violation, ...] = ()
    try:
        with _limited(cpu_limit_s):
            live(drawn, lambda lived: begun.append(Witness(lived)))
    except EndlessWorldError as endless:
        errors = (Violation(ENDLESS, str(endless)),)
    except _TooLongError as hung:
        where = "".join(traceback.format_tb(hung.__traceback__)[-3:])
        sentence = f"no end within {cpu_limit_s:g} s of CPU; it stood in\n{where}"
        errors = (Violation(ENDLESS, sentence),)
    except Exception as error:  # noqa: BLE001 (that a world raises is what is to be found)
        errors = (Violation(f"{RAISED} {type(error).__name__}", _told(error)),)
    return _trial(drawn, begun, errors, time.process_time() - began, traced=traced)


def _told(error: BaseException) -> str:
    lines = "".join(traceback.format_exception(error)).splitlines()
    return "\n".join([repr(error), *lines[-LINES_OF_TRACEBACK:]])


@contextmanager
def _limited(seconds: float) -> Iterator[None]:
    """Interrupt what runs in this process for longer than so much CPU, and again if it goes on."""

    def interrupt(number: int, frame: Any) -> None:
        raise _TooLongError

    before = signal.signal(signal.SIGVTALRM, interrupt)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds, _AGAIN_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def _trial(
    drawn: Drawn,
    begun: list[Witness],
    errors: tuple[Violation, ...],
    cpu_s: float,
    *,
    traced: bool,
) -> Trial:
    if not begun:  # It came to grief while it was set up.
        return Trial(drawn, errors, cpu_s=cpu_s)
    (witness,) = begun
    lived, kernel = witness.lived, witness.lived.world.kernel
    # A world that came to grief was not judged; somebody watched it all the same.
    broken = (*(lived.violations or lived.watch.violations), *errors)
    return Trial(
        drawn,
        broken,
        kernel.fingerprint if traced or broken else "",
        kernel.steps,
        witness.last_steps() if broken else (),
        () if broken else tuple(lived.numbers),
        witness.seen(),
        cpu_s,
        kernel.now - drawn.start,
    )
