"""Meters: what can be made, what can be changed, and what an event name means."""

from typing import Any, cast

import pytest
import stripe
from stripe.billing import Meter

from tests.stripe_standin.description import CheckedClient


def a_meter(client: stripe.StripeClient, event_name: str, formula: str = "sum") -> Meter:
    return client.v1.billing.meters.create(
        {
            "display_name": event_name,
            "event_name": event_name,
            "default_aggregation": {"formula": formula},
        }
    )


def test_a_new_meter_is_active_and_maps_by_stripes_default_keys(meter: Meter) -> None:
    assert meter.id.startswith("mtr_test_")
    assert meter.status == "active"
    assert meter.customer_mapping.event_payload_key == "stripe_customer_id"
    assert meter.value_settings.event_payload_key == "value"
    assert meter.event_time_window is None


@pytest.mark.parametrize("formula", ["sum", "count", "last"])
def test_the_three_formulas_are_known(client: stripe.StripeClient, formula: str) -> None:
    assert a_meter(client, "calls", formula).default_aggregation.formula == formula


def test_a_maximum_is_no_formula(client: stripe.StripeClient, transport: CheckedClient) -> None:
    transport.lenient = True

    with pytest.raises(stripe.InvalidRequestError) as refused:
        a_meter(client, "calls", "max")

    assert refused.value.param == "default_aggregation[formula]"


def test_only_the_display_name_of_a_meter_changes(
    client: stripe.StripeClient, meter: Meter, transport: CheckedClient
) -> None:
    renamed = client.v1.billing.meters.update(meter.id, {"display_name": "Calls"})
    transport.lenient = True
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v1.billing.meters.update(meter.id, cast("Any", {"event_name": "other"}))

    assert renamed.display_name == "Calls"
    assert refused.value.code == "parameter_unknown"
    assert refused.value.param == "event_name"
    assert client.v1.billing.meters.retrieve(meter.id).event_name == "api_calls"


def test_two_active_meters_never_share_an_event_name(
    client: stripe.StripeClient, meter: Meter
) -> None:
    with pytest.raises(stripe.InvalidRequestError, match="already active") as refused:
        a_meter(client, meter.event_name)

    assert refused.value.param == "event_name"


def test_an_event_name_is_free_again_after_its_meter_was_deactivated(
    client: stripe.StripeClient, meter: Meter
) -> None:
    client.v1.billing.meters.deactivate(meter.id)

    second = a_meter(client, meter.event_name)

    assert second.id != meter.id
    with pytest.raises(stripe.InvalidRequestError, match="already active"):
        client.v1.billing.meters.reactivate(meter.id)


def test_a_meter_can_be_deactivated_and_reactivated(
    client: stripe.StripeClient, meter: Meter
) -> None:
    inactive = client.v1.billing.meters.deactivate(meter.id)
    active = client.v1.billing.meters.reactivate(meter.id)

    assert (inactive.status, active.status) == ("inactive", "active")
    assert inactive.status_transitions.deactivated_at == 1795176000
    assert active.status_transitions.deactivated_at is None


def test_meters_are_listed_by_status(client: stripe.StripeClient, meter: Meter) -> None:
    other = a_meter(client, "other")
    client.v1.billing.meters.deactivate(other.id)

    active = client.v1.billing.meters.list({"status": "active"})
    inactive = client.v1.billing.meters.list({"status": "inactive"})

    assert [one.id for one in active.data] == [meter.id]
    assert [one.id for one in inactive.data] == [other.id]


def test_an_unknown_meter_is_not_found(client: stripe.StripeClient, meter: Meter) -> None:
    with pytest.raises(stripe.InvalidRequestError, match="No such billing meter") as refused:
        client.v1.billing.meters.retrieve("mtr_nobody")

    assert refused.value.http_status == 404
    assert refused.value.code == "resource_missing"
