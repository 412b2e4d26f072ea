"""What things cost is arithmetic over measured figures and list prices."""

import json
import random
from dataclasses import fields, replace
from decimal import Decimal
from pathlib import Path

import pytest
from typer.testing import CliRunner

from infra.cost.assumed import ASSUMED
from infra.cost.counting import Stream, counting
from infra.cost.duration import duration_ms, invocation_usd, vcpus
from infra.cost.measurement import STORED, Measurement, Taken
from infra.cost.month import Item, Workload, bill, recounted_a_run, syncs
from infra.cost.pages import page
from infra.cost.paths import REFERENCE, paths, stored_bytes, traced
from infra.cost.paths import Path as WayIn
from infra.cost.prices import PRICES, WRITE_UNIT
from infra.cost.sheet import BEGIN, END, Sheet, number, replaced, usd
from infra.cost.traffic import Spread
from infra.functions import INGEST, WRITER
from local.cli import main
from local.costs.command import amount

DOCS = Path(__file__).parents[2] / "docs"
STORED_FIGURES = Measurement.load()
MILLION = Decimal(1_000_000)
FIFTY = Workload(50 * MILLION, customers=2000, metrics=3)


def the(name: str) -> WayIn:
    return next(one for one in paths(STORED_FIGURES) if one.name == name)


def cost_of(workload: Workload, beginning: str) -> Decimal:
    items = bill(workload, STORED_FIGURES)
    return sum((one.usd for one in items if one.name.startswith(beginning)), Decimal(0))


# --- the targets ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "most"),
    [
        ("single, HTTP API", "2.30"),
        ("batch of 100", "0.75"),
        ("batch of 100, event index", "1.40"),
    ],
)
def test_a_million_events_cost_no_more_than_was_promised(path: str, most: str) -> None:
    assert the(path).target == Decimal(most)
    assert Decimal("0.6") < the(path).million <= Decimal(most)


def test_a_second_write_unit_an_event_would_miss_the_target() -> None:
    heavy = replace(STORED_FIGURES.batch, written=2 * STORED_FIGURES.batch.written)
    found = paths(replace(STORED_FIGURES, batch=heavy))

    batch = next(one for one in found if one.name == "batch of 100")
    assert batch.target is not None
    assert batch.million > batch.target


def test_single_events_that_are_traced_miss_their_target() -> None:
    default = replace(ASSUMED, traced_share=Decimal("0.05"), traced_a_second=Decimal(1))
    single = paths(STORED_FIGURES, default)[0]

    assert single.target is not None
    assert single.million > single.target


def test_with_tracing_single_events_in_quiet_traffic_are_all_traced() -> None:
    default = replace(ASSUMED, traced_share=Decimal("0.05"), traced_a_second=Decimal(1))

    assert traced(Decimal("0.2"), default) == 1
    assert traced(Decimal(10), default) == Decimal("0.145")


def test_each_line_says_which_figure_it_comes_from() -> None:
    for path in paths(STORED_FIGURES):
        assert all(line.comes_of for line in path.lines), path.name


def test_an_event_takes_one_write_unit_and_with_the_event_index_two() -> None:
    assert STORED_FIGURES.batch.each().written == 1
    assert STORED_FIGURES.single.written == 1
    assert STORED_FIGURES.batch_indexed.each().written == 2
    assert STORED_FIGURES.single_indexed.written == 2


# --- the parts of the arithmetic ------------------------------------------------------------------


def test_a_function_has_its_memorys_part_of_a_core_and_one_at_most() -> None:
    assert vcpus(INGEST) == Decimal(1024) / 1769
    assert vcpus(WRITER) == 1


def test_an_invocation_lasts_its_cpu_on_its_part_of_a_core_and_what_it_waits() -> None:
    lasts = duration_ms(INGEST, Decimal(1), ASSUMED, waits_ms=Decimal(5))

    assert lasts == Decimal(1769) / 1024 + 5


def test_a_millisecond_begun_is_paid_whole_and_cold_starts_by_their_share() -> None:
    none_cold = replace(ASSUMED, cold_share=Decimal(0))
    paid = invocation_usd(INGEST, Decimal("6.01"), none_cold)

    assert paid == Decimal("0.0000002") + Decimal("0.0000133334") * 7 / 1000
    cold = invocation_usd(INGEST, Decimal("6.01"), ASSUMED) - paid
    assert cold == Decimal("0.0000133334") * Decimal("0.5") / 1000


def test_counters_that_a_batch_touches_are_those_that_random_events_touch() -> None:
    spread = Spread(25)
    chosen = random.Random(5)
    shares = [float(share) for share, many in spread.shares for _ in range(many)]
    seen = [len(set(chosen.choices(range(25), shares, k=60))) for _ in range(2000)]

    assert float(spread.touched(Decimal(60))) == pytest.approx(sum(seen) / 2000, rel=0.01)


