"""Invoices: drafts at a cycle's end, late usage, finalization, and the ends of subscriptions."""

from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import pytest
import stripe

from local.stripe.clock import SettableClock
from local.stripe.control import StandIn
from local.stripe.server import running
from tests.stripe_standin.bills import Bills, amounts, at, instant, quantities, text_of
from tests.stripe_standin.conftest import NOON

END = "2026-12-20 12:00:00"


@pytest.fixture
def bills(client: stripe.StripeClient) -> Bills:
    return Bills(client)


# --- the draft and its grace ----------------------------------------------------------------------


def test_a_subscriptions_first_invoice_is_final_at_once(bills: Bills) -> None:
    made = bills.subscribe()

    [first] = bills.invoices()
    assert (first.billing_reason, first.status, first.total) == ("subscription_create", "paid", 0)
    assert first.status_transitions.finalized_at == first.created == made.created
    assert made.latest_invoice == first.id


def test_a_cycles_end_brings_a_draft_that_waits_for_an_hour(
    bills: Bills, stand_in: StandIn
) -> None:
    made = bills.subscribe()
    bills.use("7", "2026-11-20 12:00:00")
    stand_in.stand_at(instant(END))
    draft = bills.cycle()

    assert (draft.status, draft.auto_advance) == ("draft", True)
    assert text_of(draft.created) == END
    assert (text_of(draft.period_start), text_of(draft.period_end)) == ("2026-11-20 12:00:00", END)
    assert text_of(draft.automatically_finalizes_at) == "2026-12-20 13:00:00"
    assert draft.parent
    assert draft.parent.subscription_details
    assert draft.parent.subscription_details.subscription == made.id
    assert bills.client.v1.subscriptions.retrieve(made.id).latest_invoice == draft.id


def test_a_line_says_what_was_used_of_which_price_and_when(bills: Bills, stand_in: StandIn) -> None:
    price = bills.price(unit_amount=3)
    made = bills.subscribe(price)
    bills.use("7", "2026-11-20 12:00:00")
    stand_in.stand_at(instant(END))
    [line] = bills.cycle().lines.data

    assert (line.quantity, line.quantity_decimal, line.amount) == (7, Decimal(7), 21)
    assert (text_of(line.period.start), text_of(line.period.end)) == ("2026-11-20 12:00:00", END)
    assert line.pricing
    assert line.pricing.price_details
    assert line.pricing.price_details.price == price
    assert line.parent
    assert line.parent.subscription_item_details
    item = made["items"].data[0].id
    assert line.parent.subscription_item_details.subscription_item == item


def test_an_invoice_is_paid_when_its_time_has_come(bills: Bills, stand_in: StandIn) -> None:
    bills.subscribe()
    bills.use("7", "2026-11-20 12:00:00")
    stand_in.stand_at(instant("2026-12-20 12:59:59"))
    before = bills.cycle().status
    stand_in.stand_at(instant("2026-12-20 13:00:00"))
    after = bills.cycle()

    assert before == "draft"
    assert (after.status, after.amount_paid, after.amount_remaining) == ("paid", 7, 0)
    assert text_of(after.status_transitions.finalized_at) == "2026-12-20 13:00:00"
    assert text_of(after.status_transitions.paid_at) == "2026-12-20 13:00:00"
    assert after.automatically_finalizes_at is None
    assert after.number


def test_a_long_leap_finalizes_each_invoice_at_its_own_time(
    bills: Bills, stand_in: StandIn
) -> None:
    bills.subscribe()
    stand_in.stand_at(instant("2027-03-01 00:00:00"))
    cycles = bills.invoices("subscription_cycle")

    assert [text_of(one.status_transitions.finalized_at) for one in cycles] == [
        "2026-12-20 13:00:00",
        "2027-01-20 13:00:00",
        "2027-02-20 13:00:00",
    ]


def test_the_grace_is_a_setting(bills: Bills, stand_in: StandIn) -> None:
    stand_in.set(invoice_grace_s=72 * 3600)
    bills.subscribe()
    stand_in.stand_at(instant(END))

    assert text_of(bills.cycle().automatically_finalizes_at) == "2026-12-23 12:00:00"


