"""A tenant's counters rebuilt from its ledger, exact while events keep arriving."""

from collections.abc import Sequence
from datetime import timedelta

import pytest

from functions.rebuilder.handler import handler
from metering.counter import total
from metering.errors import RetryableError
from metering.event import LedgerEntry
from metering.lane import Advance, Lane, position_of
from metering.names import CustomerRef, TenantId
from metering.rebuild import RebuildReport
from metering.wiring import Wiring
from tests.builders import DEMO, NOON, a_subscriber, an_entry
from tests.conftest import SetClock
from tests.faults import CALLS_MAX, Deaths, FaultyClient, KilledError, dying, throttled
from tests.readers import EVER, another_process, counted, fold, lanes_of, of_customer, true_usage

LEAD = timedelta(seconds=390)
SETTLE = timedelta(seconds=600)
SECOND = timedelta(seconds=1)


class Traffic:
    """Events of one tenant on their way: into the ledger, and from there through one shard."""

    def __init__(self, wiring: Wiring, clock: SetClock, tenant: str = "demo") -> None:
        self.wiring = wiring
        self.tenant = TenantId(tenant)
        self._clock = clock
        self.entries: list[LedgerEntry] = []
        self._folded = 0

    def ingest(self, number: int = 1) -> Sequence[LedgerEntry]:
        """Received now, by the server's clock."""
        new = [
            an_entry(
                str(len(self.entries) + at),
                customer=f"cus_{at % 2}",
                tenant=self.tenant,
                at=NOON - timedelta(hours=13 * at),
                received_at=self._clock.now(),
                is_late=at % 3 == 0,
            )
            for at in range(1, number + 1)
        ]
        self.wiring.ledger.append(new)
        self.entries += new
        return new

    def aggregate(self, process: Wiring | None = None, *, again: bool = False) -> None:
        """Everything the stream holds that was not delivered yet, or all of it once more."""
        start = 0 if again else self._folded
        process = process or another_process(self.wiring)
        assert fold(process, self.entries[start:], first=start + 1, shard=self.tenant) == []
        self._folded = len(self.entries)

    def assert_exact(self) -> None:
        for customer in ("cus_0", "cus_1"):
            seen = counted(self.wiring, customer, tenant=self.tenant)
            assert seen == true_usage(of_customer(self.entries, customer)), customer

    def spoil(self) -> None:
        """A lane as no event made it."""
        own = [lane.key for lane in lanes_of(self.wiring) if lane.key.counter.tenant == self.tenant]
        newest = max(own, key=lambda key: key.epoch)
        key = newest._replace(shard=f"nobody's-{len(self.entries)}")
        wrong = Lane(position_of("7"), {key.day: true_usage([an_entry("999")])})
        assert self.wiring.lanes.write([(key, Advance(Lane(), wrong))]) == [wrong]


@pytest.fixture
def traffic(wiring: Wiring, clock: SetClock) -> Traffic:
    return Traffic(wiring, clock)


def request(wiring: Wiring, tenant: TenantId = DEMO) -> RebuildReport:
    return another_process(wiring).rebuilder.request(tenant)


def advance(wiring: Wiring) -> list[RebuildReport]:
    return another_process(wiring).rebuilder.advance()


def rebuild(wiring: Wiring, clock: SetClock) -> RebuildReport:
    request(wiring)
    clock.advance(LEAD + SETTLE)
    [report] = advance(wiring)
    assert report.state == "done"
    return report


# --- the whole of it ------------------------------------------------------------------------------


