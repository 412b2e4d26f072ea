"""Every kind of stream from the mapping over the API to the final invoice: all numbers agree."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
import stripe

from metering.names import CustomerRef, Metric
from metering.period import Span
from metering.period_close import PeriodState
from metering.push import StreamKind
from metering.reconciliation import Cause, Row, Status
from metering.wiring import Wiring, using
from tests.api_client import Api, api_of
from tests.billing_world import HOUR, MINUTE, BillingWorld
from tests.builders import DEMO, a_counter, an_entry
from tests.closing_world import ClosingWorld

DAY = timedelta(days=1)
MIDNIGHT = datetime(2026, 11, 20, tzinfo=UTC)
PERIOD = Span(MIDNIGHT, datetime(2026, 12, 20, tzinfo=UTC))
OLD: Any = {"stripe_version": "2025-02-24.acacia"}


@dataclass
class Shop:
    """A tenant whose `api_calls` were mapped over the API; `cus_A` subscribes to their price."""

    world: BillingWorld
    closing: ClosingWorld
    api: Api

    def map(
        self, aggregation: str, *, formula: str = "sum", window: str = "", scale: int = 0
    ) -> None:
        """A meter with its price, and the mapping onto it."""
        about: Any = {
            "display_name": "calls",
            "event_name": "calls",
            "default_aggregation": {"formula": formula},
        }
        if window:
            about["event_time_window"] = window
        meter = self.world.stripe.v1.billing.meters.create(about)
        price = self.closing.make_price(meter.id)
        asked = {"metric": "api_calls", "aggregation": aggregation, "scale": scale}
        self._mapped(asked | {"priceId": price.id})
        self.world.customer("cus_A")
        self.closing.subscribe(price=price)
        self.closing.close()

    def map_legacy(self, aggregation: str) -> None:
        """A price without a meter, and the mapping onto it."""
        price = self.world.stand_in.add_legacy_price(unit_amount_decimal="2.5")
        self._mapped({"metric": "api_calls", "aggregation": aggregation, "priceId": price})
        self.world.stand_in.add_customers(["cus_A"])
        subscription = self.world.stripe.v1.subscriptions.create(
            {"customer": "cus_A", "items": [{"price": price}]}, OLD
        )
        answer = self.api.put("/v1/customers/cus_A", {"subscription": subscription.id})
        assert answer.status == 200, answer.text
        self.closing.close()

    def _mapped(self, asked: dict[str, object]) -> None:
        mapped = self.api.post("/v1/mappings", asked)
        assert mapped.status == 201, mapped.text

    def use(self, quantity: str, *, at: datetime) -> None:
        """Usage at an instant, received a moment later, and told."""
        self.closing.go_to(max(at, self.world.clock.now()) + MINUTE)
        self.world.use(quantity, at=at)
        self.world.write_until_settled()

    def row(self, period: Span = PERIOD) -> Row:
        """The row of a period, read anew."""
        month = f"{period.start:%Y-%m}"
        self.world.reconcile(tenantId=DEMO, period=month, verify=True)
        (row,) = [one for one in self.world.report(month).rows if one.period == period]
        return row

    def drilled(self) -> dict[str, Any]:
        """The period's row with its hours and minutes."""
        answer = self.api.get(
            "/v1/reconciliation/2026-11/rows", customerRef="cus_A", metric="api_calls"
        )
        assert answer.status == 200, answer.text
        (row,) = [one for one in answer.body["rows"] if one["row"]["periodStart"] == START]
        return dict(row)

    def end_period(self) -> stripe.Invoice:
        """The period's end, its close and its invoice."""
        self.closing.go_to(PERIOD.end + MINUTE)
        self.closing.run_until(PERIOD.end + 2 * HOUR)
        close = self.closing.closing(PERIOD.start)
        assert close.state is PeriodState.CLOSED, close.message
        assert close.message == f"closed by {close.invoice}"
        return self.closing.invoice_of(close)

    def kinds(self) -> set[StreamKind]:
        """Of all streams of the period."""
        return {one.kind for one in self.world.wiring.pushes.streams(a_counter(), PERIOD)}


START = "2026-11-20T00:00:00.000Z"


@pytest.fixture
def shop(billing: BillingWorld) -> Iterator[Shop]:
    config = replace(billing.wiring.config, legacy_usage_records=True)
    billing.set_time(MIDNIGHT)
    with using(Wiring(config, clock=billing.clock, dynamodb=billing.wiring.dynamodb)) as wired:
        world = replace(billing, wiring=wired)
        yield Shop(world, ClosingWorld.over(world), api_of(wired, "demo"))


def billed(invoice: stripe.Invoice) -> Decimal:
    """The quantity that an invoice bills."""
    return sum(
        (Decimal(str(line.quantity_decimal or line.quantity)) for line in invoice.lines.data),
        Decimal(0),
    )


