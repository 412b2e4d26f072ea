"""Which of Stripe's events matter, and what is read of them."""

from datetime import UTC, datetime
from typing import Any

import pytest
from stripe import StripeClient

from metering.notice import SNAPSHOT_TYPES, THIN_TYPES, Notice, NoticeKind, kind_of
from metering.stripe_event import NotAnEventError, read_event
from tests.builders import NOON
from tests.stripe_events import a_snapshot, a_thin_event, on_the_bus, text_of

ACCOUNT = "acct_1Connected"


def without(event: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in event.items() if key != name}


def test_a_snapshot_event_tells_whose_object_has_changed() -> None:
    event = a_snapshot("invoice.finalized", id="evt_1", account=ACCOUNT)

    assert read_event(event, NOON) == Notice(
        id="evt_1",
        kind=NoticeKind.INVOICE,
        type="invoice.finalized",
        object_id="in_1SVQ2DLkdIwHu7ixd4e5f6a7",
        customer="cus_ada",
        account=ACCOUNT,
        is_live=False,
        created_at=datetime(2026, 11, 20, 12, tzinfo=UTC),
        received_at=NOON,
    )


def test_a_thin_report_of_meter_errors_names_itself_as_what_is_to_be_read() -> None:
    event = a_thin_event(id="evt_2", context=ACCOUNT, livemode=True)

    assert read_event(event, NOON) == Notice(
        id="evt_2",
        kind=NoticeKind.METER_ERRORS,
        type="v1.billing.meter.error_report_triggered",
        object_id="evt_2",
        customer="",
        account=ACCOUNT,
        is_live=True,
        created_at=datetime(2026, 11, 20, 11, 59, 59, tzinfo=UTC),
        received_at=NOON,
    )


def test_a_report_of_events_without_a_meter_has_no_related_object() -> None:
    event = without(a_thin_event("v1.billing.meter.no_meter_found", id="evt_3"), "related_object")

    notice = read_event(event, NOON)

    assert notice is not None
    assert (notice.kind, notice.object_id) == (NoticeKind.METER_ERRORS, "evt_3")


@pytest.mark.parametrize(
    ("customer", "told"),
    [("cus_1", "cus_1"), ({"id": "cus_2", "object": "customer"}, "cus_2"), (None, ""), (7, "")],
)
def test_a_customer_may_be_an_id_an_object_or_nobody(customer: object, told: str) -> None:
    changed = {"id": "sub_1", "object": "subscription", "customer": customer}
    event = a_snapshot("customer.subscription.updated", data={"object": changed})

    notice = read_event(event, NOON)

    assert notice is not None
    assert (notice.kind, notice.object_id, notice.customer) == ("subscription", "sub_1", told)


@pytest.mark.parametrize("event_type", [*SNAPSHOT_TYPES, *THIN_TYPES])
def test_every_type_that_matters_is_one_that_the_sdk_knows(event_type: str) -> None:
    kind = kind_of(event_type)

    assert kind is not None
    if event_type in THIN_TYPES:
        client = StripeClient("sk_test_x")
        body = text_of(a_thin_event(event_type))
        known = client.parse_event_notification_without_verification(body)
        assert type(known).__name__ != "UnknownEventNotification"
    assert event_type.removeprefix("v1.").removeprefix("customer.").split(".")[0] in {
        "invoice",
        "subscription",
        "billing",
    }


@pytest.mark.parametrize(
    "event_type", ["invoice.upcoming", "customer.created", "charge.succeeded", "something.new"]
)
def test_an_event_of_another_type_matters_nothing(event_type: str) -> None:
    assert read_event(a_snapshot(event_type), NOON) is None
    assert read_event(a_thin_event(event_type), NOON) is None


@pytest.mark.parametrize(
    "body",
    [
        None,
        [],
        "evt_1",
        {},
        {"object": "invoice", "id": "in_1", "type": "invoice.created"},
        {"object": "event", "id": 7, "type": "invoice.created"},
        {"object": "event", "id": "evt_1"},
        on_the_bus(a_snapshot()),
    ],
)
def test_what_is_no_event_is_told_apart(body: object) -> None:
    with pytest.raises(NotAnEventError, match="'object'"):
        read_event(body, NOON)


@pytest.mark.parametrize("name", ["created", "livemode", "data"])
def test_a_snapshot_event_that_lacks_a_part_is_no_event(name: str) -> None:
    with pytest.raises(NotAnEventError, match=name):
        read_event(without(a_snapshot(), name), NOON)


@pytest.mark.parametrize("name", ["created", "livemode"])
def test_a_thin_event_that_lacks_a_part_is_no_event(name: str) -> None:
    with pytest.raises(NotAnEventError, match=name):
        read_event(without(a_thin_event(), name), NOON)


def test_a_thin_event_at_no_real_instant_is_no_event() -> None:
    with pytest.raises(NotAnEventError, match="created"):
        read_event(a_thin_event(created="yesterday"), NOON)


def test_a_thin_event_of_an_invoice_names_the_invoice() -> None:
    related = {"id": "in_7", "type": "invoice", "url": "/v1/invoices/in_7"}

    notice = read_event(a_thin_event("invoice.created", related_object=related), NOON)

    assert notice is not None
    assert (notice.kind, notice.object_id) == (NoticeKind.INVOICE, "in_7")
    with pytest.raises(NotAnEventError, match="related_object"):
        read_event(a_thin_event("invoice.created", related_object=None), NOON)


def test_an_event_of_our_own_account_names_none() -> None:
    snapshot = read_event(a_snapshot("invoice.finalized", id="evt_1"), NOON)
    thin = read_event(without(a_thin_event(id="evt_2"), "context"), NOON)

    assert snapshot is not None
    assert thin is not None
    assert (snapshot.account, thin.account) == ("", "")
