"""The whole way of usage, from a client's request to what Stripe holds, step by step."""

from datetime import datetime
from decimal import Decimal
from typing import Any

from local.stripe.state import DEFAULT_ACCOUNT
from metering.counter import Aggregation
from metering.event import LedgerEntry
from metering.names import TenantId
from metering.period import Span
from metering.reconciliation import Cause
from metering.wiring import Wiring
from tests.api_client import Api
from tests.billing_world import BillingWorld
from tests.builders import DEMO, a_counter, a_sent_event
from tests.readers import Answer, counted, fold, ledger_of, send


class Pipeline:
    """Ingest, aggregator and writer over one stream shard, whose positions rise as in life."""

    def __init__(self, world: BillingWorld) -> None:
        self.world = world
        self._stream: list[LedgerEntry] = []
        """What the shard has brought, in its order."""

    @property
    def wiring(self) -> Wiring:
        """The deployment."""
        return self.world.wiring

    @property
    def api(self) -> Api:
        """The API, as an open deployment answers it."""
        return Api()

    # --- what happens ---

    def send(self, quantity: object = 1, **about: Any) -> Answer:
        """One event over HTTP; it happened just now unless told otherwise."""
        now = self.world.clock.now().isoformat()
        answer = send(a_sent_event(**({"quantity": quantity, "ts": now} | about)))
        assert answer.status == 200, answer.body
        return answer

    def deliver(self, tenant: TenantId = DEMO) -> None:
        """Bring to the aggregator what the ledger has and the stream has not brought yet."""
        entries = sorted(ledger_of(self.wiring, tenant), key=lambda one: one.received_at)
        new = [one for one in entries if one not in self._stream]
        assert fold(self.wiring, new, first=len(self._stream) + 1) == []
        self._stream += new

    def redeliver(self) -> None:
        """Bring all that the shard has brought once more, as a stream may."""
        assert fold(self.wiring, self._stream) == []

    def tell(self) -> None:
        """Have the writer tell Stripe whatever it was not told."""
        self.world.write_until_settled()

    def use(self, quantity: object = 1, **about: Any) -> None:
        """One event the whole way: accepted, counted, told."""
        assert self.send(quantity, **about).statuses == ["accepted"]
        self.deliver()
        self.tell()

    def decide(self, path: str) -> Any:
        """Approve or revert an adjustment, and have that counted and told."""
        answer = self.api.post(path, {"tenantId": DEMO})
        assert answer.status == 200, answer.text
        self.deliver()
        self.tell()
        return answer.body

    def go_to(self, instant: datetime) -> None:
        """It is that instant now, for us and for Stripe."""
        self.world.set_time(instant)

    # --- what is seen ---

    def value(
        self, aggregation: Aggregation = Aggregation.SUM, *, customer: str = "cus_A"
    ) -> Decimal:
        """The counter's number."""
        return counted(self.wiring, customer).value(aggregation)

    def numbers(self, customer: str = "cus_A") -> tuple[object, object]:
        """What the counter holds, and what Stripe does."""
        return self.value(customer=customer), self.world.told(customer)

    def told(self, *customers: str) -> tuple[object, ...]:
        """What Stripe holds of some customers, each by its name there."""
        return tuple(self.world.told(customer) for customer in customers)

    def told_in(self, *periods: Span) -> tuple[object, ...]:
        """What Stripe holds of some billing periods."""
        return tuple(self.world.told_in(period) for period in periods)

    def row(self) -> dict[str, object]:
        """The numbers of `cus_A` in November, side by side, everything read anew."""
        row = self.world.row()
        names = ("ledger", "counted", "pushed", "stripe", "difference", "status")
        return {name: getattr(row, name) for name in names}

    def causes(self) -> list[tuple[Cause, object]]:
        """Why they differ and by how much; that there is no subscription is no difference here."""
        (row,) = [one for one in self.world.report().rows if one.counter == a_counter()]
        found = [(one.cause, one.amount) for one in row.findings]
        return [one for one in found if one[0] is not Cause.NO_SUBSCRIPTION]

    def received(self) -> list[dict[str, Any]]:
        """The meter events that Stripe has taken, in the order of receipt."""
        account = self.world.stand_in.state()["accounts"][DEFAULT_ACCOUNT]
        return list(account["meter_events"])
