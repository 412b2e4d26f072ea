"""Mappings: made, read, changed and deleted, with the meter found through the price."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from metering.auth import Scope
from metering.errors import RetryableError
from metering.names import Metric, TenantId
from metering.ports import SetupError
from metering.wiring import Wiring
from tests.api_client import Answer, Api, api_of, meter
from tests.builders import NOON, an_entry
from tests.conftest import SetClock
from tests.fake_billing import FakeBilling, a_meter

ACME = TenantId("acme")
NEW = {"metric": "api_calls", "aggregation": "sum", "priceId": "price_1"}


@pytest.fixture
def billing(wiring: Wiring) -> FakeBilling:
    fake = FakeBilling()
    fake.meters["price_1"] = a_meter()
    wiring.billing = fake
    return fake


@pytest.fixture
def api(wiring: Wiring, billing: FakeBilling) -> Api:
    return api_of(wiring, "acme")


def added(api: Api, **changes: Any) -> dict[str, Any]:
    answer = api.post("/v1/mappings", NEW | changes)
    assert answer.status == 201, answer.text
    body: dict[str, Any] = answer.body
    return body


def refused(answer: Answer) -> str:
    assert answer.status == 400, answer.text
    assert answer.body["error"] == "Validation Error"
    message: str = answer.body["message"]
    return message


def test_a_price_is_enough_and_brings_its_meter(wiring: Wiring, api: Api) -> None:
    mapping = added(api)

    assert mapping == {
        "id": mapping["id"],
        "tenantId": "acme",
        "metric": "api_calls",
        "aggregation": "sum",
        "stripeAccount": "",
        "priceId": "price_1",
        "subscriptionItemId": "",
        "currency": "",
        "meterId": "mtr_1",
        "meterEventName": "event_of_mtr_1",
        "scale": 0,
        "active": True,
        "shadow": False,
        "shadowStripeAccount": "",
        "shadowPriceId": "",
        "shadowSubscriptionItemId": "",
        "meterWindow": "",
        "isLegacy": False,
        "shadowMeterId": "",
        "shadowMeterEventName": "",
        "shadowState": "off",
        "shadowSince": None,
        "createdAt": "2026-11-20T12:00:00.000Z",
        "updatedAt": "2026-11-20T12:00:00.000Z",
    }
    active = wiring.settings.active_mapping(ACME, Metric("api_calls"))
    assert active is not None
    assert active.id == mapping["id"]
    assert api.get(f"/v1/mappings/{mapping['id']}").body == mapping


def test_the_price_is_looked_up_in_its_own_account(api: Api, billing: FakeBilling) -> None:
    added(api, stripeAccount="acct_9")

    assert billing.asked == [("price_1", "acct_9")]


def test_a_meter_that_is_named_in_full_is_taken_without_asking_stripe(
    api: Api, billing: FakeBilling
) -> None:
    billing.trouble = RetryableError("Stripe is down")

    mapping = added(api, priceId="", meterId="mtr_7", meterEventName="calls", scale=3)

    assert (mapping["meterId"], mapping["meterEventName"]) == ("mtr_7", "calls")
    assert mapping["scale"] == 3


def test_all_fields_of_the_peer_are_kept(api: Api) -> None:
    fields = {
        "stripeAccount": "acct_1",
        "subscriptionItemId": "si_1",
        "currency": "eur",
        "shadow": True,
        "shadowStripeAccount": "acct_2",
        "shadowPriceId": "price_2",
        "shadowSubscriptionItemId": "si_2",
        "active": False,
    }

    assert added(api, **fields).items() >= fields.items()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"priceId": "prod_1"}, "priceId: must start with 'price_', got 'prod_1'"),
        ({"stripeAccount": "x"}, "stripeAccount: must start with 'acct_'"),
        ({"subscriptionItemId": "sub_1"}, "subscriptionItemId: must start with 'si_'"),
        ({"meterId": "m"}, "meterId: must start with 'mtr_'"),
        ({"shadowPriceId": "p"}, "shadowPriceId: must start with 'price_'"),
        ({"priceId": ""}, "priceId: Required (or both meterId and meterEventName)"),
        ({"priceId": "price_none"}, "priceId: no price price_none at Stripe"),
        ({"meterId": "mtr_9"}, "meterId: price_1 charges by mtr_1"),
        ({"meterEventName": "x"}, "meterEventName: price_1 charges by 'event_of_mtr_1'"),
        ({"aggregation": "last"}, "last needs a meter with the formula 'last'"),
        ({"aggregation": "median"}, "body.aggregation"),
        ({"metric": ""}, "body.metric"),
        ({"metric": "x" * 101}, "body.metric"),
        ({"metric": "a\nb"}, "body.metric"),
        ({"scale": -1}, "body.scale"),
        ({"scale": 13}, "body.scale"),
        ({"currency": "EURO"}, "body.currency"),
    ],
)
def test_a_wrong_mapping_is_refused_with_the_field_that_is_wrong(
    api: Api, changes: dict[str, Any], message: str
) -> None:
    assert message in refused(api.post("/v1/mappings", NEW | changes))
    assert api.get("/v1/mappings").body == []


def test_a_price_without_a_meter_is_refused(api: Api, billing: FakeBilling) -> None:
    billing.meters["price_old"] = None

    message = refused(api.post("/v1/mappings", NEW | {"priceId": "price_old"}))

    assert "it is a legacy metered price" in message
    assert "(1) Create a meter" in message


def test_an_inactive_meter_is_refused(api: Api, billing: FakeBilling) -> None:
    billing.meters["price_1"] = a_meter(active=False)

    assert "is inactive" in refused(api.post("/v1/mappings", NEW))


@pytest.mark.parametrize(
    "trouble", [RetryableError("Stripe cannot answer now"), SetupError("no key is configured")]
)
def test_without_stripe_the_answer_says_what_to_do(
    api: Api, billing: FakeBilling, trouble: Exception
) -> None:
    billing.trouble = trouble

    answer = api.post("/v1/mappings", NEW)

    assert answer.status == 502
    assert answer.body["error"] == "Bad Gateway"
    assert str(trouble) in answer.body["message"]
    assert "name the meter yourself" in answer.body["message"]


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ("{", "SyntaxError"),
        ("", "Validation Error"),
        ("[]", "Validation Error"),
        ("5", "Validation Error"),
        ("null", "Validation Error"),
        ("[" * 100_000, "SyntaxError"),
    ],
)
def test_a_body_that_is_no_object_is_refused(api: Api, body: str, error: str) -> None:
    answer = api.post("/v1/mappings", body)

    assert answer.status == 400, answer.text
    assert answer.body["error"] == error


def test_a_metric_has_one_active_mapping(api: Api) -> None:
    first = added(api)

    answer = api.post("/v1/mappings", NEW)

    assert answer.status == 409
    assert "has an active mapping already" in answer.body["message"]
    second = added(api, active=False)
    assert api.put(f"/v1/mappings/{second['id']}", {"active": True}).status == 409
    assert api.put(f"/v1/mappings/{first['id']}", {"active": False}).status == 200
    assert api.put(f"/v1/mappings/{second['id']}", {"active": True}).status == 200


def test_mappings_are_listed_oldest_first_and_filtered(wiring: Wiring, api: Api) -> None:
    one = added(api)["id"]
    two = added(api, metric="other", active=False)["id"]

    def listed(**query: object) -> list[str]:
        return [mapping["id"] for mapping in api.get("/v1/mappings", **query).body]

    assert sorted(listed()) == sorted([one, two])
    assert listed(active="true") == [one]
    assert listed(active="false") == [two]
    assert listed(metric="other") == [two]
    assert api_of(wiring, "third").get("/v1/mappings").body == []


# --- changing -------------------------------------------------------------------------------------


def test_a_change_leaves_the_rest_as_it_was(api: Api, billing: FakeBilling) -> None:
    mapping = added(api, currency="eur")
    billing.trouble = RetryableError("Stripe is not needed for this")

    changed = api.put(f"/v1/mappings/{mapping['id']}", {"scale": 2, "currency": "usd"})

    assert changed.status == 200
    assert changed.body == mapping | {"scale": 2, "currency": "usd"}
    assert api.get(f"/v1/mappings/{mapping['id']}").body == changed.body


def test_a_new_price_brings_its_own_meter(api: Api, billing: FakeBilling) -> None:
    billing.meters["price_2"] = a_meter("mtr_2")
    mapping = added(api)

    changed = api.put(f"/v1/mappings/{mapping['id']}", {"priceId": "price_2"})

    assert (changed.body["meterId"], changed.body["meterEventName"]) == ("mtr_2", "event_of_mtr_2")


def test_a_change_of_aggregation_is_checked_against_the_meter(api: Api) -> None:
    mapping = added(api)

    message = refused(api.put(f"/v1/mappings/{mapping['id']}", {"aggregation": "last"}))

    assert "needs a meter with the formula 'last'" in message
    assert api.get(f"/v1/mappings/{mapping['id']}").body == mapping


def test_a_meter_that_was_named_stays_named_through_a_change(
    api: Api, billing: FakeBilling
) -> None:
    billing.trouble = RetryableError("Stripe is down")
    mapping = added(api, priceId="", meterId="mtr_7", meterEventName="calls")

    changed = api.put(f"/v1/mappings/{mapping['id']}", {"meterEventName": "requests"})

    assert changed.body["meterId"] == "mtr_7"
    assert changed.body["meterEventName"] == "requests"


def test_an_unknown_mapping_is_not_found(api: Api) -> None:
    assert api.get("/v1/mappings/none").status == 404
    answer = api.put("/v1/mappings/none", {"active": False})
    assert answer.status == 404
    assert answer.body == {"error": "Not found", "message": "No mapping has the id none"}
    assert api.delete("/v1/mappings/none").status == 204


def test_a_deleted_mapping_is_gone(wiring: Wiring, api: Api) -> None:
    mapping = added(api)

    answer = api.delete(f"/v1/mappings/{mapping['id']}")

    assert (answer.status, answer.text) == (204, "")
    assert api.get(f"/v1/mappings/{mapping['id']}").status == 404
    assert wiring.settings.active_mapping(ACME, Metric("api_calls")) is None


def test_another_tenants_mapping_can_be_neither_seen_nor_touched(wiring: Wiring, api: Api) -> None:
    mapping = added(api)
    path = f"/v1/mappings/{mapping['id']}"
    other = api_of(wiring, "other")

    assert other.get(path).status == 404
    assert other.put(path, {"active": False}).status == 404
    assert other.delete(path).status == 204

    assert api.get(path).body == mapping


def test_mappings_need_their_scopes(wiring: Wiring, api: Api) -> None:
    reader = api_of(wiring, "acme", Scope.MAPPINGS_READ)

    assert reader.get("/v1/mappings").status == 200
    answer = reader.post("/v1/mappings", NEW)
    assert answer.status == 403
    assert answer.body == {"error": "Require one of: project:write,mappings:write"}
    assert api_of(wiring, "acme", Scope.MAPPINGS_WRITE).post("/v1/mappings", NEW).status == 201


# --- prices without a meter ----------------------------------------------------------------------


def test_the_way_out_of_a_legacy_price_can_be_asked_for(api: Api, billing: FakeBilling) -> None:
    billing.meters["price_old"] = None

    plan = api.get("/v1/mappings/legacy-plan", priceId="price_old")

    assert plan.status == 200, plan.text
    assert (plan.body["priceId"], plan.body["isLegacy"]) == ("price_old", True)
    assert len(plan.body["steps"]) == 6
    assert "product=prod_1" in plan.body["steps"][1]
    modern = api.get("/v1/mappings/legacy-plan", priceId="price_1").body
    assert modern == {"priceId": "price_1", "isLegacy": False, "steps": []}
    assert api.get("/v1/mappings/legacy-plan", priceId="price_9").status == 404
    assert api.get("/v1/mappings/legacy-plan", priceId="prod_1").status == 400
    assert api.get("/v1/mappings/legacy-plan").status == 400


def test_a_legacy_price_is_mapped_only_where_usage_records_are_on(
    wiring: Wiring, api: Api, billing: FakeBilling
) -> None:
    billing.meters["price_old"] = None
    assert api.post("/v1/mappings", NEW | {"priceId": "price_old"}).status == 400

    wiring.config = replace(wiring.config, legacy_usage_records=True)
    mapping = added(api, priceId="price_old")

    assert (mapping["isLegacy"], mapping["meterId"]) == (True, "")
    assert api.get(f"/v1/mappings/{mapping['id']}").body == mapping
    active = wiring.settings.active_mapping(ACME, Metric("api_calls"))
    assert active is not None
    assert active.is_legacy


def test_the_meters_window_is_kept(wiring: Wiring, api: Api, billing: FakeBilling) -> None:
    billing.meters["price_1"] = replace(a_meter(), window="hour")

    mapping = added(api)

    assert mapping["meterWindow"] == "hour"
    assert api.get(f"/v1/mappings/{mapping['id']}").body == mapping


# --- shadow --------------------------------------------------------------------------------------

SHADOWED = {"shadow": True, "shadowPriceId": "price_2"}


def test_a_shadows_meter_is_found_with_the_shadows_key(
    wiring: Wiring, api: Api, billing: FakeBilling
) -> None:
    shadow = FakeBilling()
    shadow.meters["price_2"] = a_meter("mtr_2")
    wiring.shadow_billing = shadow

    mapping = added(api, **SHADOWED, shadowStripeAccount="acct_2")

    assert mapping["shadowMeterId"] == "mtr_2"
    assert mapping["shadowMeterEventName"] == "event_of_mtr_2"
    assert shadow.asked == [("price_2", "acct_2")]
    assert api.get(f"/v1/mappings/{mapping['id']}").body == mapping
    off = api.put(f"/v1/mappings/{mapping['id']}", {"shadow": False}).body
    assert (off["shadowMeterId"], off["shadowMeterEventName"]) == ("", "")
    assert (off["shadowState"], off["shadowSince"]) == ("off", None)


def test_the_state_of_a_shadow_says_why_nothing_is_told(
    wiring: Wiring, api: Api, billing: FakeBilling, clock: SetClock
) -> None:
    first = added(api, **SHADOWED)
    assert (first["shadowState"], first["shadowSince"]) == ("no_key", None)

    shadow = FakeBilling()
    shadow.meters["price_2"] = a_meter("mtr_2")
    config = replace(wiring.config, stripe_shadow_secret_key="sk_test_x")
    wiring.shadow_billing, wiring.config = shadow, config
    del wiring.shadow_connection  # It was made without the key.
    path = f"/v1/mappings/{first['id']}"
    assert api.get(path).body["shadowState"] == "no_meter"

    clock.advance(timedelta(hours=1))
    saved = api.put(path, {"shadow": True}).body
    assert (saved["shadowState"], saved["shadowSince"]) == ("on", "2026-11-20T13:00:00.000Z")
    clock.advance(timedelta(hours=1))
    again = api.put(path, {"shadow": True, "scale": 1}).body
    assert again["shadowSince"] == "2026-11-20T13:00:00.000Z"
    assert [one["shadowState"] for one in api.get("/v1/mappings").body] == ["on"]


def test_without_a_shadow_key_the_mapping_is_kept_and_nothing_is_shadowed(
    wiring: Wiring, api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    mapping = added(api, **SHADOWED)

    assert (mapping["shadow"], mapping["shadowMeterId"]) == (True, "")
    assert wiring.shadow_billing is None
    assert "no STRIPE_SHADOW_SECRET_NAME (or _KEY) is set" in caplog.text


def test_a_live_key_for_the_shadow_is_refused(wiring: Wiring, api: Api) -> None:
    wiring.config = replace(wiring.config, stripe_shadow_secret_key="sk_live_x")

    answer = api.post("/v1/mappings", NEW | SHADOWED)

    assert answer.status == 502
    assert "a test key of Stripe's is needed" in answer.body["message"]


# --- values that only fit after scaling ----------------------------------------------------------


def test_a_scale_that_what_was_counted_does_not_fit_is_refused(wiring: Wiring, api: Api) -> None:
    october = NOON.replace(month=10)
    meter(wiring, [an_entry("12345", customer="ada", tenant="acme")])
    meter(wiring, [an_entry("999999", customer="bob", tenant="acme", at=october)])
    meter(wiring, [an_entry("99999999", customer="cyd", tenant="acme", metric="other")])

    message = refused(api.post("/v1/mappings", NEW | {"scale": 10}))

    # Of a customer without newer usage, its last period is what counts.
    assert message == (
        "scale: customer bob has used 999999 in its billing period, which at scale 10 has more than"
        " the 15 digits that Stripe takes; the greatest scale that fits is 9"
    )
    mapping = added(api, scale=9)
    worse = api.put(f"/v1/mappings/{mapping['id']}", {"scale": 11})
    assert "the greatest scale that fits is 9" in refused(worse)
    assert api.put(f"/v1/mappings/{mapping['id']}", {"scale": 2}).status == 200
