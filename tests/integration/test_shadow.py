"""Shadow mode: a test account is told the same, and the primary never notices."""

import logging
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest
import stripe

from functions.writer.handler import handler as write
from infra.functions import WRITER
from local.stripe.faults import FaultKind
from metering.counter import CounterKey
from metering.mapping import Customer, Mapping
from metering.names import CustomerRef, Metric
from metering.push import PushStream, Role, Stop
from metering.reconciliation import Status
from metering.wiring import Wiring, using
from tests.api_client import Api
from tests.billing_world import NOVEMBER, BillingWorld, Context, connected
from tests.builders import DEMO

SHADOW_KEY = "sk_test_shadow"
SHADOW_ACCOUNT = "acct_1Shadow"
MINUTE = timedelta(minutes=1)
COUNTER = CounterKey(DEMO, CustomerRef("cus_A"), Metric("api_calls"))


class ShadowWorld:
    """A mapped metric and its customer, here and in a test account of another key."""

    def __init__(self, world: BillingWorld, wiring: Wiring) -> None:
        self.world = world
        self._bare = wiring
        self.stand_in = world.stand_in
        self.stand_in.rule_key(SHADOW_KEY, account=SHADOW_ACCOUNT)
        self.stand_in.add_customers(["cus_shadow"], account=SHADOW_ACCOUNT)
        self.stand_in.add_customers(["cus_A"])
        self.mapping = world.map()
        client = stripe.StripeClient(SHADOW_KEY, base_addresses=self.stand_in.base_addresses())
        self.meter = client.v1.billing.meters.create(
            {
                "display_name": "calls",
                "event_name": "shadow_calls",
                "default_aggregation": {"formula": "sum"},
            }
        )
        customer = Customer(DEMO, CustomerRef("cus_A"), "cus_A", "cus_shadow")
        world.wiring.settings_store.put_customer(customer)

    def turn(self, *, on: bool) -> Mapping:
        """Give the mapping its shadow, or take it away."""
        now = self.world.clock.now()
        after = replace(
            self.mapping,
            shadow=on,
            shadow_meter_id=self.meter.id if on else "",
            shadow_meter_event_name="shadow_calls" if on else "",
            shadow_since=now if on else None,
            updated_at=now,
        )
        self.mapping = self.world.wiring.settings_store.change_mapping(self.mapping, after)
        return self.mapping

    def wired(self, key: str | None = SHADOW_KEY) -> Wiring:
        """The deployment with this key for the shadow, as it starts."""
        return connected(self._bare, self.stand_in, stripe_shadow_secret_key=key)

    def shadow_told(self) -> Decimal:
        """What the test account's meter holds."""
        return self.stand_in.total("shadow_calls", "cus_shadow", account=SHADOW_ACCOUNT)

    def both_told(self) -> tuple[object, object]:
        """What the primary's meter holds, and the test account's."""
        return self.world.told(), self.shadow_told()

    def streams(self, wired: Wiring) -> tuple[PushStream, PushStream]:
        """The one primary stream and the one of the shadow."""
        (primary,) = wired.pushes.streams(COUNTER, NOVEMBER)
        (shadow,) = wired.shadow_pushes.streams(COUNTER, NOVEMBER)
        return primary, shadow


@pytest.fixture
def shadow(billing: BillingWorld, wiring: Wiring) -> Iterator[ShadowWorld]:
    yield ShadowWorld(billing, wiring)
    billing.stand_in.rule_key(SHADOW_KEY, account=SHADOW_ACCOUNT, revoked=False)


def test_the_test_account_is_told_the_same_in_parallel(shadow: ShadowWorld) -> None:
    shadow.turn(on=True)
    shadow.world.use("42")

    with using(shadow.wired()) as wired:
        run = shadow.world.write()

    assert shadow.both_told() == (42, 42)
    assert (run["accepted"], run["shadow"]["accepted"]) == (1, 1)
    primary, second = shadow.streams(wired)
    assert (primary.key.target.role, second.key.target.role) == (Role.PRIMARY, Role.SHADOW)
    assert second.key.target[:4] == ("", "test", "shadow_calls", "cus_shadow")
    assert primary.key.id != second.key.id