def test_counters_that_a_batch_touches_are_as_many_as_lanes_were_measured() -> None:
    for measured in (STORED_FIGURES.folded_60, STORED_FIGURES.folded_500):
        expected = Spread(25).touched(measured.of)
        assert float(measured.items) == pytest.approx(float(expected), rel=0.06)


def test_shares_of_all_customers_are_the_whole() -> None:
    for spread in (Spread(25), Spread(2000, 3), Spread(4), Spread(500, 2, even=True)):
        whole = sum(share * many for share, many in spread.shares)
        assert round(whole, 20) == 1
        assert sum(many for _, many in spread.shares) == spread.counters


def test_a_batch_is_what_the_window_brings_and_never_more_than_a_payload_holds() -> None:
    assert Stream(Decimal(100), 1, Spread(25)).batch == 501
    assert Stream(Decimal(100), 4, Spread(25)).batch == 126
    assert Stream(Decimal(0), 1, Spread(25)).batch == 1
    assert 7_000 < Stream(Decimal(50_000), 1, Spread(25)).batch < 7_500


def test_a_quiet_counter_costs_a_lane_for_almost_every_event() -> None:
    quiet = Stream(Decimal("0.01"), 1, Spread(25))

    found = counting(quiet, STORED_FIGURES, ASSUMED)

    assert Decimal("0.95") < found.lanes / WRITE_UNIT.each <= 1


def test_the_index_holds_each_entry_once_more() -> None:
    plain = stored_bytes(STORED_FIGURES, event_index=False)

    assert stored_bytes(STORED_FIGURES, event_index=True) > 2 * plain


# --- a month --------------------------------------------------------------------------------------


def test_a_month_is_the_events_their_paths_and_what_runs_beside_them() -> None:
    million = the("batch of 100")
    reference = replace(FIFTY, events=REFERENCE.events_per_s * 30 * 86_400, customers=25, metrics=1)

    events = cost_of(replace(reference, shards=1), "events:")
    counted = cost_of(replace(reference, shards=1), "counting:")

    per_million = (events + counted) / reference.events * MILLION
    assert float(per_million) == pytest.approx(float(million.million), rel=0.001)


def test_a_deployment_without_usage_costs_what_is_always_there() -> None:
    hardly = Workload(Decimal(1), customers=1)

    fixed = cost_of(hardly, "fixed:")
    everything = cost_of(hardly, "")
    assert Decimal(15) < fixed < Decimal(30)
    assert everything - fixed < 2


def test_more_events_of_everything_never_cost_less() -> None:
    bills = [cost_of(replace(FIFTY, events=many * MILLION), "") for many in (1, 10, 100, 1000)]

    assert bills == sorted(bills)


def test_the_event_index_adds_its_write_units_and_its_storage() -> None:
    indexed = replace(FIFTY, event_index=True)

    assert cost_of(indexed, "events: event index") == Decimal("31.25")
    assert cost_of(indexed, "kept: ledger") > 2 * cost_of(FIFTY, "kept: ledger")


def test_single_events_pay_the_door_and_requests_of_five_lie_between() -> None:
    single, five, hundred = (cost_of(replace(FIFTY, batch=one), "events:") for one in (1, 5, 100))

    assert hundred < five < single
    assert float(five - hundred) == pytest.approx(float(single - hundred) * 0.19 / 0.99, rel=1e-9)


def test_provisioned_capacity_is_cheaper_where_it_is_used() -> None:
    paid_by_hour = cost_of(replace(FIFTY, provisioned=True), "events: ledger")

    assert paid_by_hour < cost_of(FIFTY, "events: ledger") / 2


def test_the_writer_tells_each_changed_counter_once_a_run() -> None:
    one = Workload(50 * MILLION, customers=1)

    assert round(syncs(one, STORED_FIGURES).pushes) == 43_200
    assert round(syncs(replace(one, sync_s=3600), STORED_FIGURES).pushes) == 720


def test_the_writer_tells_no_more_than_a_run_can() -> None:
    many = syncs(Workload(100_000 * MILLION, customers=1_000_000, even=True), STORED_FIGURES)

    assert many.is_behind
    assert 3_000 < many.pushes / many.runs < 20_000


def test_the_reconciler_reads_all_events_so_far_of_counters_that_changed() -> None:
    indexed = Workload(MILLION, customers=1, event_index=True)
    assert recounted_a_run(indexed) == MILLION / 2
    assert recounted_a_run(replace(indexed, event_index=False)) == MILLION / 2
    kept = replace(indexed, event_index=False, kept_months=3)
    assert recounted_a_run(kept) == MILLION * 5 / 2


