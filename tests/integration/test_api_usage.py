"""Current usage and history, over real counters."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from metering.counter import Aggregation
from metering.mapping import MetricSettings
from metering.names import Metric, TenantId
from metering.wiring import Wiring
from tests.api_client import Api, meter
from tests.builders import NOON, a_subscriber, an_entry
from tests.conftest import SetClock
from tests.integration.test_settings_table import a_mapping

DEMO = TenantId("demo")


@pytest.fixture
def api(wiring: Wiring) -> Api:
    return Api()


def current(api: Api, customer: str = "cus_A") -> dict[str, dict[str, object]]:
    answer = api.get("/v1/usage/current", tenantId="demo", customerRef=customer)
    assert answer.status == 200
    return {metric["name"]: metric for metric in answer.body["metrics"]}


def test_current_usage_is_the_calendar_months_with_all_digits(wiring: Wiring, api: Api) -> None:
    meter(
        wiring,
        [
            an_entry("12345678901234.123457"),
            an_entry("0.000000000001"),
            an_entry("1000", at=datetime(2026, 10, 31, 23, 59, tzinfo=UTC)),
            an_entry("7", customer="cus_B"),
        ],
    )

    answer = api.get("/v1/usage/current", tenantId="demo", customerRef="cus_A")

    assert answer.status == 200
    assert '"current":12345678901234.123457000001,' in answer.text
    assert answer.body == {
        "customerRef": "cus_A",
        "period": {"start": "2026-11-01T00:00:00.000Z", "end": "2026-12-01T00:00:00.000Z"},
        "metrics": [
            {
                "name": "api_calls",
                "current": Decimal("12345678901234.123457000001"),
                "unit": "unit",
                "aggregation": "sum",
                "mapped": False,
                "count": 2,
                "watermark": "2026-11-20T12:00:00.000Z",
                "lateHeld": {"count": 0, "value": 0},
            }
        ],
        "alerts": [],
        "freshness": {"watermark": "2026-11-20T12:00:00.000Z", "behindSeconds": 0},
    }


def test_a_customer_without_usage_has_no_metrics(api: Api) -> None:
    answer = api.get("/v1/usage/current", tenantId="demo", customerRef="nobody")

    assert answer.body["metrics"] == []
    assert answer.body["freshness"] == {"watermark": None, "behindSeconds": None}


def test_the_period_is_the_customers_own(wiring: Wiring, api: Api) -> None:
    anchor = datetime(2026, 3, 20, 11, 30, tzinfo=UTC)
    wiring.settings_store.put_customer(a_subscriber("cus_A", anchor))
    before = datetime(2026, 11, 20, 11, 29, 59, tzinfo=UTC)
    meter(wiring, [an_entry("5", at=before), an_entry("7", at=NOON)])

    answer = api.get("/v1/usage/current", tenantId="demo", customerRef="cus_A")

    assert answer.body["period"]["start"] == "2026-11-20T11:30:00.000Z"
    assert answer.body["metrics"][0]["current"] == 7


@pytest.mark.parametrize(
    ("aggregation", "expected"),
    [("sum", "16"), ("count", "3"), ("max", "9"), ("last", "2")],
)
def test_the_aggregation_is_the_mappings_else_the_metrics(
    wiring: Wiring, api: Api, aggregation: str, expected: str
) -> None:
    entries = [
        an_entry("5", at=NOON - timedelta(days=2)),
        an_entry("2", at=NOON),
        an_entry("9", at=NOON - timedelta(days=1)),
    ]
    meter(wiring, entries)
    wiring.settings_store.put_metric(
        DEMO, MetricSettings(Metric("api_calls"), Aggregation(aggregation), unit="call")
    )
    assert current(api)["api_calls"]["current"] == Decimal(expected)
    assert current(api)["api_calls"]["unit"] == "call"
    assert current(api)["api_calls"]["mapped"] is False

    wiring.settings_store.add_mapping(a_mapping(tenant=DEMO, aggregation=Aggregation.MAX))

    assert current(api)["api_calls"]["current"] == 9
    assert current(api)["api_calls"]["aggregation"] == "max"
    assert current(api)["api_calls"]["mapped"] is True


def test_late_events_are_shown_beside_the_total(wiring: Wiring, api: Api) -> None:
    late = NOON - timedelta(days=10)
    meter(wiring, [an_entry("1"), an_entry("40", at=late, is_late=True)])

    metric = current(api)["api_calls"]

    assert metric["current"] == 1
    assert metric["lateHeld"] == {"count": 1, "value": 40}


def test_freshness_says_how_far_behind_the_newest_event_is(
    wiring: Wiring, api: Api, clock: SetClock
) -> None:
    meter(wiring, [an_entry("1", at=NOON - timedelta(minutes=1), metric="a"), an_entry("1")])
    clock.advance(timedelta(seconds=90, milliseconds=250))

    answer = api.get("/v1/usage/current", tenantId="demo", customerRef="cus_A")

    assert answer.body["freshness"]["behindSeconds"] == Decimal("90.25")


# --- history --------------------------------------------------------------------------------------


def history(api: Api, **changes: str) -> list[tuple[str, Decimal]]:
    query = {
        "tenantId": "demo",
        "customerRef": "cus_A",
        "metric": "api_calls",
        "periodStart": "2026-10-01T00:00:00Z",
        "periodEnd": "2026-12-01T00:00:00Z",
    }
    answer = api.get("/v1/usage/history", **(query | changes))
    assert answer.status == 200, answer.text
    return [(value["ts"], value["value"]) for value in answer.body["usage"]]


def usage_over_time(wiring: Wiring) -> None:
    instants = {
        "1.5": datetime(2026, 10, 31, 23, 59, 59, tzinfo=UTC),
        "4": datetime(2026, 11, 1, 0, 0, tzinfo=UTC),
        "3": datetime(2026, 11, 1, 23, 0, tzinfo=UTC),
        "2": datetime(2026, 11, 20, 11, 0, tzinfo=UTC),
        "6": datetime(2026, 11, 20, 10, 0, tzinfo=UTC),
    }
    entries = [an_entry(number, at=at) for number, at in instants.items()]
    meter(wiring, [*entries, an_entry("99", metric="other")])


def test_history_by_day_and_by_month(wiring: Wiring, api: Api) -> None:
    usage_over_time(wiring)

    assert history(api, step="day") == [
        ("2026-10-31T00:00:00.000Z", Decimal("1.5")),
        ("2026-11-01T00:00:00.000Z", 7),
        ("2026-11-20T00:00:00.000Z", 8),
    ]
    assert history(api) == [
        ("2026-10-01T00:00:00.000Z", Decimal("1.5")),
        ("2026-11-01T00:00:00.000Z", 15),
    ]


def test_history_of_last_is_each_steps_own_last(wiring: Wiring, api: Api) -> None:
    usage_over_time(wiring)
    settings = MetricSettings(Metric("api_calls"), Aggregation.LAST)
    wiring.settings_store.put_metric(DEMO, settings)

    assert history(api, step="day") == [
        ("2026-10-31T00:00:00.000Z", Decimal("1.5")),
        ("2026-11-01T00:00:00.000Z", 3),
        ("2026-11-20T00:00:00.000Z", 2),
    ]


def test_a_day_that_is_cut_by_a_billing_period_is_one_day(wiring: Wiring, api: Api) -> None:
    anchor = datetime(2026, 3, 20, 10, 30, tzinfo=UTC)
    wiring.settings_store.put_customer(a_subscriber("cus_A", anchor))
    usage_over_time(wiring)

    assert history(api, step="day")[-1] == ("2026-11-20T00:00:00.000Z", Decimal(8))


def test_a_day_that_the_range_touches_is_taken_whole_and_the_end_left_out(
    wiring: Wiring, api: Api
) -> None:
    usage_over_time(wiring)
    days = {"step": "day", "periodStart": "2026-11-01T12:00:00Z"}

    assert history(api, **days, periodEnd="2026-11-20T00:00:00Z") == [
        ("2026-11-01T00:00:00.000Z", Decimal(7))
    ]
    assert len(history(api, **days, periodEnd="2026-11-20T00:00:01Z")) == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"step": "hour"}, "query.step"),
        ({"periodStart": "2026-11-01"}, "RFC 3339"),
        ({"periodEnd": "2026-09-01T00:00:00Z"}, "periodEnd must be after periodStart"),
        ({"periodStart": "2020-09-01T00:00:00Z"}, "three years"),
        ({"periodStart": "9999-12-30T00:00:00Z", "periodEnd": "9999-12-31T23:00:00Z"}, "beyond"),
        ({"customerRef": ""}, "query.customerRef"),
        ({"metric": "a\x00"}, "query.metric"),
    ],
)
def test_a_wrong_question_is_answered_with_what_is_wrong(
    api: Api, changes: dict[str, str], message: str
) -> None:
    query = {
        "tenantId": "demo",
        "customerRef": "cus_A",
        "metric": "api_calls",
        "periodStart": "2026-10-01T00:00:00Z",
        "periodEnd": "2026-12-01T00:00:00Z",
    }

    answer = api.get("/v1/usage/history", **(query | changes))

    assert answer.status == 400
    assert answer.body["error"] == "Validation Error"
    assert message in answer.body["message"]


def test_what_is_missing_is_named(api: Api) -> None:
    answer = api.get("/v1/usage/current", tenantId="demo")

    assert answer.status == 400
    assert answer.body["details"][0]["path"] == ["query", "customerRef"]


def test_a_customer_ref_may_hold_commas_and_other_signs(wiring: Wiring, api: Api) -> None:
    meter(wiring, [an_entry("3", customer="a, b & c/ü")])

    assert current(api, "a, b & c/ü")["api_calls"]["current"] == 3