def test_a_wrong_counter_is_made_right_while_events_arrive(
    wiring: Wiring, clock: SetClock, traffic: Traffic
) -> None:
    aggregator = another_process(wiring)  # one process all along, with its cached epochs
    traffic.ingest(5)
    traffic.aggregate(aggregator)
    traffic.assert_exact()
    traffic.spoil()
    with pytest.raises(AssertionError):
        traffic.assert_exact()

    assert request(wiring) == RebuildReport(DEMO, "requested", NOON + LEAD)
    assert request(wiring) == RebuildReport(DEMO, "settling", NOON + LEAD)

    clock.advance(SECOND * 31)
    traffic.ingest(3)
    traffic.aggregate(aggregator)
    clock.set(NOON + LEAD - timedelta(microseconds=1))
    traffic.ingest(2)  # just before the cut, and folded long after it
    clock.set(NOON + LEAD)
    traffic.ingest(2)
    traffic.aggregate(aggregator)
    clock.advance(SECOND * 60)
    traffic.ingest(3)
    traffic.aggregate(aggregator)
    assert [report.state for report in advance(wiring)] == ["settling"]
    traffic.ingest(2)
    clock.set(NOON + LEAD + SETTLE)

    assert advance(wiring) == [RebuildReport(DEMO, "done", NOON + LEAD, 10, 5)]

    traffic.aggregate(aggregator)
    traffic.assert_exact()
    traffic.ingest(4)
    traffic.aggregate(aggregator)
    traffic.assert_exact()
    clock.advance(SECOND * 31)
    traffic.ingest(4)
    traffic.aggregate(aggregator)
    traffic.assert_exact()
    traffic.aggregate(another_process(wiring), again=True)
    traffic.assert_exact()
    assert advance(wiring) == []


def test_until_readers_are_switched_over_they_read_the_old_counters(
    wiring: Wiring, clock: SetClock, traffic: Traffic
) -> None:
    for step in (SECOND, LEAD, SETTLE - SECOND * 2):
        traffic.ingest(2)
        traffic.aggregate()
        traffic.assert_exact()
        request(wiring)
        clock.advance(step)
        assert [report.state for report in advance(wiring)] == ["settling"]
        traffic.assert_exact()


def test_a_backlog_from_before_the_cut_that_arrives_after_the_switch_counts_once(
    wiring: Wiring, clock: SetClock, traffic: Traffic
) -> None:
    traffic.ingest(5)

    assert rebuild(wiring, clock).entries == 5

    traffic.assert_exact()
    traffic.aggregate()
    traffic.assert_exact()
    assert all(lane.key.epoch == 1 for lane in lanes_of(wiring)), "only who reads the former epoch"


def test_an_event_received_at_the_cut_itself_counts_once(
    wiring: Wiring, clock: SetClock, traffic: Traffic
) -> None:
    request(wiring)
    clock.advance(LEAD - timedelta(microseconds=1))
    traffic.ingest()
    clock.advance(timedelta(microseconds=1))
    traffic.ingest()
    clock.advance(SETTLE)
    [report] = advance(wiring)

    assert report.entries == 1
    traffic.aggregate()
    traffic.assert_exact()


def test_rebuilds_may_follow_one_another(wiring: Wiring, clock: SetClock, traffic: Traffic) -> None:
    for _ in range(3):
        traffic.ingest(4)
        traffic.aggregate()
        traffic.spoil()
        traffic.ingest(2)
        rebuild(wiring, clock)
        traffic.aggregate()
        traffic.assert_exact()


def test_a_rebuild_of_one_tenant_leaves_the_others_alone(
    wiring: Wiring, clock: SetClock, traffic: Traffic
) -> None:
    other = Traffic(wiring, clock, "acme")
    for each in (traffic, other):
        each.ingest(4)
        each.aggregate()

    assert rebuild(wiring, clock).tenant == DEMO

    for each in (traffic, other):
        each.ingest(3)
        each.aggregate()
        each.assert_exact()


def test_a_tenant_without_events_is_rebuilt_to_nothing(wiring: Wiring, clock: SetClock) -> None:
    report = rebuild(wiring, clock)

    assert (report.entries, report.buckets) == (0, 0)


def test_whoever_looks_for_changed_counters_finds_the_rebuilt_ones(
    wiring: Wiring, clock: SetClock, traffic: Traffic
) -> None:
    traffic.ingest(4)
    rebuild(wiring, clock)

    changed = another_process(wiring).counters.changed_since(clock.now()).buckets

    assert {bucket.counter.customer for bucket in changed} == {"cus_0", "cus_1"}
    known = another_process(wiring).counters.known(DEMO)
    assert {listed.counter.customer for listed in known} == {"cus_0", "cus_1"}


