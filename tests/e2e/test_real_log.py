"""A real web server's log, where it lies beside the project, through the whole stack."""

import pytest

from local.access_log import read_log
from local.demo_events import deliveries, expectations, usage_events
from local.dynamodb_local import PROJECT
from metering.adapters.clock import SystemClock
from tests.e2e.shop import STATIONS, Shop

LOG = PROJECT.parent / "shared/data/access-log.jsonl.gz"
REQUESTS = 400

pytestmark = [
    pytest.mark.stack,
    pytest.mark.xdist_group("stack"),
    pytest.mark.skipif(not LOG.exists(), reason="no real access log lies beside the project"),
]


def test_a_real_log_sent_twice_over_both_doors_agrees_at_every_station(shop: Shop) -> None:
    events = usage_events(read_log(LOG)[:REQUESTS], shop.tenant, SystemClock().now())
    expected = expectations(events)
    for metric in expected:
        shop.maps(metric)
    shop.known_at_stripe(*expected["api_calls"].per_customer)
    for delivery in deliveries(events):
        if delivery.over_queue:
            shop.queues({"events": delivery.events})
        else:
            shop.sends(*delivery.events)
    shop.is_counted()
    shop.is_told()

    lines = shop.is_compared()

    shown = {of: {line[station] for station in STATIONS} for of, line in lines.items()}
    assert shown == {
        (metric, customer): {total}
        for metric, wanted in expected.items()
        for customer, total in wanted.per_customer.items()
    }
    assert {line["status"] for line in lines.values()} == {"ok"}
    assert shop.call("GET", "/v1/events", limit=1)["total"] == len(events)
