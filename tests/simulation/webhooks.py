"""Stripe's webhooks on their way to us: lost, late, double, overtaken, forged, or replayed: F11."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from infra import functions
from local.http_event import Request, payload
from local.stripe.deliveries import Delivery, signature
from metering.webhook import TOLERANCE
from tests.simulation.aws.mapping import Failure
from tests.simulation.world import NEXT_WEBHOOK_SECRET, NO_ANSWER, World

LATE_MAX = timedelta(minutes=4)
MINUTE = timedelta(minutes=1)
_OK = 200
_FATES = ("lost", "unanswered", "double", "late", "forged", "replayed", "rotated", "failing")


class Webhooks:
    """Carries what Stripe has to tell."""

    def __init__(self, world: World) -> None:
        self.forgeries_taken: list[str] = []
        """Deliveries that nobody at Stripe sent now, and that were answered as if somebody had."""
        self.carried = 0
        self.lost_at: datetime | None = None
        """When the last one was lost that nobody will deliver again."""
        self._world = world
        self._kernel = world.kernel
        self._calls = 0

    @property
    def is_quiet(self) -> bool:
        """Whether nothing is left to be told."""
        return not any(one.deliveries for one in self._world.core.world.accounts.values())

    def pump(self) -> None:
        """Send what is due."""
        due = self._world.core.due_deliveries(self._kernel.now)
        if len(due) > 1 and self._is_disturbed():
            self._kernel.saw("webhooks out of order")
            self._kernel.random.shuffle(due)
        for delivery in due:
            self._carry(delivery)

    def _is_disturbed(self) -> bool:
        return self._kernel.chance(self._world.dynamo_network.faults.webhooks)

    def _carry(self, delivery: Delivery) -> None:
        if not self._is_disturbed():
            self._send(delivery, delivery.headers["Stripe-Signature"], self._hears(delivery))
            return
        fate = self._kernel.random.choice(_FATES)
        self._kernel.note(f"webhook {fate}: {delivery.type}")
        self._kernel.saw(f"webhook {fate}")
        getattr(self, f"_{fate}")(delivery)

    def _hears(self, delivery: Delivery) -> Callable[[int], None]:
        return lambda status: self._world.core.delivered_webhook(delivery, status)

    # --- what becomes of one ---

    def _lost(self, delivery: Delivery) -> None:
        """Stripe takes it for delivered, and nobody ever saw it."""
        self.lost_at = self._kernel.now
        self._hears(delivery)(_OK)

    def _unanswered(self, delivery: Delivery) -> None:
        """It is taken, and Stripe does not hear so."""
        tell = self._hears(delivery)
        self._send(delivery, delivery.headers["Stripe-Signature"], lambda _: tell(NO_ANSWER))

    def _double(self, delivery: Delivery) -> None:
        header = delivery.headers["Stripe-Signature"]
        self._send(delivery, header, lambda _: None)
        self._send(delivery, header, self._hears(delivery))

    def _late(self, delivery: Delivery) -> None:
        """Others overtake it."""
        header, tell = delivery.headers["Stripe-Signature"], self._hears(delivery)
        delay = LATE_MAX * self._kernel.random.random()
        self._kernel.later(delay, lambda: self._send(delivery, header, tell))

    def _forged(self, delivery: Delivery) -> None:
        """Somebody else sends the same, signed with a secret of his own."""
        self._send(delivery, self._signed(delivery, "whsec_of_nobody"), self._must_refuse(delivery))
        self._send(delivery, delivery.headers["Stripe-Signature"], self._hears(delivery))

    def _replayed(self, delivery: Delivery) -> None:
        """Somebody who overheard it sends it much later, as it was."""
        header = delivery.headers["Stripe-Signature"]
        self._send(delivery, header, self._hears(delivery))
        delay = TOLERANCE + timedelta(seconds=self._world.drawn.faults.skew_s) + MINUTE
        must_refuse = self._must_refuse(delivery)
        self._kernel.later(delay, lambda: self._send(delivery, header, must_refuse))

    def _rotated(self, delivery: Delivery) -> None:
        """Stripe signs with the secret that has just taken the old one's place."""
        self._send(delivery, self._signed(delivery, NEXT_WEBHOOK_SECRET), self._hears(delivery))

    def _failing(self, delivery: Delivery) -> None:
        """It does not come through; Stripe sends it again."""
        self._hears(delivery)(503)

    def _must_refuse(self, delivery: Delivery) -> Callable[[int], None]:
        def told(status: int) -> None:
            if status == _OK:
                self.forgeries_taken.append(f"{delivery.type} {delivery.event}")

        return told

    # --- the wire ---

    def _signed(self, delivery: Delivery, secret: str) -> str:
        return signature([secret], int(self._kernel.now.timestamp()), delivery.body)

    def _send(self, delivery: Delivery, header: str, told: Callable[[int], None]) -> None:
        headers = delivery.headers | {"Stripe-Signature": header}
        raw = [(name.lower().encode(), text.encode()) for name, text in headers.items()]
        path = urlsplit(delivery.url).path
        request = Request("POST", path, "", raw, delivery.body, "127.0.0.1")
        self._calls += 1
        event = payload(
            request,
            route=f"POST {path}",
            now=self._kernel.now,
            request_id=f"webhook-{self._calls}",
        )

        def ended(answer: Any) -> None:
            failed = isinstance(answer, Failure)
            told(NO_ANSWER if failed else int(answer["statusCode"]))

        self.carried += 1
        self._world.lambdas[functions.STRIPE_WEBHOOK.name].invoke(event, ended)
