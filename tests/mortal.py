"""Writers whose process dies at one of its calls, to DynamoDB or to Stripe, and stays dead."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from threading import Barrier, Lock
from typing import Any

import stripe

from metering.adapters.stripe_client import StripeConnection
from metering.adapters.stripe_key import own_key
from metering.ports import WriterDesk
from metering.threads import InTurn
from metering.wiring import Wiring
from metering.writer import Writer
from tests.billing_world import BillingWorld
from tests.faults import Call, FaultyClient, Go, KilledError, dying

STAMP, COMMIT = ("transact_write_items", 1), ("transact_write_items", 2)
"""Of a lone new push: planned and stamped in the first transaction, committed in the second."""
SEND = ("post /v1/billing/meter_events", 1)
EFFECT = "effect"
"""Names every call that changes something."""
READS = frozenset({"query", "get_item", "batch_get_item", "scan"})
"""Whoever dies at one of these leaves behind what it left by the effect before it."""


@dataclass(frozen=True, slots=True)
class Death:
    """At which of its calls a process dies: the n-th of a name, from 1."""

    name: str
    number: int
    after_effect: bool

    def __str__(self) -> str:
        when = "after" if self.after_effect else "before"
        return f"killed {when} {self.name} {self.number}"


class Process:
    """The calls of one process, in order, to the one that it dies at; None lets it live."""

    def __init__(self, death: Death | None = None) -> None:
        self._death = death
        self._lock = Lock()
        self.calls: list[str] = []
        self.is_dead = False
        self.died_at = ""
        """The name of the call that it died at."""

    def call(self, name: str, go: Go) -> Any:
        """Make a call, if the process is alive and for as long as it is."""
        with self._lock:
            strikes = self._strikes(name)
            self.died_at = name if strikes else self.died_at
            if self.is_dead or (strikes and self._death and not self._death.after_effect):
                self.is_dead = True
                raise KilledError
        answer = go()
        if strikes:
            self.is_dead = True
        if self.is_dead:
            raise KilledError
        return answer

    def _strikes(self, name: str) -> bool:
        self.calls.append(name)
        death = self._death
        if death is None:
            return False
        if death.name == EFFECT:
            return has_effect(name) and len(self.effects) == death.number
        return name == death.name and self.calls.count(name) == death.number

    @property
    def effects(self) -> list[str]:
        """Its calls that changed something, or were to."""
        return [name for name in self.calls if has_effect(name)]

    # --- what it calls ---

    def wired(self, world: BillingWorld) -> Wiring:
        """A deployment in this process, over the world's tables and its Stripe."""
        faulty = FaultyClient(world.wiring.dynamodb)
        faulty.around(None, self._around)
        wired = Wiring(world.wiring.config, clock=world.clock, dynamodb=faulty.client)
        network = MortalNetwork(self.call)
        wired.stripe_connection = StripeConnection(own_key(wired.config), http_client=network)
        return wired

    def _around(self, call: Call, go: Go) -> Any:
        return self.call(call.operation, go)


class MortalNetwork(stripe.HTTPClient):
    """The SDK's way to Stripe in a process that may die."""

    name = "mortal"

    def __init__(self, call: Callable[[str, Go], Any]) -> None:
        super().__init__()
        self._call = call
        self._network = stripe.RequestsClient(timeout=(3.05, 10.0))

    def request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None,
        post_data: Any = None,
        *,
        _usage: list[str] | None = None,
    ) -> tuple[str, int, Mapping[str, str]]:
        """See `stripe.HTTPClient.request`."""
        path = "/" + url.split("/", 3)[3].partition("?")[0]
        name = f"{method} {path}"
        answer: tuple[str, int, Mapping[str, str]] = self._call(
            name, lambda: self._network.request(method, url, headers, post_data)
        )
        return answer

    def close(self) -> None:
        """See `stripe.HTTPClient.close`."""
        self._network.close()  # type: ignore[no-untyped-call]


class NoLease:
    """A desk at which every writer may work at once; with a barrier, they begin at once."""

    def __init__(self, at_once: Barrier | None = None) -> None:
        self._at_once = at_once

    def take_lease(self, owner: str, now: datetime, until: datetime) -> int:
        if self._at_once is not None:
            self._at_once.wait(10)
        return 1

    def end_lease(self, fence: int) -> None: ...

    def cursor(self) -> None:
        return None

    def move_cursor(self, cursor: object, fence: int) -> bool:
        return True


def write_and_die(
    world: BillingWorld, death: Death | None, *, desk: WriterDesk | None = None
) -> Process:
    """One run of a writer that dies so, if its run comes to it."""
    process = Process(death)
    wired = process.wired(world)
    writer = Writer(wired._world, desk or wired.writer_desk, InTurn)
    with dying():
        writer.run("mortal", lambda: timedelta(seconds=55))
    return process


def has_effect(name: str) -> bool:
    """Whether a call changes something, here or at Stripe."""
    return name not in READS and not name.startswith("get ")