# --- late usage -----------------------------------------------------------------------------------


def test_usage_of_the_closed_period_joins_the_draft_until_it_is_final(
    bills: Bills, stand_in: StandIn
) -> None:
    bills.subscribe()
    bills.use("7", "2026-11-20 12:00:00")
    stand_in.stand_at(instant(END))
    before = quantities(bills.cycle())
    bills.use("5", "2026-12-20 11:59:59")
    unseen = quantities(bills.cycle())
    stand_in.stand_at(instant("2026-12-20 12:01:00"))
    seen = quantities(bills.cycle())

    assert (before, unseen, seen) == (["7"], ["7"], ["12"])


def test_usage_after_the_periods_end_belongs_to_the_next_invoice(
    bills: Bills, stand_in: StandIn
) -> None:
    bills.subscribe()
    stand_in.stand_at(instant(END))
    bills.use("5", "2026-12-20 11:59:59")
    bills.use("9", "2026-12-20 12:00:00")
    stand_in.stand_at(instant("2027-01-20 14:00:00"))

    assert [quantities(one) for one in bills.invoices("subscription_cycle")] == [["5"], ["9"]]


def test_usage_that_is_not_aggregated_when_the_invoice_becomes_final_is_not_on_it(
    bills: Bills, stand_in: StandIn
) -> None:
    bills.subscribe()
    stand_in.stand_at(instant("2026-12-20 12:59:01"))
    bills.use("5", "2026-12-20 11:00:00")
    stand_in.stand_at(instant("2026-12-20 14:00:00"))

    assert quantities(bills.cycle()) == ["0"]


def test_usage_of_a_finalized_period_is_accepted_and_billed_by_nobody(
    bills: Bills, stand_in: StandIn
) -> None:
    bills.subscribe()
    bills.use("7", "2026-11-20 12:00:00")
    stand_in.stand_at(instant("2026-12-20 13:00:00"))
    bills.use("100", "2026-12-20 11:59:00")
    stand_in.settle()
    shown = bills.client.v1.billing.meters.event_summaries.list(
        bills.meter,
        {
            "customer": bills.customer,
            "start_time": at("2026-11-20 12:00:00"),
            "end_time": at(END),
        },
    )
    stand_in.stand_at(instant("2027-01-20 14:00:00"))

    assert [one.aggregated_value for one in shown.data] == [107.0]
    assert [quantities(one) for one in bills.invoices("subscription_cycle")] == [["7"], ["0"]]


# --- holding and finalizing by hand ---------------------------------------------------------------


def test_a_held_draft_stays_one_and_takes_usage(bills: Bills, stand_in: StandIn) -> None:
    bills.subscribe()
    stand_in.stand_at(instant(END))
    draft = bills.cycle()
    held = bills.client.v1.invoices.update(draft.id, {"auto_advance": False})
    stand_in.stand_at(instant("2026-12-25 00:00:00"))
    bills.use("5", "2026-12-20 11:00:00")
    stand_in.settle()
    later = bills.client.v1.invoices.retrieve(draft.id)

    assert (held.auto_advance, held.automatically_finalizes_at) == (False, None)
    assert (later.status, quantities(later)) == ("draft", ["5"])


def test_a_held_draft_finalized_by_hand_is_open_until_it_is_paid(
    bills: Bills, stand_in: StandIn
) -> None:
    bills.subscribe()
    bills.use("5", "2026-11-20 12:00:00")
    stand_in.stand_at(instant(END))
    draft = bills.client.v1.invoices.update(bills.cycle().id, {"auto_advance": False})
    final = bills.client.v1.invoices.finalize_invoice(draft.id)
    paid = bills.client.v1.invoices.pay(draft.id)

    assert (final.status, final.amount_due, final.amount_remaining) == ("open", 5, 5)
    assert (paid.status, paid.amount_remaining) == ("paid", 0)


def test_a_draft_released_before_its_time_is_finalized_at_its_time(
    bills: Bills, stand_in: StandIn
) -> None:
    bills.subscribe()
    stand_in.stand_at(instant(END))
    invoices, draft = bills.client.v1.invoices, bills.cycle().id
    invoices.update(draft, {"auto_advance": False})
    released = invoices.update(draft, {"auto_advance": True})

    assert text_of(released.automatically_finalizes_at) == "2026-12-20 13:00:00"


