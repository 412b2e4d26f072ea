"""Where a scenario runs: on the stand-in, or in a sandbox of Stripe's own.

The same functions run on both, so that those which need a key are known to work before anybody has
one. What Stripe's documents leave open is written down as it was seen, question by question.
"""

import json
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

import stripe

from local.stripe.control import StandIn
from metering.adapters.clock import SystemClock
from metering.adapters.stripe_billing import StripeBilling, make_billing
from metering.adapters.stripe_client import StripeConnection
from metering.adapters.stripe_key import StripeKey
from metering.adapters.stripe_rate import CallRates, limits_of
from metering.config import Config
from metering.names import Identifier
from metering.period import Span
from metering.ports import MeterEvent
from metering.push import ONE_MINUTE, Mode, floor_minute

KEY = "STRIPE_SANDBOX_KEY"
RESTRICTED_KEY = "STRIPE_SANDBOX_RESTRICTED_KEY"
REPORT = Path("build/sandbox-report")
WITHOUT_KEY = f"no {KEY}: set it to a sk_test_ or rk_test_ key and run `make sandbox`"

QUESTIONS = {
    1: "v1 duplicate refusal: text, headers, code; the same after 25 h",
    2: "v2 meter events in a sandbox: availability, keys, duplicate_meter_event",
    3: "event_time_window=hour: overwrite across identifiers, lag, summaries",
    4: "negative and decimal values, digit limit",
    5: "test clock customers: which now the timestamp window uses",
    6: "late event after finalization: accepted, in the summary, on no invoice",
    7: "empty summary window: empty list or zero row; typical lag, 95th percentile",
    8: "last: equal timestamps, out-of-order receipt",
    9: "restricted key scope names from the 403 text",
    10: "draft invoice lines: when quantities refresh",
}
"""What Stripe's documents leave open."""

SUMMARY_WITHIN_S = 300.0
CLOCK_WITHIN_S = 300.0
LOOK_EVERY_S = 3.0


def answers[F: Callable[..., None]](*questions: int) -> Callable[[F], F]:
    """Says which of the questions a scenario writes an answer to."""

    def mark(scenario: F) -> F:
        scenario.answers = questions  # type: ignore[attr-defined]
        return scenario

    return mark


