"""How far the design goes, by formulas; and what they say against what is lived through."""

from decimal import Decimal
from pathlib import Path

import pytest

from infra.cost.measurement import Measurement
from infra.cost.sheet import replaced
from infra.scale.drain import burst, depth, lived_through, outage, recovery_s
from infra.scale.ledger import Need
from infra.scale.limits import LIMITS, PARTITION_WRITES, SHARD_READS
from infra.scale.pages import RATES, page
from infra.scale.telling import Reading, Telling
from metering.keys import shard_of

DOCS = Path(__file__).parents[2] / "docs"
MEASURED = Measurement.load()
HOUR_S = Decimal(3600)


def need(rate: int) -> Need:
    return Need(Decimal(rate), MEASURED)


# --- backlogs -------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", RATES)
def test_a_shard_that_was_out_for_an_hour_recovers_as_the_formula_says(rate: Decimal) -> None:
    one = Need(rate, MEASURED)
    trouble = outage(one.stream.per_shard, HOUR_S)

    def seconds_of(records: int) -> Decimal:
        return max(one.seconds_of(Decimal(records)), records / SHARD_READS.value)

    waited, took_s = lived_through(trouble, 7_400, seconds_of)

    expected = recovery_s(trouble, one.takes)
    assert expected is not None
    assert waited == pytest.approx(float(depth(trouble, one.takes)), rel=0.001)
    assert float(took_s) == pytest.approx(float(expected), rel=0.03)


@pytest.mark.parametrize("rate", [10_000, 100_000])
def test_a_queue_recovers_from_a_burst_as_the_formula_says(rate: int) -> None:
    one = need(rate)
    takes = one.queue_takes(one.queue_at_once() + 5)
    trouble = burst(Decimal(rate), Decimal(600), Decimal(10))

    batch = 1000 * (one.queue_at_once() + 5)
    waited, took_s = lived_through(trouble, batch, lambda events: max(events, 1) / takes)

    expected = recovery_s(trouble, takes)
    assert expected is not None
    assert waited == pytest.approx(float(depth(trouble, takes)), rel=0.01)
    assert float(took_s) == pytest.approx(float(expected), rel=0.03)


def test_who_takes_no_more_than_comes_never_recovers() -> None:
    trouble = outage(Decimal(100), HOUR_S)

    assert recovery_s(trouble, Decimal(100)) is None
    assert recovery_s(trouble, Decimal(200)) == HOUR_S


def test_a_burst_below_what_is_taken_leaves_nothing_to_work_off() -> None:
    trouble = burst(Decimal(10), Decimal(60), Decimal(5))

    assert depth(trouble, Decimal(50)) == 0
    assert recovery_s(trouble, Decimal(50)) == 0


# --- the ledger and its shards --------------------------------------------------------------------


def test_a_customer_with_a_third_of_all_traffic_spreads_over_shards_like_all_others() -> None:
    """The ledger's key is the idempotency key; by customer, one shard would bear it all."""
    shards, events = 20, 20_000
    hot = events * 35 // 100
    customers = ["hot"] * hot + [f"cus_{one}" for one in range(events - hot)]
    by_key = [0] * shards
    by_customer = [0] * shards
    for position, customer in enumerate(customers):
        by_key[shard_of(f"event-{position}", shards)] += 1
        by_customer[shard_of(customer, shards)] += 1

    mean = events / shards
    assert max(by_key) < 1.15 * mean
    assert max(by_customer) > 7 * mean


@pytest.mark.parametrize("rate", RATES)
def test_no_partition_of_the_ledger_is_asked_for_more_than_it_takes(rate: Decimal) -> None:
    one = Need(rate, MEASURED)

    assert one.stream.per_shard <= PARTITION_WRITES.value
    assert one.hot_writes_behind <= PARTITION_WRITES.value


@pytest.mark.parametrize("rate", RATES)
def test_each_shards_aggregator_is_ahead_of_its_shard(rate: Decimal) -> None:
    one = Need(rate, MEASURED)

    assert one.busy < Decimal("0.5")
    assert one.takes > one.stream.per_shard


def test_a_lane_more_takes_a_part_of_a_call_of_cpu() -> None:
    few = need(10_000).seconds_of(Decimal(3_000))
    many = Need(Decimal(10_000), MEASURED, spread=need(1).spread.__class__(50, even=True))

    assert few > many.seconds_of(Decimal(3_000))


def test_ten_times_the_events_take_ten_times_the_ingest_functions() -> None:
    low, high = need(10_000), need(100_000)

    assert high.concurrency(MEASURED.batch) == 10 * low.concurrency(MEASURED.batch)


def test_marks_of_changed_counters_meet_their_limit_between_the_documents_rates() -> None:
    assert need(10_000).marks < need(10_000).marks_limit
    assert need(100_000).marks > need(100_000).marks_limit


def test_the_document_says_how_many_events_a_run_can_recount() -> None:
    most = need(1).recounts_at_most / 1_000_000

    assert f"some {most:.0f} million events" in (DOCS / "scale.md").read_text()


# --- Stripe ---------------------------------------------------------------------------------------


def test_the_writer_is_bound_by_its_threads_while_stripe_takes_its_time() -> None:
    writer = Telling(MEASURED)

    assert writer.a_second == writer.by_waiting == Decimal(16_000) / 150
    assert writer.by_cpu > writer.by_waiting


def test_with_many_threads_it_is_bound_by_its_core() -> None:
    writer = Telling(MEASURED, threads=500)

    assert writer.a_second == writer.by_cpu


def test_a_minute_is_the_shortest_round_of_the_writer() -> None:
    assert Telling(MEASURED).round_s(Decimal(10)) == 60


def test_more_counters_than_a_writer_can_tell_in_time_take_more_writers() -> None:
    writer = Telling(MEASURED, threads=64)

    assert writer.writers(Decimal(10_000), Decimal(2700)) == 1
    assert writer.writers(Decimal(10_000_000), Decimal(2700)) > 10


def test_every_customers_invoice_grants_more_reads_than_a_month_of_its_row_takes() -> None:
    for customers in (100_000, 10_000_000):
        reading = Reading(Decimal(customers))
        assert reading.wanted < reading.granted


def test_stripes_least_ration_is_not_enough_for_a_thousand_rows_a_day() -> None:
    reading = Reading(Decimal(5))

    assert reading.granted == 10_000
    assert reading.a_day == Decimal(10_000) / 30


# --- the document ---------------------------------------------------------------------------------


def test_the_document_holds_what_the_script_computes() -> None:
    text = (DOCS / "scale.md").read_text()

    assert text == replaced(text, page(MEASURED)), "run `make scale ARGS=--write`"


def test_every_limit_says_whose_it_is_and_who_can_raise_it() -> None:
    assert all(one.name and one.raised and one.unit and one.value > 0 for one in LIMITS)