def test_a_draft_released_after_its_time_is_finalized_at_once(
    bills: Bills, stand_in: StandIn
) -> None:
    bills.subscribe()
    stand_in.stand_at(instant(END))
    invoices, draft = bills.client.v1.invoices, bills.cycle().id
    invoices.update(draft, {"auto_advance": False})
    stand_in.stand_at(instant("2026-12-22 00:00:00"))
    invoices.update(draft, {"auto_advance": True})
    final = invoices.retrieve(draft)

    assert final.status == "paid"
    assert text_of(final.status_transitions.finalized_at) == "2026-12-22 00:00:00"


def test_finalizing_by_hand_freezes_the_usage(bills: Bills, stand_in: StandIn) -> None:
    bills.subscribe()
    bills.use("7", "2026-11-20 12:00:00")
    stand_in.stand_at(instant(END))
    bills.client.v1.invoices.finalize_invoice(bills.cycle().id)
    bills.use("5", "2026-12-20 11:00:00")
    stand_in.settle()

    assert quantities(bills.cycle()) == ["7"]
    with pytest.raises(stripe.InvalidRequestError, match="it is paid, not draft"):
        bills.client.v1.invoices.finalize_invoice(bills.cycle().id)


def test_an_invoice_that_is_sent_stays_open_until_it_is_paid_or_voided(
    bills: Bills, stand_in: StandIn
) -> None:
    bills.subscribe(collection_method="send_invoice", days_until_due=14)
    bills.use("7", "2026-11-20 12:00:00")
    bills.use("7", "2026-11-20 12:00:01")
    stand_in.stand_at(instant("2026-12-20 13:00:00"))
    sent = bills.cycle()
    voided = bills.client.v1.invoices.void_invoice(sent.id)

    assert (sent.status, sent.amount_due) == ("open", 14)
    assert text_of(sent.due_date) == "2027-01-03 13:00:00"
    assert (voided.status, text_of(voided.status_transitions.voided_at)) == (
        "void",
        "2026-12-20 13:00:00",
    )
    with pytest.raises(stripe.InvalidRequestError, match="it is void, not open"):
        bills.client.v1.invoices.pay(sent.id)


def test_a_final_invoice_keeps_its_terms(bills: Bills) -> None:
    bills.subscribe()
    [first] = bills.invoices()

    with pytest.raises(stripe.InvalidRequestError) as refused:
        bills.client.v1.invoices.update(first.id, {"collection_method": "send_invoice"})
    noted = bills.client.v1.invoices.update(first.id, {"metadata": {"seen": "yes"}})

    assert refused.value.code == "invoice_not_editable"
    assert noted.metadata
    assert noted.metadata.to_dict() == {"seen": "yes"}


def test_releasing_an_open_invoice_collects_it(bills: Bills, stand_in: StandIn) -> None:
    bills.subscribe()
    bills.use("5", "2026-11-20 12:00:00")
    stand_in.stand_at(instant(END))
    invoices, draft = bills.client.v1.invoices, bills.cycle().id
    opened = invoices.finalize_invoice(draft, {"auto_advance": False})
    collected = invoices.update(draft, {"auto_advance": True})

    assert (opened.status, opened.auto_advance) == ("open", False)
    assert (collected.status, collected.amount_paid) == ("paid", 5)


def test_a_draft_that_is_paid_is_final_first(bills: Bills, stand_in: StandIn) -> None:
    bills.subscribe(collection_method="send_invoice")
    bills.use("5", "2026-11-20 12:00:00")
    stand_in.stand_at(instant(END))
    paid = bills.client.v1.invoices.pay(bills.cycle().id)

    assert (paid.status, paid.amount_paid) == ("paid", 5)
    assert paid.status_transitions.finalized_at == at(END)


