"""One call of an endpoint, as its handler sees it."""

from collections.abc import Hashable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from local.stripe import refusals
from local.stripe.state import TEST_CLOCK, Account, Change, Put, World
from local.stripe.wire import Json


@dataclass(slots=True)
class Call:
    """A request whose parameters have been read: from here on, it executes."""

    world: World
    account: Account
    at: datetime
    params: dict[str, Any]
    path: str
    target: str = ""
    """The identity in the path, empty where there is none."""
    version: str = ""
    """The API version, such as `2026-10-28.endive`."""
    idempotency_key: str | None = None
    request_id: str | None = None
    held: list[Hashable] = field(default_factory=list)
    seen_at: datetime | None = None
    """The stand-in's own instant, where `at` is a test clock's."""

    @property
    def now(self) -> int:
        """The present instant as Stripe writes it, in Unix seconds."""
        return int(self.at.timestamp())

    @property
    def aggregated_at(self) -> datetime:
        """The instant that decides which received meter events are aggregated by now."""
        return self.seen_at or self.at

    def on_clock_of(self, owner: Json) -> "Call":
        """The same call at the time that an object (a customer, say) lives in.

        Raises:
            RefusedError: that is a test clock's time, and the clock is advancing.
        """
        clock = self.account.get(TEST_CLOCK, owner.get("test_clock") or "")
        if clock is None:
            return self
        if clock["status"] == "advancing":
            message = f"The test clock {clock['id']} is advancing; wait until it is ready."
            raise refusals.RefusedError(message)
        return self.at_instant(clock["frozen_time"])

    def at_instant(self, instant: int) -> "Call":
        """The same call at another instant; what is aggregated stays as it is."""
        at = datetime.fromtimestamp(instant, UTC)
        return replace(self, at=at, seen_at=self.aggregated_at)

    def new_id(self, prefix: str) -> str:
        """A fresh identity."""
        return self.world.ids.next(prefix)

    def record(self, change: Change) -> None:
        """Apply a change of state."""
        self.world.record(change)

    def put(self, content: Json) -> Json:
        """Create an object, or replace it by its next form."""
        self.world.record(Put(self.account.id, content))
        return content

    def hold(self, name: Hashable) -> None:
        """Be the only request on something until the answer is delivered.

        Raises:
            RefusedError: another one is; 429.
        """
        held = (self.account.id, name)
        if held in self.world.in_flight:
            raise refusals.rate_limited("resource-specific")
        self.held.append(held)

    def targeted(self, kind: str) -> Json:
        """The object in the path.

        Raises:
            RefusedError: there is none; 404.
        """
        found = self.account.get(kind, self.target)
        if found is None:
            raise refusals.no_such(
                _spoken(kind), self.target, param="id", status=refusals.NOT_FOUND
            )
        return found

    def referred(self, kind: str, identity: str, param: str) -> Json:
        """The object that a parameter names.

        Raises:
            RefusedError: there is none; 400.
        """
        found = self.account.get(kind, identity)
        if found is None:
            raise refusals.no_such(_spoken(kind), identity, param=param)
        return found


def _spoken(kind: str) -> str:
    return "billing meter" if kind == "billing.meter" else kind
