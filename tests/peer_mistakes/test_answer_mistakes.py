"""What the peer's API answers wrongly, as far as it concerns numbers; these have no W of their own.

They stand in the list of its defects of API and operation.
"""

from metering.counter import Aggregation
from metering.wiring import Wiring
from tests.api_client import api_of
from tests.books import Books
from tests.builders import DEMO, NOON, a_sent_event
from tests.peer_mistakes.pipeline import Pipeline
from tests.readers import ledger_of, send


def test_one_bad_event_of_1000_leaves_the_other_999(wiring: Wiring) -> None:
    """The peer refused all of them."""
    events = [a_sent_event() for _ in range(1000)]
    events[637]["quantity"] = -1

    answer = send(*events)

    assert (answer.status, answer.body["accepted"]) == (200, 999)
    assert len(ledger_of(wiring)) == 999


def test_the_index_of_an_error_is_the_events_own(wiring: Wiring) -> None:
    """The peer's was the number of the error."""
    answer = send(a_sent_event(), a_sent_event(quantity=0), a_sent_event(), a_sent_event(metric=""))

    assert [index for index, _ in answer.errors] == [1, 3]
    assert answer.statuses == ["accepted", "error", "accepted", "error"]


def test_a_tenant_may_be_called_demo(wiring: Wiring) -> None:
    """The peer's own documents call it that, and its server answered 500."""
    assert send(a_sent_event(tenantId="demo")).statuses == ["accepted"]


def test_a_second_mapping_of_a_metric_is_a_conflict_and_no_fault_of_the_server(
    pipeline: Pipeline,
) -> None:
    about = {"tenantId": DEMO, "metric": "api_calls", "aggregation": "sum"}
    meters = pipeline.world.stripe.v1.billing.meters.list()
    named = about | {"meterId": meters.data[0].id, "meterEventName": "api_calls"}

    answer = pipeline.api.post("/v1/mappings", named)

    assert (answer.status, answer.body["error"]) == (409, "Conflict")


def test_up_to_an_instant_means_at_or_before_it(pipeline: Pipeline) -> None:
    """Where the peer has a `to` it took it for `from`."""
    for key, hour in (("a", 9), ("b", 10), ("c", 11)):
        pipeline.send(1, idempotencyKey=key, ts=f"2026-11-20T{hour:02}:00:00Z")
    pipeline.deliver()
    api = pipeline.api

    found = api.get("/v1/events", tenantId=DEMO, endTime="2026-11-20T10:00:00Z", sortDir="asc")

    assert [one["id"] for one in found.body["events"]] == ["a", "b"]
    since = api.get("/v1/events", tenantId=DEMO, startTime="2026-11-20T10:00:00Z", sortDir="asc")
    assert [one["id"] for one in since.body["events"]] == ["b", "c"]


def test_the_history_of_last_values_is_3_and_then_2_and_not_2_twice(wiring: Wiring) -> None:
    """The peer gave every step the last value of the whole range."""
    books = Books(wiring)
    books.count_by(Aggregation.LAST)
    for quantity, day in (("4", 1), ("3", 1), ("6", 2), ("2", 2)):
        at = NOON.replace(day=day, hour=1 if quantity in "46" else 2)
        books.use(quantity, at=at, received_at=at)

    found = api_of(wiring, DEMO).get(
        "/v1/usage/history",
        customerRef="cus_A",
        metric="api_calls",
        periodStart="2026-11-01T00:00:00Z",
        periodEnd="2026-11-03T00:00:00Z",
        step="day",
    )

    assert [(one["ts"][:10], one["value"]) for one in found.body["usage"]] == [
        ("2026-11-01", 3),
        ("2026-11-02", 2),
    ]