def numbers(row: Row) -> tuple[object, ...]:
    return row.ledger, row.counted, row.pushed, row.stripe


def causes(row: Row) -> list[Cause]:
    return [one.cause for one in row.findings]


FIRST, SECOND = MIDNIGHT + 9 * HOUR + 20 * MINUTE, MIDNIGHT + DAY + 15 * HOUR


@pytest.mark.parametrize(
    ("aggregation", "setup", "kind", "wanted"),
    [
        ("sum", {}, StreamKind.DELTA, 18),
        ("count", {}, StreamKind.DELTA, 4),
        ("max", {}, StreamKind.DELTA, 8),
        ("last", {"formula": "last"}, StreamKind.LAST, 3),
        ("sum", {"window": "hour"}, StreamKind.HOURLY, 18),
        ("count", {"window": "hour"}, StreamKind.HOURLY, 4),
        ("sum", {"window": "day"}, StreamKind.HOURLY, 18),
    ],
    ids=["sum", "count", "max", "last", "hour", "hour_count", "day"],
)
def test_each_kind_is_told_reconciled_and_billed_to_the_unit(
    shop: Shop, aggregation: str, setup: dict[str, Any], kind: StreamKind, wanted: int
) -> None:
    shop.map(aggregation, **setup)
    shop.use("5", at=FIRST)
    shop.use("8", at=FIRST + 2 * HOUR)
    shop.use("2", at=SECOND)
    shop.use("3", at=SECOND + HOUR)
    shop.closing.go_to(SECOND + 3 * HOUR)

    row = shop.row()
    drilled = shop.drilled()
    invoice = shop.end_period()
    final = shop.row()

    assert (row.status, causes(row)) == (Status.OK, [])
    assert numbers(row) == (wanted,) * 4
    assert shop.kinds() == {kind}
    assert (drilled["row"]["status"], drilled["minutes"]) == ("ok", [])
    if kind is StreamKind.LAST:
        assert (drilled["isComplete"], drilled["hours"]) == (True, [])
    else:
        assert all(hour["seen"] == hour["expected"] for hour in drilled["hours"])
        assert sum(hour["seen"] for hour in drilled["hours"]) == wanted
    assert billed(invoice) == wanted
    assert (final.status, causes(final)) == (Status.OK, [])
    assert numbers(final) == (wanted,) * 4
    assert final.invoiced == wanted


@pytest.mark.parametrize(("aggregation", "wanted"), [("sum", 18), ("count", 4), ("max", 8)])
def test_a_legacy_price_is_told_reconciled_and_billed_to_the_unit(
    shop: Shop, aggregation: str, wanted: int
) -> None:
    shop.map_legacy(aggregation)
    shop.use("5", at=FIRST)
    shop.use("8", at=FIRST + 2 * HOUR)
    shop.use("2", at=SECOND)
    shop.use("3", at=SECOND + HOUR)

    row = shop.row()
    drilled = shop.drilled()
    invoice = shop.end_period()
    final = shop.row()

    assert (row.status, causes(row)) == (Status.OK, [])
    assert numbers(row) == (wanted,) * 4
    assert shop.kinds() == {StreamKind.LEGACY}
    assert (drilled["row"]["status"], drilled["hours"], drilled["minutes"]) == ("ok", [], [])
    assert billed(invoice) == wanted
    assert (final.status, causes(final)) == (Status.OK, [])
    assert numbers(final) == (wanted,) * 4
    assert final.invoiced == wanted


def test_usage_records_that_somebody_else_wrote_are_named(shop: Shop) -> None:
    shop.map_legacy("sum")
    shop.use("5", at=FIRST)
    (stream,) = shop.world.wiring.pushes.streams(a_counter(), PERIOD)
    item = stream.key.target.subscription_item
    shop.world.stripe.raw_request(
        "post",
        f"/v1/subscription_items/{item}/usage_records",
        quantity=2,
        timestamp=int((FIRST).timestamp()),
        action="increment",
        **OLD,
    )

    row = shop.row()

    assert causes(row) == [Cause.FOREIGN_WRITER]
    assert row.findings[0].amount == -2
    assert row.stripe == 7
    assert "usage records" in row.explanation


def test_a_last_value_of_before_is_billed_and_is_no_difference(shop: Shop) -> None:
    shop.map("last", formula="last")
    shop.use("7", at=FIRST)
    shop.end_period()
    january = shop.world.wiring.settings.customer(DEMO, CustomerRef("cus_A")).calendar.period_of(
        PERIOD.end
    )
    shop.world.write_until_settled()
    shop.closing.go_to(PERIOD.end + DAY)

    row = shop.row(january)

    assert (row.status, causes(row)) == (Status.OK, [Cause.STANDING])
    assert numbers(row)[1:] == (0, 7, 7)