def test_the_schedule_requests_and_advances(
    wiring: Wiring, clock: SetClock, traffic: Traffic
) -> None:
    traffic.ingest(4)
    told = {"tenant": "demo", "cut_at": "2026-11-20T12:06:30.000000Z"}

    asked = handler({"tenantId": "demo"}, None)
    assert asked == {"rebuilds": [told | {"state": "requested", "entries": 0, "buckets": 0}]}
    clock.advance(LEAD + SETTLE)
    assert handler({}, None) == {"rebuilds": [told | {"state": "done", "entries": 4, "buckets": 4}]}
    assert handler({}, None) == {"rebuilds": []}


# --- readers and sweepers around the switch -------------------------------------------------------


def test_a_reader_that_does_not_know_of_the_switch_yet_still_finds_the_old_counters(
    wiring: Wiring, clock: SetClock, traffic: Traffic
) -> None:
    """A writer that read a half-removed epoch would tell Stripe to take usage back."""
    traffic.ingest(4)
    traffic.aggregate()
    request(wiring)
    clock.advance(LEAD + SETTLE)
    unaware = another_process(wiring)
    assert unaware.epochs.of(DEMO).current == 1

    advance(wiring)
    another_process(wiring).lane_folder.run()

    customer = traffic.entries[0].event.customer
    seen = total(unaware.counters.usage(DEMO, customer, EVER).values())
    assert seen == true_usage(of_customer(traffic.entries, customer))


def test_what_arrives_after_the_switch_is_seen_by_a_reader_that_does_not_know_of_it_yet(
    wiring: Wiring, clock: SetClock, traffic: Traffic
) -> None:
    """Or a writer could see less than it has told Stripe, and take usage back."""
    traffic.ingest(4)
    traffic.aggregate()
    request(wiring)
    clock.advance(LEAD + SETTLE)
    unaware = another_process(wiring)
    assert unaware.epochs.of(DEMO).current == 1
    advance(wiring)

    traffic.ingest(3)
    traffic.aggregate(another_process(wiring))

    for customer in {entry.event.customer for entry in traffic.entries}:
        seen = total(unaware.counters.usage(DEMO, customer, EVER).values())
        assert seen == true_usage(of_customer(traffic.entries, customer))
    traffic.assert_exact()


# --- trouble --------------------------------------------------------------------------------------


@pytest.mark.parametrize("after_effect", [False, True])
def test_a_rebuild_killed_at_any_call_and_repeated_is_exact(
    wiring: Wiring, clock: SetClock, *, after_effect: bool
) -> None:
    deaths = Deaths(wiring.dynamodb, after_effect=after_effect)
    for world, mortal in enumerate(deaths):
        traffic = Traffic(wiring, clock, f"tenant-{world}")
        traffic.ingest(4)
        traffic.aggregate()
        traffic.spoil()
        request(wiring, traffic.tenant)
        clock.advance(LEAD + SECOND)
        traffic.ingest(3)
        traffic.aggregate()
        clock.advance(SETTLE)
        with dying():
            another_process(wiring, mortal.client).rebuilder.advance()
        traffic.ingest(2)
        traffic.aggregate()

        assert [report.state for report in advance(wiring)] in (["done"], [])

        traffic.assert_exact()
        traffic.aggregate(again=True)
        traffic.assert_exact()
    assert deaths.number >= len(["tenants", "epochs", "scan", "list", "recount", "mark", "switch"])


def test_what_a_killed_rebuild_stored_in_buckets_that_were_cut_anew_since_is_removed(
    wiring: Wiring, clock: SetClock, traffic: Traffic
) -> None:
    traffic.ingest(4)
    request(wiring)
    clock.advance(LEAD + SETTLE)
    mortal = FaultyClient(wiring.dynamodb)
    mortal.fail("put_item", KilledError(), at={1})
    with dying():
        another_process(wiring, mortal.client).rebuilder.advance()
    anchor = traffic.entries[0].event.occurred_at
    for customer in ("cus_0", "cus_1"):
        ref = CustomerRef(customer)
        wiring.settings_store.put_customer(a_subscriber(ref, anchor))

    assert [report.state for report in advance(wiring)] == ["done"]

    traffic.assert_exact()