def test_the_time_of_finalization_can_be_chosen(bills: Bills, stand_in: StandIn) -> None:
    bills.subscribe()
    stand_in.stand_at(instant(END))
    invoices, draft = bills.client.v1.invoices, bills.cycle().id
    with pytest.raises(stripe.InvalidRequestError, match="must be in the future"):
        invoices.update(draft, {"automatically_finalizes_at": at(END)})
    invoices.update(draft, {"automatically_finalizes_at": at("2026-12-23 12:00:00")})
    stand_in.stand_at(instant("2026-12-24 00:00:00"))
    final = invoices.retrieve(draft)

    assert text_of(final.status_transitions.finalized_at) == "2026-12-23 12:00:00"


def test_final_invoices_are_numbered_in_a_row(bills: Bills, stand_in: StandIn) -> None:
    bills.subscribe()
    stand_in.stand_at(instant("2027-01-20 13:00:00"))
    numbers = [str(one.number)[-5:] for one in bills.invoices()]

    assert numbers == ["-0001", "-0002", "-0003"]


# --- reading --------------------------------------------------------------------------------------


def test_invoices_are_listed_by_customer_subscription_and_status(
    bills: Bills, stand_in: StandIn, client: stripe.StripeClient
) -> None:
    other = Bills(client)
    made, foreign = bills.subscribe(), other.subscribe()
    stand_in.stand_at(instant(END))

    def found(**params: str) -> int:
        wanted = cast("Any", {"limit": 100, **params})
        return len(client.v1.invoices.list(wanted).data)

    assert found() == 4
    assert found(customer=bills.customer) == 2
    assert found(subscription=foreign.id) == 2
    assert found(subscription=made.id, status="draft") == 1
    assert found(status="paid") == 2


def test_a_lines_price_can_be_expanded(bills: Bills, stand_in: StandIn) -> None:
    made = bills.subscribe(bills.price(unit_amount=3))
    stand_in.stand_at(instant(END))
    found = bills.client.v1.invoices.retrieve(
        bills.cycle().id,
        {
            "expand": [
                "customer",
                "lines.data.pricing.price_details.price",
                "parent.subscription_details.subscription",
            ]
        },
    )

    pricing = found.lines.data[0].pricing
    assert pricing
    assert pricing.price_details
    assert isinstance(pricing.price_details.price, stripe.Price)
    assert pricing.price_details.price.unit_amount == 3
    assert isinstance(found.customer, stripe.Customer)
    assert found.parent
    assert found.parent.subscription_details
    assert isinstance(found.parent.subscription_details.subscription, stripe.Subscription)
    assert found.parent.subscription_details.subscription.id == made.id


def test_an_invoices_lines_are_paged(bills: Bills, client: stripe.StripeClient) -> None:
    invoice = client.v1.invoices.create({"customer": bills.customer})
    for amount in range(12):
        client.v1.invoice_items.create(
            {"customer": bills.customer, "invoice": invoice.id, "amount": amount, "currency": "usd"}
        )
    whole = client.v1.invoices.retrieve(invoice.id)
    rest = client.v1.invoices.line_items.list(
        invoice.id, {"starting_after": whole.lines.data[-1].id}
    )

    assert (len(whole.lines.data), whole.lines.has_more, whole.total) == (10, True, 66)
    assert [line.amount for line in rest.data] == [10, 11]


def test_control_calls_show_invoices_whole(bills: Bills, stand_in: StandIn) -> None:
    bills.subscribe()
    bills.use("7", "2026-11-20 12:00:00")
    stand_in.stand_at(instant(END))
    first, draft = stand_in.invoices(bills.customer)

    assert (first["billing_reason"], draft["status"]) == ("subscription_create", "draft")
    assert [line["quantity_decimal"] for line in draft["lines"]] == ["7"]


def test_a_subscription_shows_its_latest_invoice_whole_on_demand(
    bills: Bills, stand_in: StandIn
) -> None:
    made = bills.subscribe()
    bills.use("7", "2026-11-20 12:00:00")
    stand_in.stand_at(instant(END))
    found = bills.client.v1.subscriptions.retrieve(made.id, {"expand": ["latest_invoice"]})

    assert isinstance(found.latest_invoice, stripe.Invoice)
    assert quantities(found.latest_invoice) == ["7"]


