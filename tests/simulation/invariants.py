"""What must hold in every world: always, and when all is quiet again.

`Watch` looks on while a world lives, `judge` looks at what is left of it. The numbers (`I4`) are
those of the list in `docs/proof.md`.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from infra.tables import BILLING, COUNTERS
from tests.simulation.aws.dynamodb import Change
from tests.simulation.clients import CANARY, Clients
from tests.simulation.deployment import Context
from tests.simulation.invariants_counters import CountersWatch
from tests.simulation.invariants_end import End
from tests.simulation.invariants_ledger import LedgerWatch
from tests.simulation.invariants_pushes import PushesWatch
from tests.simulation.violation import Found, Violation
from tests.simulation.world import World

if TYPE_CHECKING:
    from tests.simulation.run import Lived

__all__ = ["Violation", "Watch", "judge"]

STEPS_MAX = 12_000
STEPS_AN_EVENT_MAX = 600
"""A world's steps: what its schedules need, and what its events may."""


class Watch:
    """Looks on from a world's beginning, and judges it in the end."""

    def __init__(self, world: World, clients: Clients) -> None:
        self.violations = Found()
        self.logged: list[str] = []
        """What functions logged, where somebody listens."""
        self._world = world
        self._clients = clients
        self.ledger = LedgerWatch(world, clients, self.violations)
        self.counters = CountersWatch(world, self.violations)
        self.pushes = PushesWatch(world, self.ledger, self.violations)
        self.serving: dict[str, str] = {}
        """Which tenant an invocation serves."""
        if len(world.tenants) > 1:
            self._watch_tenants()
        world.tables.subscribe(self._changed)

    def _changed(self, change: Change) -> None:
        table = change.table
        if table == COUNTERS.name:
            self.counters.changed(change)
        elif table == BILLING.name:
            self.pushes.changed(change)
        elif (entry := self.ledger.changed(change)) is not None:
            self.counters.appended(entry)

    # --- tenants ---

    def _watch_tenants(self) -> None:
        """No call to a table for one tenant names another."""
        for deployed in self._world.lambdas.values():
            self._watch_lambda(deployed)
        execute = self._world.tables.execute

        def executed(operation: str, params: Any) -> dict[str, Any]:
            running = self._world.kernel.running
            served = self.serving.get(running.name) if running else None
            if served is not None:
                self._check_tenant(served, f"{operation} of {running.name}", repr(params))  # type: ignore[union-attr]
            return execute(operation, params)

        self._world.tables.execute = executed  # type: ignore[method-assign]

    def _watch_lambda(self, deployed: Any) -> None:
        run = deployed.run

        def ran(event: dict[str, Any], context: Context, *rest: Any) -> Any:
            served = self._tenant_of(event)
            if served is None:
                return run(event, context, *rest)
            self.serving[context.aws_request_id] = served
            answer = run(event, context, *rest)
            text = answer.get("body") if isinstance(answer, dict) else None
            self._check_tenant(served, f"the answer of {context.aws_request_id}", text or "")
            return answer

        deployed.run = ran

    def _tenant_of(self, event: dict[str, Any]) -> str | None:
        said = event.get("headers", {}).get("authorization", "")
        return next((one for one, key in self._world.keys.items() if key and key in said), None)

    def _check_tenant(self, served: str, what: str, text: str) -> None:
        for other in self._world.tenants:
            if other != served and other in text:
                at = text.index(other)
                self.violations.say(
                    "I10", f"{what} serves {served} and names {other}: {text[at - 60 : at + 60]}"
                )

    # --- in the end ---

    def end(self, lived: "Lived") -> End:
        """Judge what is left of the world."""
        self._check_bugs()
        self._check_work()
        self._check_quiet(lived)
        self.ledger.end()
        self.pushes.end(lived.people.done.cut_short.keys())
        done = lived.people.done
        end = End(self._world, self.ledger, self.counters, self.pushes, done, self.violations)
        end.judge(is_quiet=lived.is_quiet, is_reconciled=lived.is_reconciled)
        self._check_logs()
        return end

    def _check_bugs(self) -> None:
        for function, deployed in self._world.lambdas.items():
            for bug in deployed.bugs:
                self.violations.say("I0", f"{function} failed by itself: {bug!r}")

    def _check_work(self) -> None:
        most = STEPS_MAX + STEPS_AN_EVENT_MAX * len(self._clients.copies)
        if self._world.kernel.steps > most:
            self.violations.say(
                "I13",
                f"{len(self._clients.copies)} events took {self._world.kernel.steps} steps, more"
                f" than {most}",
            )

    def _check_quiet(self, lived: "Lived") -> None:
        world = self._world
        still = {
            "clients wait": self._clients.waiting,
            "queue is not empty": int(not world.queue.is_drained),
            "dead letters": len(world.queue.dead),
            "stream is not read": int(not world.mapping.is_drained(world.kernel.now)),
            "records were lost": len(world.mapping.lost),
            "records were discarded": len(world.mapping.discarded),
            "pushes are open": self._open(),
        }
        left = {what: number for what, number in still.items() if number}
        if left or not lived.is_quiet:
            self.violations.say("I18", f"after healing not all is quiet: {left or 'it was late'}")

    def _open(self) -> int:
        return sum(1 for one in self.pushes.streams.values() if one.open is not None)

    def _check_logs(self) -> None:
        if not self.logged:
            return
        secrets = [key.partition(".")[2] or key for key in self._world.keys.values()]
        secrets.append(self._world.config.stripe_secret_key or "")
        for line in self.logged:
            for secret in (*secrets, CANARY):
                if secret and secret in line:
                    self.violations.say("I12", f"{secret[:4]}... is in a log line: {line[:200]}")


def judge(lived: "Lived") -> Sequence[Violation]:
    """All that did not hold in a world; `lived.numbers` then holds what was compared."""
    end = lived.watch.end(lived)
    lived.numbers = tuple(end.numbers)
    return lived.watch.violations
