"""How requests are let in and read, and what every answer carries."""

import base64

import pytest
import stripe

from local.stripe.control import StandIn
from tests.stripe_standin.description import CheckedClient, refuse_undescribed
from tests.stripe_standin.raw import KEY, call, error_of


def basic(key: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{key}:".encode()).decode()}


@pytest.mark.parametrize(
    "headers", [{"Authorization": "Bearer rk_test_x"}, basic("sk_test_x"), basic("rk_test_x")]
)
def test_test_keys_are_let_in(stand_in: StandIn, headers: dict[str, str]) -> None:
    assert call(stand_in, "GET", "/v1/customers", headers=headers).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer sk_live_x"},
        {"Authorization": "Bearer pk_test_x"},
        {"Authorization": "Basic !!!"},
        basic("sk_live_x"),
    ],
)
def test_other_keys_and_none_are_unauthorized(stand_in: StandIn, headers: dict[str, str]) -> None:
    answer = call(stand_in, "GET", "/v1/customers", headers=headers)

    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="Stripe"'
    refuse_undescribed("/components/schemas/error", answer.json())


def test_a_live_key_is_never_repeated_whole(stand_in: StandIn) -> None:
    headers = {"Authorization": "Bearer sk_live_verysecret"}

    assert "verysecret" not in call(stand_in, "GET", "/v1/customers", headers=headers).text


def test_every_answer_names_its_request_and_version(
    client: stripe.StripeClient, transport: CheckedClient
) -> None:
    client.v1.customers.create({}, {"idempotency_key": "k1", "stripe_version": "2025-12-15.clover"})
    first = transport.headers
    client.v1.customers.list()

    assert first["Request-Id"].startswith("req_")
    assert first["Request-Id"] != transport.headers["Request-Id"]
    assert first["Stripe-Version"] == "2025-12-15.clover"
    assert transport.headers["Stripe-Version"] == "2026-10-28.endive"
    assert first["Idempotency-Key"] == "k1"


def test_connected_accounts_have_states_of_their_own(
    client: stripe.StripeClient, customer: stripe.Customer
) -> None:
    in_other: stripe.RequestOptions = {"stripe_account": "acct_other"}
    theirs = client.v1.customers.create({"name": "Eve"}, in_other)

    assert [one.id for one in client.v1.customers.list().data] == [customer.id]
    assert [one.id for one in client.v1.customers.list(None, in_other).data] == [theirs.id]


def test_an_account_that_is_none_is_refused(stand_in: StandIn) -> None:
    headers = KEY | {"Stripe-Account": "../x"}

    assert call(stand_in, "GET", "/v1/customers", headers=headers).status_code == 400


def test_an_unknown_path_says_so(stand_in: StandIn) -> None:
    answer = call(stand_in, "GET", "/v1/charges")

    assert answer.status_code == 404
    assert error_of(answer)["message"].startswith("Unrecognized request URL (GET: /v1/charges).")


def test_a_method_that_a_path_does_not_have_is_unknown(stand_in: StandIn) -> None:
    assert call(stand_in, "GET", "/v1/billing/meter_events").status_code == 404


# --- parameters ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "code", "param"),
    [
        ("name=x&colour=red", "parameter_unknown", "colour"),
        ("name=x&metadata=red", None, "metadata"),
        ("address[planet]=Mars", "parameter_unknown", "address[planet]"),
        ("balance=1.5", "parameter_invalid_integer", "balance"),
        ("email[x]=1", None, "email"),
        ("source=tok_1", "parameter_unknown", "source"),
        ("tax_exempt=sometimes", None, "tax_exempt"),
        ("metadata[" + "k" * 41 + "]=v", None, "metadata"),
        ("metadata[k]=" + "v" * 501, None, "metadata[k]"),
        ("name=" + "x" * 257, None, "name"),
        ("name=a&name[x]=b", None, "name[x]"),
        ("expand[]=sources", None, "expand"),
    ],
)
def test_wrong_parameters_are_refused_by_name(
    stand_in: StandIn, form: str, code: str | None, param: str
) -> None:
    answer = call(stand_in, "POST", "/v1/customers", form=form)

    assert answer.status_code == 400
    refuse_undescribed("/components/schemas/error", answer.json())
    error = error_of(answer)
    assert error["type"] == "invalid_request_error"
    assert (error.get("code"), error.get("param")) == (code, param)