def test_what_is_told_once_is_not_told_again(shadow: ShadowWorld) -> None:
    shadow.turn(on=True)
    shadow.world.use("42")

    with using(shadow.wired()):
        shadow.world.write()
        shadow.world.advance(MINUTE)
        shadow.world.write()
        shadow.world.use("8")
        shadow.world.write()

    assert shadow.both_told() == (50, 50)
    totals = shadow.stand_in.totals(account=SHADOW_ACCOUNT)
    assert totals["shadow_calls", "cus_shadow"].events == 2


def test_turned_on_in_the_middle_of_a_period_a_shadow_is_told_all_of_it(
    shadow: ShadowWorld,
) -> None:
    with using(shadow.wired()):
        shadow.world.use("42")
        shadow.world.write()
        shadow.world.advance(timedelta(days=3))
        shadow.turn(on=True)
        shadow.world.advance(timedelta(hours=1))
        shadow.world.write()
        assert shadow.both_told() == (42, 42)

        shadow.turn(on=False)
        shadow.world.advance(timedelta(hours=1))
        shadow.world.use("8")
        shadow.world.write()
        assert shadow.both_told() == (50, 42)

        shadow.turn(on=True)
        shadow.world.advance(timedelta(hours=1))
        shadow.world.write()

    assert shadow.both_told() == (50, 50)


def test_w4_a_shadow_without_a_test_key_never_reaches_any_account(
    shadow: ShadowWorld, caplog: pytest.LogCaptureFixture
) -> None:
    shadow.turn(on=True)
    shadow.world.use("42")

    with using(shadow.wired(key=None)) as wired, caplog.at_level(logging.WARNING):
        run = shadow.world.write()

    sent = [one for one in shadow.stand_in.requests() if "meter_events" in one["path"]]
    assert len(sent) == 1
    assert set(shadow.stand_in.totals()) == {("api_calls", "cus_A")}
    assert shadow.world.told() == 42
    assert shadow.stand_in.totals(account=SHADOW_ACCOUNT) == {}
    assert wired.shadow_pushes.streams(COUNTER, NOVEMBER) == []
    assert run["shadow"]["held"] == {"no_shadow_key": 1}
    warnings = [one for one in caplog.records if one.name == "metering.shadow"]
    assert ["STRIPE_SHADOW_SECRET_NAME" in one.getMessage() for one in warnings] == [True]


def test_w4_a_live_key_for_the_shadow_is_refused_and_sends_nothing(shadow: ShadowWorld) -> None:
    shadow.turn(on=True)
    shadow.world.use("42")

    with using(shadow.wired(key="sk_live_x")):
        run = shadow.world.write()
        reports = shadow.world.reconcile(tenantId=DEMO)

    sent = [one for one in shadow.stand_in.requests() if "meter_events" in one["path"]]
    assert len(sent) == 1
    assert shadow.world.told() == 42
    assert run["shadow"]["held"] == {"no_shadow_key": 1}
    assert "a test key" in run["shadow"]["skipped"]
    assert "a test key" in reports["shadow"]["skipped"]


def test_a_refused_shadow_key_pauses_the_shadow_alone(shadow: ShadowWorld) -> None:
    shadow.turn(on=True)
    shadow.world.use("42")
    shadow.stand_in.rule_key(SHADOW_KEY, account=SHADOW_ACCOUNT, revoked=True)

    with using(shadow.wired()) as wired:
        run = shadow.world.write()
        assert run["shadow"]["answers"] == {"not_allowed": 1}
        shadow.world.advance(MINUTE)
        shadow.world.use("8")
        run = shadow.world.write()

        assert shadow.world.told() == 50
        assert run["held"] == {}
        assert run["shadow"]["held"]["account_paused"] == 1
        primary, second = shadow.streams(wired)
    mode = primary.key.target.mode
    assert mode is second.key.target.mode
    assert wired.pushes.paused_until("", mode) is None
    assert wired.shadow_pushes.paused_until("", mode) is not None