def test_a_reconciler_that_cannot_end_in_its_time_is_told() -> None:
    def said(workload: Workload) -> str:
        items: list[Item] = bill(workload, STORED_FIGURES)
        return next(one.comes_of for one in items if one.name == "comparing: reconciler's time")

    assert "TOO LONG" in said(replace(FIFTY, events=500 * MILLION))
    assert "TOO LONG" not in said(replace(FIFTY, events=MILLION))


# --- figures and documents ------------------------------------------------------------------------


def test_a_measurement_reads_back_as_it_was_written(tmp_path: Path) -> None:
    (tmp_path / "kept.toml").write_text(STORED_FIGURES.dump())

    assert Measurement.load(tmp_path / "kept.toml") == STORED_FIGURES
    assert all(getattr(STORED_FIGURES, one.name) for one in fields(Measurement))


def test_a_measurement_of_another_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "old.toml").write_text('at = "before"\n')

    with pytest.raises(TypeError, match="entry_bytes"):
        Measurement.load(tmp_path / "old.toml")


def test_what_a_run_took_beyond_an_idle_one_is_never_negative() -> None:
    idle = Taken(Decimal(1), Decimal(20), log_bytes=Decimal(300))
    busy = Taken(Decimal(10), Decimal(50), written=Decimal(40), log_bytes=Decimal(200))

    each = busy.beyond(idle).each()

    assert (each.cpu_ms, each.written, each.log_bytes) == (Decimal(3), Decimal(4), Decimal(0))


def test_every_price_names_its_unit_and_is_no_credit() -> None:
    assert len({one.unit for one in PRICES}) == len(PRICES)
    assert all(one.usd >= 0 for one in PRICES)


def test_the_document_holds_what_the_stored_figures_come_to() -> None:
    text = (DOCS / "cost.md").read_text()

    assert text == replaced(text, page(STORED_FIGURES)), "run `make scale ARGS=--write`"


def test_a_document_without_a_place_for_its_tables_is_refused() -> None:
    with pytest.raises(ValueError, match="computed: begin"):
        replaced("no place", [])


def test_a_table_is_a_section_and_stands_between_its_marks() -> None:
    sheet = Sheet("Sizes", ("of", "bytes"), (("event", "250"),))

    made = replaced(f"before\n{BEGIN}\nold\n{END}\nafter", [sheet])

    assert made.startswith("before\n")
    assert made.endswith("\nafter")
    assert "### Sizes" in made
    assert "| event | 250 |" in made
    assert "old" not in made


@pytest.mark.parametrize(
    ("value", "text"),
    [("0", "0"), ("1234.5", "$1,234.50"), ("0.625", "$0.625"), ("0.00421", "$0.0042")],
)
def test_dollars_are_shown_with_the_places_that_matter(value: str, text: str) -> None:
    assert usd(Decimal(value)) == text


@pytest.mark.parametrize(
    ("value", "text"), [("0", "0"), ("1234.5", "1,234"), ("12.54", "12.5"), ("0.0421", "0.042")]
)
def test_numbers_are_shown_with_the_places_that_matter(value: str, text: str) -> None:
    assert number(Decimal(value)) == text


# --- the command ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "events"), [("800k", 800_000), ("1.5m", 1_500_000), ("70", 70)])
def test_numbers_of_events_are_read_as_people_write_them(text: str, events: int) -> None:
    assert amount(text) == events


@pytest.mark.parametrize("text", ["", "x", "-5", "0", "1.2.3", "m"])
def test_what_is_no_number_of_events_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="50m"):
        amount(text)


def test_the_command_tells_programs_a_month_of_an_own_workload() -> None:
    flags = ["--events", "50m", "--batch", "100", "--customers", "2000", "--metrics", "3"]
    answer = CliRunner().invoke(
        main, ["cost", "--measured", str(STORED), "--event-index", "--json", *flags]
    )

    assert answer.exit_code == 0
    told = json.loads(answer.stdout)
    assert told["tables"][-1]["title"] == "A month of 50,000,000 events"
    assert told["tables"][-1]["rows"][-1][""] == "**sum**"


def test_the_command_ends_with_1_where_a_target_is_missed(tmp_path: Path) -> None:
    heavy = replace(STORED_FIGURES, single=replace(STORED_FIGURES.single, written=Decimal(2)))
    (tmp_path / "heavy.toml").write_text(heavy.dump())

    answer = CliRunner().invoke(main, ["cost", "--measured", str(tmp_path / "heavy.toml")])

    assert answer.exit_code == 1
    assert "MISSED" in answer.stdout


def test_the_command_refuses_a_number_that_is_none() -> None:
    answer = CliRunner().invoke(main, ["cost", "--measured", str(STORED), "--events", "lots"])

    assert answer.exit_code == 2
    assert "no number of events" in answer.output