@dataclass
class Place:
    """One Stripe to run scenarios on."""

    client: stripe.StripeClient
    report: Path
    stand_in: StandIn | None = None
    """None is Stripe itself."""
    _made: list[Callable[[], object]] = field(default_factory=list)

    @property
    def is_stripe(self) -> bool:
        return self.stand_in is None

    # --- time ---

    def now(self) -> datetime:
        if self.stand_in:
            return self.stand_in.now()
        return SystemClock().now()

    def minute(self, ago: int = 0) -> datetime:
        """A whole minute, so many before the present one."""
        return floor_minute(self.now()) - ago * ONE_MINUTE

    def seen_within[T](
        self, look: Callable[[], T], is_it: Callable[[T], bool], within_s: float
    ) -> tuple[T, float]:
        """Look until it is so or the time is up: what was seen last, and after how many seconds."""
        began = time.monotonic()
        for _ in range(int(within_s / LOOK_EVERY_S)):
            seen = look()
            if is_it(seen) or not self.is_stripe:
                break
            time.sleep(LOOK_EVERY_S)
        return seen, time.monotonic() - began

    # --- what scenarios need ---

    def billing(self, transport: str = "v1") -> StripeBilling:
        config = Config(stripe_transport=transport)
        rates = CallRates(limits_of(config), seconds=time.monotonic, sleep=time.sleep)
        connection = StripeConnection(self._key())
        return make_billing(config, connection=connection, rates=rates if self.is_stripe else None)

    def _key(self) -> StripeKey:
        if self.stand_in:
            return StripeKey("", "sk_test_x", api_base=self.stand_in.url, only=Mode.TEST)
        return sandbox_key()

    def meter(self, formula: str = "sum", **more: Any) -> stripe.billing.Meter:
        """A meter with an event name nobody else uses."""
        about: Any = {
            "display_name": "StripeMeter sandbox suite",
            "event_name": f"sandbox_{uuid4().hex[:20]}",
            "default_aggregation": {"formula": formula},
            **more,
        }
        made = self.client.v1.billing.meters.create(about)
        self._made.append(lambda: self.client.v1.billing.meters.deactivate(made.id))
        return made

    def customer(self, **more: Any) -> str:
        about: Any = {"name": "StripeMeter sandbox suite", **more}
        made = self.client.v1.customers.create(about)
        if not more:  # a test clock takes its customers with it
            self._made.append(lambda: self.client.v1.customers.delete(made.id))
        return made.id

    def clock(self, frozen_at: datetime) -> str:
        """A test clock that stands at an instant."""
        made = self.client.v1.test_helpers.test_clocks.create(
            {"frozen_time": int(frozen_at.timestamp()), "name": "StripeMeter sandbox suite"}
        )
        self._made.append(lambda: self.client.v1.test_helpers.test_clocks.delete(made.id))
        return made.id

    def advance(self, clock: str, to: datetime) -> None:
        """Move a test clock on, and wait until it has come there."""
        clocks = self.client.v1.test_helpers.test_clocks
        clocks.advance(clock, {"frozen_time": int(to.timestamp())})
        found, _ = self.seen_within(
            lambda: clocks.retrieve(clock).status,
            lambda status: status != "advancing",
            CLOCK_WITHIN_S,
        )
        assert found == "ready", f"the test clock is {found}"

    def event(
        self, meter: stripe.billing.Meter, customer: str, value: str, *, ago: int = 1, **more: Any
    ) -> MeterEvent:
        """A meter event with an identifier of its own, some minutes ago."""
        identifier = Identifier(f"sandbox.{uuid4().hex}")
        about: dict[str, Any] = {"occurred_at": self.minute(ago), **more}
        return MeterEvent(
            account="",
            event_name=meter.event_name,
            customer=customer,
            value=value,
            identifier=identifier,
            idempotency_key=identifier,
            **about,
        )

    def total(
        self,
        meter: stripe.billing.Meter,
        customer: str,
        expected: Decimal | int,
        *,
        span: Span | None = None,
        within_s: float = SUMMARY_WITHIN_S,
    ) -> tuple[Decimal, float]:
        """What a summary (of the last hours) says once it says what is expected, or in the end."""
        whole = span or Span(self.minute(180), self.minute() + ONE_MINUTE)
        billing = self.billing()
        return self.seen_within(
            lambda: billing.total(meter.id, customer, whole),
            lambda seen: seen == expected,
            within_s,
        )

    def price(self, meter: stripe.billing.Meter) -> str:
        """A metered price of one cent a unit."""
        made = self.client.v1.prices.create(
            {
                "currency": "usd",
                "unit_amount": 1,
                "product_data": {"name": "StripeMeter sandbox suite"},
                "recurring": {"interval": "month", "usage_type": "metered", "meter": meter.id},
            }
        )
        return made.id

    def subscribe(self, customer: str, price: str) -> stripe.Subscription:
        """A monthly subscription that asks nobody for a card."""
        return self.client.v1.subscriptions.create(
            {
                "customer": customer,
                "items": [{"price": price}],
                "collection_method": "send_invoice",
                "days_until_due": 30,
            }
        )

    # --- what was seen ---

    def record(self, question: int, about: str, **seen: Any) -> None:
        """Write down what was seen; one file per question, so that processes share nothing."""
        self.report.mkdir(parents=True, exist_ok=True)
        path = self.report / f"{question:02}.json"
        found = json.loads(path.read_text()) if path.exists() else {}
        found[about] = {"at": self.now().isoformat(), **seen}
        path.write_text(json.dumps(found, indent=2, default=str) + "\n")

    def recorded(self, question: int, about: str) -> Mapping[str, Any] | None:
        """What a former run wrote down."""
        path = self.report / f"{question:02}.json"
        found = json.loads(path.read_text()) if path.exists() else {}
        return found.get(about)

    def leave(self) -> None:
        """Take back what can be taken back."""
        for undo in reversed(self._made):
            with suppress(stripe.StripeError):  # what a scenario took back itself is gone already
                undo()


def refusal(call: Callable[[], object]) -> dict[str, Any]:
    """How a call is refused: what the SDK makes of it, and what Stripe said; empty if it is not."""
    try:
        call()
    except stripe.StripeError as error:
        headers = error.headers or {}
        return {
            "exception": type(error).__name__,
            "status": error.http_status,
            "code": error.code,
            "body": error.json_body,
            "should_retry": headers.get("Stripe-Should-Retry"),
            "rate_limited_reason": headers.get("Stripe-Rate-Limited-Reason"),
        }
    return {}


def sandbox_key() -> StripeKey:
    """The sandbox's key; a live one is refused."""
    return StripeKey(WITHOUT_KEY, os.environ.get(KEY, ""), only=Mode.TEST)


def write_page(report: Path) -> None:
    """All answers on one page, for people."""
    lines = ["# What Stripe did", ""]
    for question, asked in QUESTIONS.items():
        path = report / f"{question:02}.json"
        seen = path.read_text().strip() if path.exists() else "not asked yet"
        lines += [f"## {question}. {asked}", "", "```json", seen, "```", ""]
    (report / "report.md").write_text("\n".join(lines))


TWO_HOURS = timedelta(hours=2)
