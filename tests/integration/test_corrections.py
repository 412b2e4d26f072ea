"""What others wrote to one of our totals is cancelled once a person has approved it."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from local.stripe.faults import FaultKind
from metering.auth import Scope
from metering.push import Mode, PushState, reject_async
from metering.reconciliation import Cause, Row, Status
from tests.api_client import Answer, Api, api_of
from tests.billing_world import HOUR, MINUTE, NOVEMBER, BillingWorld
from tests.builders import NOON, a_counter

FOREIGN_AT = NOON + 34 * MINUTE


@pytest.fixture
def world(billing: BillingWorld) -> BillingWorld:
    """`cus_A` used 10, which Stripe was told; somebody else told it 7 more."""
    billing.map()
    billing.stand_in.add_customers(["cus_A"])
    billing.use("10")
    billing.write()
    billing.advance(HOUR)
    tell_elsewhere(billing, "7")
    billing.advance(HOUR)
    return billing


@pytest.fixture
def api(world: BillingWorld) -> Api:
    return api_of(world.wiring, "demo")


def tell_elsewhere(world: BillingWorld, value: str) -> None:
    world.stand_in.send_foreign_event(
        "api_calls", "cus_A", value, timestamp=int(FOREIGN_AT.timestamp())
    )


def settle(world: BillingWorld) -> None:
    """The writer sends the correction, and in its next run what waited for it."""
    world.write()
    world.advance(2 * MINUTE)
    world.write_until_settled()
    world.advance(HOUR)


def approve(api: Api, amount: str = "-7", **changes: Any) -> Answer:
    sent = {
        "period": "2026-11",
        "customerRef": "cus_A",
        "metric": "api_calls",
        "amount": Decimal(amount).__int__() if "." not in amount else float(amount),
        "reason": "test upload",
    }
    return api.post("/v1/reconciliation/corrections", sent | changes)


def causes(row: Row) -> list[tuple[Cause, Decimal]]:
    noise = {Cause.NO_SUBSCRIPTION}
    return [(one.cause, one.amount) for one in row.findings if one.cause not in noise]


def test_an_approved_correction_makes_stripes_total_ours_again(
    world: BillingWorld, api: Api
) -> None:
    assert causes(world.row()) == [(Cause.FOREIGN_WRITER, Decimal(-7))]
    (proposal,) = world.report().proposals
    assert proposal.amount == -7

    made = approve(api)
    assert made.status == 201, made.text
    assert (made.body["due"], made.body["compensated"]) == (-7, 0)
    settle(world)

    assert world.told() == 10
    stream = world.stream()
    assert (stream.accepted, stream.compensated, stream.correction_due) == (10, -7, 0)
    row = world.row()
    assert (row.status, causes(row)) == (Status.OK, [(Cause.COMPENSATED, Decimal(-7))])
    assert {row.counted, row.pushed, row.stripe} == {Decimal(10)}
    assert "test upload" in row.explanation
    assert world.wiring.pushes.in_need() == []


def test_usage_goes_on_beside_a_correction(world: BillingWorld, api: Api) -> None:
    assert approve(api).status == 201
    world.use("5")
    settle(world)

    assert world.told() == 15
    assert (world.stream().accepted, world.stream().compensated) == (15, -7)
    assert world.row().status is Status.OK


def test_a_part_of_the_surplus_can_be_cancelled_and_the_rest_later(
    world: BillingWorld, api: Api
) -> None:
    for amount, told in (("-3", 14), ("-4", 10)):
        assert approve(api, amount).status == 201
        world.write_until_settled()
        world.advance(HOUR)
        assert world.told() == told

    assert causes(world.row()) == [(Cause.COMPENSATED, Decimal(-7))]
    assert approve(api, "-1").status == 409


@pytest.mark.parametrize("amount", ["-8", "7", "-7.5", "0"])
def test_more_than_the_proven_surplus_is_refused(
    world: BillingWorld, api: Api, amount: str
) -> None:
    assert approve(api, amount).status in {400, 409}
    assert world.stream().corrections == ()


def test_the_same_approval_twice_cancels_once(world: BillingWorld, api: Api) -> None:
    assert [approve(api).status, approve(api).status] == [201, 409]
    world.write_until_settled()
    assert approve(api).status == 409  # Stripe's minutes agree by now
    assert world.told() == 10


def test_a_correction_whose_answer_was_lost_counts_once(world: BillingWorld, api: Api) -> None:
    assert approve(api).status == 201
    world.stand_in.plan(FaultKind.DROP_AFTER, path="/v1/billing/meter_events")
    world.write()
    world.write_until_settled()

    assert world.told() == 10
    assert world.stream().compensated == -7


def test_a_correction_that_never_counted_is_told_again(world: BillingWorld, api: Api) -> None:
    assert approve(api).status == 201
    world.write()
    stream = world.stream()
    push = world.wiring.pushes.history(stream)[-1]
    assert push.is_correction
    world.stripe.v1.billing.meter_event_adjustments.create(
        {"event_name": "api_calls", "type": "cancel", "cancel": {"identifier": push.identifier}}
    )

    back = reject_async(stream, push, world.clock.now(), "dropped").stream

    assert (back.accepted, back.compensated, back.correction_due) == (10, 0, -7)
    world.wiring.pushes.store(back, replace(push, state=PushState.ASYNC_REJECTED))
    world.advance(2 * HOUR)
    world.write_until_settled()
    assert world.told() == 10


def test_a_correction_that_stripe_refuses_stays_due(world: BillingWorld, api: Api) -> None:
    assert approve(api).status == 201
    meter = world.stream().meter_id
    world.stripe.v1.billing.meters.deactivate(meter)
    world.write()
    assert world.stream().correction_due == -7
    world.stripe.v1.billing.meters.reactivate(meter)
    world.advance(2 * HOUR)
    world.write_until_settled()

    assert world.told() == 10
    assert world.stream().compensated == -7


def test_a_closed_period_takes_no_correction(world: BillingWorld, api: Api) -> None:
    world.set_time(NOVEMBER.end + 2 * HOUR)

    refused = approve(api)

    assert refused.status == 409
    assert "closed" in refused.text
    assert world.stream().corrections == ()


def test_a_correction_that_the_close_overtakes_is_not_sent(world: BillingWorld, api: Api) -> None:
    assert approve(api).status == 201
    world.set_time(NOVEMBER.end + 2 * HOUR)
    world.write_until_settled()

    assert world.told() == 17
    assert world.stream().accepted == 10
    assert world.wiring.pushes.in_need() == []
    assert (Cause.FOREIGN_WRITER, Decimal(-7)) in causes(world.row())


def test_approving_needs_the_right_to_write(world: BillingWorld) -> None:
    reader = api_of(world.wiring, "demo", Scope.PROJECT_READ, Scope.RECONCILIATION_WRITE)

    assert approve(reader).status == 403
    assert approve(api_of(world.wiring, "other")).status == 404


def test_a_push_under_way_that_stripe_may_hold_already_comes_first(
    world: BillingWorld, api: Api
) -> None:
    world.use("5")
    world.stand_in.plan(FaultKind.DROP_AFTER, path="/v1/billing/meter_events")
    world.write()

    refused = approve(api)

    assert refused.status == 409
    assert "under way" in refused.text


def test_a_stream_is_named_by_its_id_alone(world: BillingWorld, api: Api) -> None:
    made = approve(api, streamId=world.stream().key.id, customerRef=None, metric=None)

    assert made.status == 201
    assert approve(api, customerRef=None, metric=None).status == 400
    assert approve(api, streamId="nobody", customerRef=None, metric=None).status == 404
    assert world.stream().key.target.mode is Mode.TEST
    assert world.stream().corrections[0].approved_by.startswith("api:")
    assert world.wiring.pushes.streams(a_counter(), NOVEMBER)[0].is_due
