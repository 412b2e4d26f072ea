"""Notices and suspicions as they stand in the table, and how one becomes the other."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from local.stripe.faults import FaultKind
from metering.error_report import MeterErrorReport, Suspicion
from metering.errors import NotFoundError, RetryableError
from metering.notice import Notice, NoticeKind
from metering.ports import SetupError
from metering.stripe_event import read_event
from metering.suspects import Collected, collect
from metering.wiring import Wiring
from tests.billing_world import BillingWorld
from tests.builders import NOON
from tests.conftest import SetClock
from tests.faults import FaultyClient, throttled
from tests.stripe_events import a_snapshot, a_thin_event
from tests.unit.test_error_report import PUSH, WINDOW

MINUTE = timedelta(minutes=1)


def a_notice(event_type: str = "invoice.created", **changes: str) -> Notice:
    notice = read_event(a_snapshot(event_type, **changes), NOON)
    assert notice is not None
    return notice


def a_report_notice(event_id: str, account: str | None = None) -> Notice:
    notice = read_event(a_thin_event(id=event_id, context=account), NOON)
    assert notice is not None
    return notice


def a_suspicion(identifier: str = PUSH) -> Suspicion:
    return Suspicion(
        id=identifier,
        identifier=PUSH,
        meter_id="mtr_1",
        code="archived_meter",
        message="The meter is archived.",
        count=1,
        window=WINDOW,
        account="acct_1",
        is_live=False,
        reported_at=NOON,
    )


# --- notices --------------------------------------------------------------------------------------


def test_notices_wait_oldest_first_whatever_their_kind(wiring: Wiring) -> None:
    types = ["invoice.created", "customer.subscription.deleted", "invoice.paid"] * 4
    kept = [
        replace(a_notice(event_type), received_at=NOON + number * MINUTE)
        for number, event_type in enumerate(types)
    ]
    for notice in reversed(kept):
        assert wiring.notices.keep(notice)

    both = wiring.notices.waiting(NoticeKind.INVOICE, NoticeKind.SUBSCRIPTION)
    assert list(both) == kept
    only = wiring.notices.waiting(NoticeKind.SUBSCRIPTION)
    assert list(only) == [one for one in kept if one.kind is NoticeKind.SUBSCRIPTION]
    assert list(wiring.notices.waiting(NoticeKind.METER)) == []
    assert list(wiring.notices.waiting()) == []


def test_a_notice_that_is_done_waits_no_more_and_stays_known(wiring: Wiring) -> None:
    first, second = a_notice(), a_notice()
    for notice in (first, second):
        wiring.notices.keep(notice)

    wiring.notices.done(first)
    wiring.notices.done(first)

    assert list(wiring.notices.waiting(NoticeKind.INVOICE)) == [second]
    assert not wiring.notices.keep(replace(first, received_at=NOON + MINUTE))
    assert list(wiring.notices.waiting(NoticeKind.INVOICE)) == [second]


def test_a_notice_is_known_for_thirty_days(wiring: Wiring) -> None:
    wiring.notices.keep(a_notice())

    items = wiring.dynamodb.scan(TableName=wiring.table("billing"))["Items"]

    expected = str(int((NOON + timedelta(days=30)).timestamp()))
    assert [item["expires"]["N"] for item in items] == [expected] * 2


def test_a_page_that_cannot_be_read_is_for_later(wiring: Wiring) -> None:
    down = FaultyClient(wiring.dynamodb)
    down.fail("query", throttled())
    down.fail("delete_item", throttled())
    notices = Wiring(wiring.config, clock=wiring.clock, dynamodb=down.client).notices

    with pytest.raises(RetryableError):
        list(notices.waiting(NoticeKind.INVOICE))
    with pytest.raises(RetryableError):
        notices.done(a_notice())


# --- suspicions -----------------------------------------------------------------------------------


def test_a_suspicion_stands_until_it_is_settled(wiring: Wiring) -> None:
    window = replace(a_suspicion("evt_9.no_meter"), identifier=None, meter_id=None)
    wiring.suspects.add([a_suspicion(), window])
    assert set(wiring.suspects.open()) == {a_suspicion(), window}

    wiring.suspects.done(window)

    assert list(wiring.suspects.open()) == [a_suspicion()]


def test_a_report_that_is_read_again_does_not_undo_a_first_look(wiring: Wiring) -> None:
    looked = replace(a_suspicion(), seen_empty_at=NOON + MINUTE)
    wiring.suspects.add([a_suspicion()])
    wiring.suspects.change(looked)

    wiring.suspects.add([a_suspicion()])

    assert list(wiring.suspects.open()) == [looked]


def test_a_suspicion_that_was_settled_is_not_changed_back(wiring: Wiring) -> None:
    wiring.suspects.add([a_suspicion()])
    wiring.suspects.done(a_suspicion())

    wiring.suspects.change(replace(a_suspicion(), seen_empty_at=NOON))

    assert list(wiring.suspects.open()) == []


# --- from notices to suspicions -------------------------------------------------------------------


class Reports:
    """Answers `MeterErrorReports` as each test says."""

    def __init__(self, answer: Callable[[str], MeterErrorReport]) -> None:
        self._answer = answer
        self.asked: list[str] = []

    def report(self, event_id: str, account: str = "") -> MeterErrorReport:
        self.asked.append(event_id)
        return self._answer(event_id)


def failing(error: Exception) -> Callable[[str], MeterErrorReport]:
    def fail(event_id: str) -> MeterErrorReport:
        raise error

    return fail


def test_a_report_that_stripe_has_forgotten_is_not_asked_for_again(
    wiring: Wiring, caplog: pytest.LogCaptureFixture
) -> None:
    wiring.notices.keep(a_report_notice("evt_old"))
    reports = Reports(failing(NotFoundError("no event evt_old")))

    assert collect(wiring.notices, reports, wiring.suspects) == Collected(reports=1)
    assert collect(wiring.notices, reports, wiring.suspects) == Collected()
    assert reports.asked == ["evt_old"]
    assert "evt_old" in caplog.text


@pytest.mark.parametrize("trouble", [RetryableError("down"), SetupError("no scope")])
def test_reports_that_cannot_be_read_now_wait_for_the_next_run(
    wiring: Wiring, trouble: Exception
) -> None:
    for number in range(3):
        wiring.notices.keep(a_report_notice(f"evt_{number}"))
    reports = Reports(failing(trouble))

    assert collect(wiring.notices, reports, wiring.suspects) == Collected()

    assert len(reports.asked) == 1
    assert len(list(wiring.notices.waiting(NoticeKind.METER_ERRORS))) == 3


def test_one_run_reads_no_more_reports_than_it_may(wiring: Wiring) -> None:
    for number in range(5):
        wiring.notices.keep(a_report_notice(f"evt_{number}"))
    reports = Reports(failing(NotFoundError("gone")))

    assert collect(wiring.notices, reports, wiring.suspects, reports_max=3).reports == 3
    assert len(list(wiring.notices.waiting(NoticeKind.METER_ERRORS))) == 2


def test_a_changed_meter_is_told_to_operators_and_done(
    wiring: Wiring, caplog: pytest.LogCaptureFixture
) -> None:
    changed = {"object": {"id": "mtr_7", "object": "billing.meter"}}
    notice = read_event(a_snapshot("billing.meter.deactivated", data=changed), NOON)
    assert notice is not None
    wiring.notices.keep(notice)

    nothing = Reports(failing(AssertionError()))
    assert collect(wiring.notices, nothing, wiring.suspects) == Collected()
    assert "billing.meter.deactivated mtr_7" in caplog.text
    assert list(wiring.notices.waiting(NoticeKind.METER)) == []


def test_other_kinds_are_left_to_others(wiring: Wiring) -> None:
    wiring.notices.keep(a_notice())

    collect(wiring.notices, Reports(failing(AssertionError())), wiring.suspects)

    assert len(list(wiring.notices.waiting(NoticeKind.INVOICE))) == 1


# --- through Stripe -------------------------------------------------------------------------------


def collected(world: BillingWorld) -> Collected:
    wired = world.wiring
    return collect(wired.notices, wired.meter_error_reports, wired.suspects)


def thin_events(world: BillingWorld) -> list[str]:
    return [event.id for event in world.stripe.v2.core.events.list().data]


def test_a_push_that_stripe_drops_becomes_a_suspicion(billing: BillingWorld) -> None:
    billing.stand_in.set(asynchronous=["meter_event_customer_not_found"])
    mapping = billing.map()
    billing.use(customer="cus_gone")
    billing.write()
    stream = billing.stream("cus_gone")
    billing.advance(MINUTE)
    (event_id,) = thin_events(billing)
    billing.wiring.notices.keep(a_report_notice(event_id))

    assert collected(billing) == Collected(reports=1, suspicions=1)

    (doubt,) = billing.wiring.suspects.open()
    assert doubt.identifier == f"u1.{stream.key.id}.1"
    assert (doubt.meter_id, doubt.code) == (mapping.meter_id, "meter_event_customer_not_found")
    assert doubt.window.start <= NOON < doubt.window.end
    assert list(billing.wiring.notices.waiting(NoticeKind.METER_ERRORS)) == []


def test_a_report_of_a_connected_account_is_read_there(billing: BillingWorld) -> None:
    billing.stand_in.set(asynchronous=["no_meter"])
    sent: Any = {"event_name": "x", "payload": {"stripe_customer_id": "cus_1", "value": "1"}}
    billing.stripe.v1.billing.meter_events.create(sent, {"stripe_account": "acct_1Other"})
    billing.advance(MINUTE)
    there = billing.stripe.v2.core.events.list(options={"stripe_context": "acct_1Other"})
    (event,) = there.data
    billing.wiring.notices.keep(a_report_notice(event.id, event.context))

    assert collected(billing) == Collected(reports=1, foreign=1)
    with pytest.raises(NotFoundError):
        billing.wiring.meter_error_reports.report(event.id)


def test_an_event_that_stripe_does_not_have_is_named(billing: BillingWorld) -> None:
    with pytest.raises(NotFoundError, match="evt_nowhere"):
        billing.wiring.meter_error_reports.report("evt_nowhere")


def test_stripe_out_of_reach_is_for_later(billing: BillingWorld, clock: SetClock) -> None:
    billing.wiring.notices.keep(a_report_notice("evt_1"))
    billing.stand_in.plan(FaultKind.UNAVAILABLE, path="/v2/core/events/*")

    assert collected(billing) == Collected()
    assert len(list(billing.wiring.notices.waiting(NoticeKind.METER_ERRORS))) == 1