@pytest.mark.parametrize(
    ("form", "param"),
    [
        ("event_name=a&display_name=a", "default_aggregation"),
        ("default_aggregation[formula]=sum&display_name=a", "event_name"),
        (
            "event_name=a&display_name=a&default_aggregation[formula]=sum&customer_mapping[type]=by_id",
            "customer_mapping[event_payload_key]",
        ),
    ],
)
def test_missing_parameters_are_named(stand_in: StandIn, form: str, param: str) -> None:
    error = error_of(call(stand_in, "POST", "/v1/billing/meters", form=form))

    assert (error["code"], error["param"]) == ("parameter_missing", param)


def test_an_empty_text_is_refused_where_nothing_can_be_unset(stand_in: StandIn) -> None:
    error = error_of(
        call(stand_in, "POST", "/v1/billing/meter_events", form="event_name=&payload[a]=b")
    )

    assert (error["code"], error["param"]) == ("parameter_invalid_empty", "event_name")


def test_lists_come_with_indexes_or_without(stand_in: StandIn) -> None:
    indexed = call(
        stand_in, "POST", "/v1/customers", form="preferred_locales[1]=fr&preferred_locales[0]=en"
    )
    plain = call(
        stand_in, "POST", "/v1/customers", form="preferred_locales[]=en&preferred_locales[]=fr"
    )

    assert indexed.json()["preferred_locales"] == ["en", "fr"]
    assert plain.json()["preferred_locales"] == ["en", "fr"]


def test_metadata_is_merged_and_emptied(
    client: stripe.StripeClient, customer: stripe.Customer
) -> None:
    update = client.v1.customers.update
    update(customer.id, {"metadata": {"plan": "a", "city": "x"}})

    merged = update(customer.id, {"metadata": {"plan": "b", "city": ""}})
    assert merged.metadata
    assert merged.metadata.to_dict() == {"plan": "b"}
    emptied = update(customer.id, {"metadata": ""})
    assert emptied.metadata is not None
    assert emptied.metadata.to_dict() == {}


def test_a_body_beyond_a_mebibyte_is_refused(stand_in: StandIn) -> None:
    answer = call(stand_in, "POST", "/v1/customers", form="description=" + "x" * 1_100_000)

    assert answer.status_code == 413


# --- lists ----------------------------------------------------------------------------------------


@pytest.fixture
def five(client: stripe.StripeClient) -> list[str]:
    """Five customers, newest first."""
    return [client.v1.customers.create({"name": str(n)}).id for n in range(5)][::-1]


def test_lists_are_paged_forward_and_back(client: stripe.StripeClient, five: list[str]) -> None:
    first = client.v1.customers.list({"limit": 2})
    second = client.v1.customers.list({"limit": 2, "starting_after": first.data[-1].id})
    last = client.v1.customers.list({"limit": 2, "starting_after": second.data[-1].id})
    back = client.v1.customers.list({"limit": 2, "ending_before": last.data[0].id})

    assert [one.id for one in first.data] == five[:2]
    assert [one.id for one in second.data] == five[2:4]
    assert [one.id for one in last.data] == five[4:]
    assert [one.id for one in back.data] == five[2:4]
    assert (first.has_more, second.has_more, last.has_more, back.has_more) == (
        True,
        True,
        False,
        True,
    )
    assert first.url == "/v1/customers"


def test_the_sdk_walks_a_whole_list(client: stripe.StripeClient, five: list[str]) -> None:
    found = client.v1.customers.list({"limit": 2}).auto_paging_iter()

    assert [one.id for one in found] == five


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("starting_after=cus_nobody", "starting_after"),
        ("starting_after=cus_a&ending_before=cus_b", "ending_before"),
    ],
)
def test_wrong_pages_are_refused(stand_in: StandIn, query: str, param: str) -> None:
    answer = call(stand_in, "GET", f"/v1/customers?{query}")

    assert answer.status_code == 400
    assert error_of(answer)["param"] == param