def test_each_step_of_an_invoice_is_an_event(bills: Bills, stand_in: StandIn) -> None:
    bills.subscribe()
    stand_in.stand_at(instant("2026-12-20 13:00:00"))
    told = bills.client.v1.events.list({"limit": 100}).data
    invoice = bills.cycle().id
    steps = [
        (one.type, text_of(one.created))
        for one in reversed(told)
        if one.data.object["id"] == invoice
    ]

    assert steps == [
        ("invoice.created", END),
        ("invoice.finalized", "2026-12-20 13:00:00"),
        ("invoice.paid", "2026-12-20 13:00:00"),
    ]


# --- licensed items, trials, backdating -----------------------------------------------------------


def test_licensed_items_are_billed_in_advance_and_metered_ones_afterwards(
    bills: Bills, stand_in: StandIn
) -> None:
    bills.subscribe(items=[{"price": bills.price()}, {"price": bills.seats(900), "quantity": 3}])
    bills.use("7", "2026-11-20 12:00:00")
    stand_in.stand_at(instant(END))
    first, draft = bills.invoices()

    assert (amounts(first), first.total) == ([2700], 2700)
    assert (amounts(draft), draft.total) == ([7, 2700], 2707)
    seats = draft.lines.data[1].period
    assert (text_of(seats.start), text_of(seats.end)) == (END, "2027-01-20 12:00:00")


def test_a_short_first_period_costs_its_part(bills: Bills) -> None:
    bills.subscribe(bills.seats(3000), billing_cycle_anchor=at("2026-12-05 12:00:00"))
    [first] = bills.invoices()

    # 15 of the 30 days between 5 November and 5 December.
    assert amounts(first) == [1500]


def test_usage_in_a_trial_costs_nothing(bills: Bills, stand_in: StandIn) -> None:
    bills.subscribe(bills.price(), bills.seats(900), trial_period_days=7)
    bills.use("7", "2026-11-20 12:00:00")
    stand_in.stand_at(instant("2026-11-27 12:00:00"))
    bills.use("4", "2026-11-27 12:00:00")
    first, after = bills.invoices()
    stand_in.stand_at(instant("2026-12-27 13:00:00"))

    assert (amounts(first), amounts(after)) == ([0], [900])
    assert amounts(bills.cycle()) == [4, 900]


@pytest.mark.parametrize(
    ("mode", "first", "cycle"), [("flexible", ["7"], ["2"]), ("classic", [], ["9"])]
)
def test_usage_before_a_backdated_subscription_is_billed_first_or_with_the_cycle(
    bills: Bills, stand_in: StandIn, mode: str, first: list[str], cycle: list[str]
) -> None:
    bills.use("100", "2026-11-09 00:00:00")
    bills.use("7", "2026-11-15 00:00:00")
    stand_in.settle()
    bills.subscribe(
        billing_mode={"type": mode},
        backdate_start_date=at("2026-11-10 00:00:00"),
        billing_cycle_anchor=at("2026-12-01 00:00:00"),
    )
    bills.use("2", "2026-11-20 12:00:00")
    stand_in.stand_at(instant("2026-12-01 02:00:00"))

    assert [quantities(one) for one in bills.invoices()] == [first, cycle]


# --- ends -----------------------------------------------------------------------------------------


def test_a_subscription_that_ends_with_its_period_gets_a_last_draft(
    bills: Bills, stand_in: StandIn
) -> None:
    made = bills.subscribe(bills.price(), bills.seats())
    bills.client.v1.subscriptions.update(made.id, {"cancel_at_period_end": True})
    bills.use("7", "2026-11-20 12:00:00")
    stand_in.stand_at(instant(END))
    bills.use("5", "2026-12-20 11:00:00")
    stand_in.stand_at(instant("2026-12-20 14:00:00"))
    last = bills.cycle()

    assert bills.client.v1.subscriptions.retrieve(made.id).status == "canceled"
    assert (quantities(last), last.status) == (["12"], "paid")
    assert len(bills.invoices()) == 2