@pytest.mark.parametrize("after_effect", [False, True])
def test_a_request_killed_at_any_call_may_be_repeated(
    wiring: Wiring, clock: SetClock, *, after_effect: bool
) -> None:
    for world, mortal in enumerate(Deaths(wiring.dynamodb, after_effect=after_effect)):
        tenant = TenantId(f"tenant-{world}")
        with dying():
            another_process(wiring, mortal.client).rebuilder.request(tenant)
        clock.advance(SECOND)

        report = request(wiring, tenant)

        assert report.state in {"requested", "settling"}
        assert report.cut_at <= clock.now() + LEAD
        assert request(wiring, tenant) == RebuildReport(tenant, "settling", report.cut_at)


def test_two_rebuilders_at_once_make_one_rebuild(wiring: Wiring, clock: SetClock) -> None:
    """The whole run of one at any moment of the other."""
    for call in range(1, CALLS_MAX):
        traffic = Traffic(wiring, clock, f"tenant-{call}")
        traffic.ingest(2)
        request(wiring, traffic.tenant)
        clock.advance(LEAD + SETTLE)
        faulty = FaultyClient(wiring.dynamodb)
        faulty.before(None, lambda: advance(wiring), at=call)

        another_process(wiring, faulty.client).rebuilder.advance()

        traffic.aggregate()
        traffic.assert_exact()
        if len(faulty.calls) < call:
            return
    raise AssertionError("never done")


def test_of_two_requests_at_once_one_opens_the_epoch(wiring: Wiring) -> None:
    faulty = FaultyClient(wiring.dynamodb)
    faulty.before("put_item", lambda: request(wiring), at=1)

    # So does a request whose own write is repeated because its answer was lost.
    report = another_process(wiring, faulty.client).rebuilder.request(DEMO)

    assert report == request(wiring)
    assert report.state == "settling"


@pytest.mark.parametrize("operation", ["batch_write_item", "batch_execute_statement"])
def test_a_recount_that_could_not_be_stored_is_not_switched_to(
    wiring: Wiring, clock: SetClock, traffic: Traffic, operation: str
) -> None:
    traffic.ingest(4)
    traffic.aggregate()
    request(wiring)
    clock.advance(LEAD + SETTLE)
    faulty = FaultyClient(wiring.dynamodb)
    faulty.fail(operation, throttled(), at={1})

    with pytest.raises(RetryableError):
        another_process(wiring, faulty.client).rebuilder.advance()
    traffic.assert_exact()
    assert [report.state for report in advance(wiring)] == ["done"]
    traffic.assert_exact()


def test_a_recount_of_which_dynamodb_took_only_some_is_not_switched_to(
    wiring: Wiring, clock: SetClock, traffic: Traffic
) -> None:
    traffic.ingest(4)
    request(wiring)
    clock.advance(LEAD + SETTLE)
    faulty = FaultyClient(wiring.dynamodb)
    faulty.around(
        "batch_write_item", lambda call, go: {"UnprocessedItems": call.request["RequestItems"]}
    )

    with pytest.raises(RetryableError, match="only some"):
        another_process(wiring, faulty.client).rebuilder.advance()
    assert [report.state for report in advance(wiring)] == ["done"]
    traffic.assert_exact()


def test_lanes_of_an_epoch_that_nobody_can_read_any_more_are_removed(
    wiring: Wiring, clock: SetClock, traffic: Traffic
) -> None:
    for _ in range(2):
        traffic.ingest(4)
        traffic.aggregate()
        rebuild(wiring, clock)
        traffic.ingest(4)
        traffic.aggregate()
    before = {stored.key.epoch for stored in lanes_of(wiring)}

    another_process(wiring).lane_folder.run()

    assert before == {1, 2, 3}
    assert {stored.key.epoch for stored in lanes_of(wiring)} == {2, 3}
    traffic.assert_exact()