def test_a_shadow_whose_outcome_is_unknown_delays_nothing(shadow: ShadowWorld) -> None:
    shadow.turn(on=True)
    with using(shadow.wired()) as wired:
        shadow.world.use("1")
        shadow.world.write()
        shadow.world.use("41")
        wired.writer.run("the primary alone", lambda: timedelta(seconds=55))
        # So the next meter event is the shadow's.
        shadow.stand_in.plan(FaultKind.DROP_AFTER, path="/v1/billing/meter_events", times=1)
        shadow.world.write()
        primary, second = shadow.streams(wired)
        assert (primary.accepted, primary.open) == (42, None)
        assert second.open is not None
        shadow.world.use("8")
        shadow.world.write()

        assert shadow.world.told() == 50
        shadow.world.write_until_settled()
        shadow.world.advance(10 * MINUTE)
        shadow.world.write()

    assert shadow.both_told() == (50, 50)


def test_what_waits_for_a_person_in_the_shadow_is_decided_there(shadow: ShadowWorld) -> None:
    shadow.turn(on=True)
    shadow.world.use("42")
    with using(shadow.wired()) as wired:
        wired.writer.run("the primary alone", lambda: timedelta(seconds=55))
        shadow.stand_in.plan(FaultKind.DROP_BEFORE, path="/v1/billing/meter_events", times=1)
        shadow.world.write()
        _, second = shadow.streams(wired)
        stop = Stop("ambiguous_minute", "holds 7", shadow.world.clock.now(), None)
        wired.shadow_pushes.store(replace(second, stopped=stop))

        assert Api().get("/v1/pushes", tenantId="demo", status="stopped").body == []
        asked = {"tenantId": "demo", "status": "stopped", "role": "shadow"}
        (line,) = Api().get("/v1/pushes", **asked).body
        assert (line["role"], line["needsDecision"]) == ("shadow", True)
        path = f"/v1/pushes/{line['streamId']}/decision"
        sent = {"tenantId": "demo", "decision": "not_counted"}
        assert Api().post(path, sent).status == 404
        assert Api().post(path, sent, query="role=shadow").status == 200
        shadow.world.write()

    assert shadow.both_told() == (42, 42)