@pytest.mark.parametrize(("invoice_now", "billed"), [(True, [["7"]]), (False, [])])
def test_an_immediate_end_bills_open_usage_only_on_demand(
    bills: Bills, stand_in: StandIn, *, invoice_now: bool, billed: list[list[str]]
) -> None:
    made = bills.subscribe()
    bills.use("7", "2026-11-20 12:00:00")
    stand_in.stand_at(instant("2026-11-25 00:00:00"))
    bills.client.v1.subscriptions.cancel(made.id, {"invoice_now": invoice_now})
    stand_in.stand_at(instant("2027-02-01 00:00:00"))

    assert [quantities(one) for one in bills.invoices("subscription_update")] == billed
    assert bills.invoices("subscription_cycle") == []


def test_resetting_the_anchor_ends_the_period_and_bills_it(bills: Bills, stand_in: StandIn) -> None:
    made = bills.subscribe()
    bills.use("7", "2026-11-20 12:00:00")
    stand_in.stand_at(instant("2026-11-25 00:00:00"))
    bills.client.v1.subscriptions.update(made.id, {"billing_cycle_anchor": {"type": "now"}})
    bills.use("2", "2026-11-25 00:00:00")
    stand_in.stand_at(instant("2026-12-25 01:00:00"))
    [reset] = bills.invoices("subscription_update")

    assert (quantities(reset), reset.status) == (["7"], "paid")
    assert quantities(bills.cycle()) == ["2"]


def test_a_planned_end_in_the_middle_of_a_period_bills_what_was_used_until_then(
    bills: Bills, stand_in: StandIn
) -> None:
    bills.subscribe(cancel_at=at("2026-11-25 00:00:00"))
    bills.use("7", "2026-11-20 12:00:00")
    stand_in.stand_at(instant("2026-11-25 00:00:00"))
    bills.use("5", "2026-11-24 23:59:59")
    bills.use("100", "2026-11-25 00:00:00")
    stand_in.stand_at(instant("2026-11-25 01:00:00"))
    [last] = bills.invoices("subscription_cycle")

    assert (quantities(last), last.status) == (["12"], "paid")
    assert text_of(last.period_end) == "2026-11-25 00:00:00"


def test_a_trial_that_ends_early_begins_a_paid_period(bills: Bills, stand_in: StandIn) -> None:
    made = bills.subscribe(bills.price(), bills.seats(900), trial_period_days=7)
    bills.use("7", "2026-11-20 12:00:00")
    stand_in.stand_at(instant("2026-11-22 00:00:00"))
    bills.client.v1.subscriptions.update(made.id, {"trial_end": "now"})
    bills.use("2", "2026-11-22 00:00:00")
    stand_in.stand_at(instant("2026-12-22 01:00:00"))

    assert [amounts(one) for one in bills.invoices("subscription_update")] == [[900]]
    assert amounts(bills.cycle()) == [2, 900]


# --- prices that change, items that go ------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "behavior", "lines"),
    [
        ("flexible", "create_prorations", [("2", 20), ("7", 7)]),
        ("flexible", "none", [("2", 20)]),
        ("classic", "create_prorations", [("2", 20)]),
    ],
)
def test_usage_before_a_change_of_price_is_kept_in_flexible_mode_only(
    bills: Bills, stand_in: StandIn, mode: str, behavior: str, lines: list[tuple[str, int]]
) -> None:
    made = bills.subscribe(bills.price(unit_amount=1), billing_mode={"type": mode})
    bills.use("7", "2026-11-20 12:00:00")
    stand_in.stand_at(instant("2026-11-25 00:00:00"))
    item, dearer = made["items"].data[0].id, bills.price(unit_amount=10)
    bills.client.v1.subscription_items.update(
        item,
        {"price": dearer, "proration_behavior": behavior},
    )
    bills.use("2", "2026-11-25 00:00:00")
    stand_in.stand_at(instant("2026-12-20 14:00:00"))
    billed = bills.cycle().lines.data

    assert [(str(line.quantity_decimal), line.amount) for line in billed] == lines
    if len(billed) > 1:
        assert text_of(billed[1].period.start) == "2026-11-20 12:00:00"
        assert text_of(billed[1].period.end) == "2026-11-25 00:00:00"