# --- windows --------------------------------------------------------------------------------------


def test_fractions_of_windows_add_up_to_the_whole_units_of_their_total(shop: Shop) -> None:
    shop.map("sum", window="hour")
    for day in range(5):
        shop.use("0.7", at=FIRST + day * DAY)
    shop.closing.go_to(FIRST + 5 * DAY)

    row = shop.row()

    assert numbers(row)[1:] == (Decimal("3.5"), 3, 3)
    assert (row.status, causes(row)) == (Status.OK, [Cause.REMAINDER])
    assert billed(shop.end_period()) == 3
    final = shop.row()
    assert final.status is Status.OK
    assert final.invoiced == 3


def test_late_usage_of_an_earlier_window_moves_the_fractions_behind_it(shop: Shop) -> None:
    shop.map("sum", window="day")
    for day in range(3):
        shop.use("1.4", at=FIRST + day * DAY)
    assert shop.row().pushed == 4
    now = shop.world.clock.now()
    late = an_entry("0.4", at=FIRST, received_at=now)
    shop.world.use_all([late])
    shop.world.write_until_settled()
    shop.world.advance(HOUR)

    row = shop.row()

    assert numbers(row) == (Decimal("4.6"), Decimal("4.6"), 4, 4)
    told = {one.key.hour: one.accepted for one in streams(shop)}
    assert told == {MIDNIGHT: 1, MIDNIGHT + DAY: 2, MIDNIGHT + 2 * DAY: 1}


def test_with_hour_buckets_each_hour_is_told_its_own_total(shop: Shop) -> None:
    shop.map("sum", window="hour")
    shop.use("5", at=FIRST)
    set_ = shop.api.put("/v1/metrics/api_calls", {"bucket": "hour"})
    assert (set_.status, set_.body["bucket"]) == (200, "hour")
    shop.use("8", at=FIRST + 2 * HOUR)
    shop.use("2", at=FIRST + 2 * HOUR + 5 * MINUTE)
    shop.use("3", at=SECOND)
    hour = FIRST.replace(minute=0)
    before = {MIDNIGHT: 5, hour + 2 * HOUR: 10, SECOND: 3}
    assert {one.key.hour: one.accepted for one in streams(shop)} == before

    shop.world.wiring.rebuilder.request(DEMO)
    shop.world.advance(HOUR)
    shop.world.wiring.rebuilder.advance()
    shop.world.write_until_settled()
    shop.world.advance(HOUR)

    after = {MIDNIGHT: 0, hour: 5, hour + 2 * HOUR: 10, SECOND: 3}
    assert {one.key.hour: one.accepted for one in streams(shop)} == after
    row = shop.row()
    assert (row.status, causes(row)) == (Status.OK, [])
    assert numbers(row) == (18,) * 4
    history = shop.api.get(
        "/v1/usage/history",
        customerRef="cus_A",
        metric="api_calls",
        periodStart="2026-11-20T00:00:00Z",
        periodEnd="2026-11-22T00:00:00Z",
        step="day",
    )
    assert [point["value"] for point in history.body["usage"]] == [15, 3], history.text
    assert billed(shop.end_period()) == 18


def streams(shop: Shop) -> list[Any]:
    return shop.world.wiring.pushes.streams(a_counter(), PERIOD)


def test_a_window_that_another_writer_took_the_place_of_is_told_again(shop: Shop) -> None:
    shop.map("sum", window="hour")
    shop.use("5", at=FIRST)
    shop.world.stand_in.send_foreign_event(
        "calls", "cus_A", "2", timestamp=int(MIDNIGHT.timestamp()) + 60
    )
    shop.world.advance(HOUR)
    first = shop.row()
    shop.world.advance(2 * HOUR)
    shop.row()
    shop.world.advance(2 * HOUR)
    shop.world.write_until_settled()
    shop.world.advance(HOUR)

    assert first.stripe == 2
    assert first.status is Status.INVESTIGATE
    row = shop.row()
    assert row.status is Status.OK
    assert row.stripe == 5


def test_a_period_that_no_window_fits_says_that_it_is_held(shop: Shop) -> None:
    shop.closing.go_to(MIDNIGHT + 90 * MINUTE)
    shop.map("sum", window="hour")
    shop.world.advance(MINUTE)
    shop.world.use("5")
    assert shop.world.write()["held"] == {"uneven_period": 1}
    odd = Span(MIDNIGHT + 90 * MINUTE, PERIOD.end + 90 * MINUTE)

    row = shop.row(odd)

    assert causes(row) == [Cause.HELD]
    assert "uneven_period" in row.explanation
    assert Metric("api_calls") == row.counter.metric