def test_a_bug_of_the_shadows_leaves_the_primarys_run_as_it_was(
    shadow: ShadowWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    shadow.turn(on=True)
    shadow.world.use("42")

    with using(shadow.wired()) as wired:
        assert wired.shadow_billing is not None
        monkeypatch.setattr(wired.shadow_pushes, "in_need", lambda: 1 // 0)
        run = shadow.world.write()

    assert run["accepted"] == 1
    assert shadow.world.told() == 42
    assert "division" in run["shadow"]["failed"]


def test_the_shadow_is_told_only_in_the_time_that_is_left(shadow: ShadowWorld) -> None:
    class Late(Context):
        def get_remaining_time_in_millis(self) -> int:
            return 14_000

    shadow.turn(on=True)
    shadow.world.use("42")

    with using(shadow.wired()):
        run = write({}, Late(WRITER))

    assert run["shadow"] == {"skipped": "no time is left"}
    assert shadow.shadow_told() == 0


def test_primary_and_shadow_on_one_account_and_meter_name_never_mix(
    shadow: ShadowWorld, billing: BillingWorld
) -> None:
    own = "shadow_calls"
    meter = billing.stripe.v1.billing.meters.create(
        {"display_name": own, "event_name": own, "default_aggregation": {"formula": "sum"}}
    )
    after = replace(shadow.turn(on=True), shadow_meter_id=meter.id)
    billing.wiring.settings_store.change_mapping(shadow.mapping, after)
    billing.stand_in.add_customers(["cus_shadow"])
    billing.use("42")

    with using(shadow.wired(key="sk_test_x")) as wired:
        billing.write()
        primary, second = shadow.streams(wired)

    assert (primary.accepted, second.accepted) == (42, 42)
    assert billing.told() == 42
    assert billing.told("cus_shadow", own) == 42


def test_a_metric_or_customer_without_a_shadow_is_told_once(shadow: ShadowWorld) -> None:
    shadow.turn(on=True)
    shadow.world.map("storage")
    shadow.world.customer("cus_B")
    shadow.world.use("5", metric="storage")
    shadow.world.use("6", customer="cus_B")

    with using(shadow.wired()):
        run = shadow.world.write()

    assert (run["accepted"], run["shadow"]["looked_at"]) == (2, 0)
    assert shadow.stand_in.totals(account=SHADOW_ACCOUNT) == {}


def test_periods_that_had_closed_before_the_shadow_began_are_left_alone(
    shadow: ShadowWorld,
) -> None:
    with using(shadow.wired()):
        shadow.world.use("42")
        shadow.world.write()
        shadow.world.set_time(NOVEMBER.end + timedelta(hours=30))
        shadow.turn(on=True)
        shadow.world.use("8")
        run = shadow.world.write()

    assert shadow.both_told() == (50, 8)
    assert run["shadow"]["held"] == {"before_mapping": 1}


# --- numbers and reports --------------------------------------------------------------------------


def test_pushes_are_counted_by_role(shadow: ShadowWorld) -> None:
    shadow.turn(on=True)
    shadow.world.use("42")
    wired = shadow.wired()
    wired.config = replace(wired.config, metrics="prometheus")
    line = 'pushes_total{{answer="accepted",role="{}"}}'

    def counted() -> list[float]:
        found = wired.metrics.exposition()
        assert found is not None
        lines = dict(one.rsplit(" ", 1) for one in found[1].splitlines())
        return [float(lines.get(line.format(role), 0)) for role in Role]

    before = counted()
    with using(wired):
        shadow.world.write()

    assert [after - former for after, former in zip(counted(), before, strict=True)] == [1, 1]


def test_the_shadows_rows_stand_apart_and_agree(shadow: ShadowWorld) -> None:
    shadow.turn(on=True)
    shadow.world.use("42")

    with using(shadow.wired()) as wired:
        shadow.world.write()
        shadow.world.advance(timedelta(hours=1))
        told = shadow.world.reconcile(tenantId=DEMO, period="2026-11")
        primary = wired.reports.latest(DEMO, "2026-11")
        second = wired.shadow_reports.latest(DEMO, "2026-11")
        body = Api().get("/v1/reconciliation/2026-11", tenantId="demo").body

    assert primary is not None
    assert second is not None
    assert (primary.role, second.role, primary.id != second.id) == ("primary", "shadow", True)
    for report in (primary, second):
        (row,) = report.rows
        assert row.status is Status.OK
        assert row.pushed == 42
        assert row.stripe == 42
    assert (told["shadow"]["differing"], len(told["reports"])) == (0, 1)
    assert [row["role"] for row in body["reports"]] == ["primary"]
    assert [row["role"] for row in body["shadow"]["reports"]] == ["shadow"]
    assert (body["summary"]["total"], body["shadow"]["differences"]) == (1, [])


def test_a_shadow_that_was_told_less_is_named(shadow: ShadowWorld) -> None:
    shadow.turn(on=True)
    shadow.world.use("42")
    with using(shadow.wired()):
        shadow.world.write()
        shadow.world.use("8")
        client = stripe.StripeClient(SHADOW_KEY, base_addresses=shadow.stand_in.base_addresses())
        client.v1.billing.meters.deactivate(shadow.meter.id)
        shadow.world.write()
        shadow.world.advance(timedelta(minutes=30))
        told = shadow.world.reconcile(tenantId=DEMO, period="2026-11")
        body = Api().get("/v1/reconciliation/2026-11", tenantId="demo").body
        asked = {"tenantId": "demo", "format": "csv", "role": "shadow"}
        text = Api().get("/v1/reconciliation/2026-11", **asked).text

    (one,) = body["shadow"]["differences"]
    assert one["cause"] == "shadow_differs"
    assert (one["primary"], one["shadow"], one["amount"]) == (50, 42, 8)
    assert "The primary was told 50 and the shadow 42." in one["explanation"]
    assert told["shadow"]["differing"] == 1
    assert [row["status"] for row in body["reports"]] == ["ok"]
    assert body["summary"]["investigating"] == 0
    assert body["shadow"]["summary"]["investigating"] == 1
    assert len(text.splitlines()) == 2


def test_reads_of_the_test_account_are_not_on_the_primarys_budget(shadow: ShadowWorld) -> None:
    shadow.turn(on=True)
    shadow.world.use("42")
    with using(shadow.wired()) as wired:
        shadow.world.write()
        now = shadow.world.clock.now()
        assert wired.shadow_billing is not None
        before = wired.read_budget.left(now), wired.shadow_read_budget.left(now)
        wired.shadow_billing.total(shadow.meter.id, "cus_shadow", NOVEMBER)
        after = wired.read_budget.left(now), wired.shadow_read_budget.left(now)

    assert (before[0] - after[0], before[1] - after[1]) == (0, 1)