def test_a_change_of_price_with_a_reset_of_the_anchor_loses_nothing_in_classic_mode(
    bills: Bills, stand_in: StandIn
) -> None:
    made = bills.subscribe(billing_mode={"type": "classic"})
    bills.use("7", "2026-11-20 12:00:00")
    stand_in.stand_at(instant("2026-11-25 00:00:00"))
    bills.client.v1.subscriptions.update(
        made.id,
        {
            "billing_cycle_anchor": {"type": "now"},
            "items": [{"id": made["items"].data[0].id, "price": bills.price(unit_amount=10)}],
        },
    )
    [reset] = bills.invoices("subscription_update")

    assert (quantities(reset), amounts(reset)) == (["7"], [7])


def test_a_removed_metered_item_leaves_its_usage_to_the_next_invoice(
    bills: Bills, stand_in: StandIn
) -> None:
    made = bills.subscribe(bills.price(), bills.seats())
    bills.use("7", "2026-11-20 12:00:00")
    stand_in.stand_at(instant("2026-11-25 00:00:00"))
    metered = made["items"].data[0].id
    bills.client.v1.subscription_items.delete(metered)
    [kept] = bills.client.v1.invoice_items.list({"customer": bills.customer, "pending": True}).data
    stand_in.stand_at(instant("2026-12-20 14:00:00"))

    assert (kept.amount, kept.quantity_decimal) == (7, Decimal(7))
    assert amounts(bills.cycle()) == [900, 7]
    details = bills.cycle().lines.data[1].parent
    assert details
    assert details.subscription_item_details
    assert details.subscription_item_details.subscription_item == metered
    assert details.subscription_item_details.invoice_item == kept.id


def test_a_removed_item_can_be_invoiced_at_once(bills: Bills, stand_in: StandIn) -> None:
    made = bills.subscribe(bills.price(), bills.seats())
    bills.use("7", "2026-11-20 12:00:00")
    stand_in.stand_at(instant("2026-11-25 00:00:00"))
    bills.client.v1.subscription_items.delete(
        made["items"].data[0].id, {"proration_behavior": "always_invoice"}
    )
    [now] = bills.invoices("subscription_update")

    assert (quantities(now), now.status) == (["7"], "paid")


def test_usage_before_an_item_was_added_is_not_its(bills: Bills, stand_in: StandIn) -> None:
    made = bills.subscribe(bills.seats())
    bills.use("7", "2026-11-20 12:00:00")
    stand_in.stand_at(instant("2026-11-25 00:00:00"))
    bills.client.v1.subscription_items.create({"subscription": made.id, "price": bills.price()})
    bills.use("2", "2026-11-25 00:00:00")
    stand_in.stand_at(instant("2026-12-20 14:00:00"))

    assert quantities(bills.cycle()) == ["2", "1"]


# --- restarts -------------------------------------------------------------------------------------


def test_drafts_and_what_waits_for_them_survive_restarts(tmp_path: Path) -> None:
    clock = SettableClock(lambda: NOON)
    with running(data=tmp_path, clock=clock.now) as before:
        bills = Bills(_client(before))
        bills.subscribe()
        bills.use("7", "2026-11-20 12:00:00")
        bills.client.v1.invoice_items.create(
            {"customer": bills.customer, "amount": 500, "currency": "usd"}
        )
        before.stand_at(instant(END))
        bills.client.v1.invoice_items.create(
            {"customer": bills.customer, "amount": 20, "currency": "usd"}
        )
        drafted = before.invoices(bills.customer)
    # At each start the journal is written anew: only the second restart shows what it left out.
    with running(data=tmp_path, clock=clock.now):
        pass
    with running(data=tmp_path, clock=clock.now) as after:
        bills.client = _client(after)
        kept = after.invoices(bills.customer)
        after.stand_at(instant("2027-01-20 14:00:00"))
        final = bills.invoices("subscription_cycle")

    assert kept == drafted
    assert [one.status for one in final] == ["paid", "paid"]
    assert [amounts(one) for one in final] == [[7, 500], [0, 20]]


def _client(stand_in: StandIn) -> stripe.StripeClient:
    return stripe.StripeClient("sk_test_x", base_addresses=stand_in.base_addresses())
