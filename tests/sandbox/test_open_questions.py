"""What Stripe's documents leave open, asked of Stripe; the stand-in shows that the asking works.

What the push protocol relies on is asserted; what it can live with either way is only recorded.
"""

import os
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import stripe

from metering.delivery import Accepted, AlreadyExists
from metering.period import Span
from metering.ports import MeterEvent, SetupError
from metering.push import ONE_MINUTE, ceil_minute, floor_minute
from metering.pusher import name_of
from tests.sandbox.place import (
    KEY,
    QUESTIONS,
    RESTRICTED_KEY,
    SUMMARY_WITHIN_S,
    TWO_HOURS,
    Place,
    answers,
    refusal,
    sandbox_key,
    write_page,
)

A_DAY_AND_AN_HOUR = timedelta(hours=25)


def raw(event: MeterEvent) -> Any:
    """The parameters of v1."""
    return {
        "event_name": event.event_name,
        "payload": {"stripe_customer_id": event.customer, "value": event.value},
        "identifier": event.identifier,
        "timestamp": int(event.occurred_at.timestamp()),
    }


def again(event: MeterEvent) -> MeterEvent:
    """The same event in another request."""
    return replace(event, idempotency_key=event.idempotency_key + ".again")


def another(event: MeterEvent, value: str, suffix: str, **more: Any) -> MeterEvent:
    """Another event of the same customer and meter."""
    identifier = type(event.identifier)(f"{event.identifier}{suffix}")
    return replace(event, value=value, identifier=identifier, idempotency_key=identifier, **more)


@answers(1)
def test_a_used_identifier_is_refused_and_that_means_delivered(place: Place) -> None:
    meter, customer = place.meter(), place.customer()
    event = place.event(meter, customer, "5")

    assert place.billing().send(event) == Accepted()
    replayed = place.billing().send(event)
    said = refusal(lambda: place.client.v1.billing.meter_events.create(raw(event)))

    place.record(1, "at once", refused=said, same_key=name_of(replayed), replay=replayed)
    assert replayed == Accepted(replayed=True)
    assert isinstance(place.billing().send(again(event)), AlreadyExists)
    total, lag_s = place.total(meter, customer, 5)
    place.record(1, "counted", total=total, lag_s=lag_s)
    assert total == 5


@answers(1)
def test_an_identifier_may_be_free_again_after_a_day(place: Place) -> None:
    former = place.recorded(1, "to be sent again") if place.is_stripe else _sent_yesterday(place)
    if former is None:
        _leave_one_for_tomorrow(place)
        pytest.skip("an identifier was sent: run this again in 25 hours")
    if place.now() - datetime.fromisoformat(former["at"]) < A_DAY_AND_AN_HOUR:
        pytest.skip(f"the identifier of {former['at']} is younger than 25 hours")

    said = refusal(lambda: place.client.v1.billing.meter_events.create(former["params"]))

    place.record(1, "after 25 h", sent_at=former["at"], taken_again=not said, refused=said)
    if not place.is_stripe:
        assert said == {}  # so that a blind resend is seen to count twice


def _sent_yesterday(place: Place) -> Any:
    _leave_one_for_tomorrow(place)
    assert place.stand_in
    place.stand_in.advance(A_DAY_AND_AN_HOUR)
    return place.recorded(1, "to be sent again")


def _leave_one_for_tomorrow(place: Place) -> None:
    params = raw(place.event(place.meter(), place.customer(), "5"))
    place.client.v1.billing.meter_events.create(params)
    place.record(1, "to be sent again", params=params)


@answers(2)
def test_the_second_endpoint_takes_events_and_names_its_duplicates(place: Place) -> None:
    meter, customer = place.meter(), place.customer()
    event = place.event(meter, customer, "5")
    billing = place.billing("v2")

    first, replayed = billing.send(event), billing.send(event)
    said = refusal(
        lambda: place.client.v2.billing.meter_events.create(
            raw(event) | {"timestamp": event.occurred_at.isoformat().replace("+00:00", "Z")}
        )
    )
    place.record(2, "sent twice", first=first, same_key=replayed, other_key=said)
    assert first == Accepted()
    assert isinstance(place.billing("v1").send(again(event)), AlreadyExists)
    total, lag_s = place.total(meter, customer, 5)
    place.record(2, "counted", total=total, lag_s=lag_s)
    assert total == 5


@answers(3)
def test_a_meter_with_a_window_keeps_the_last_event_of_an_hour(place: Place) -> None:
    meter, customer = place.meter(event_time_window="hour"), place.customer()
    hour = place.minute(60).replace(minute=0)
    event = place.event(meter, customer, "5", occurred_at=hour)
    span = Span(hour, hour + timedelta(hours=1))

    assert place.billing().send(event) == Accepted()
    first, first_lag_s = place.total(meter, customer, 5, span=span)
    assert place.billing().send(another(event, "7", ".2")) == Accepted()
    second, second_lag_s = place.total(meter, customer, 7, span=span)

    place.record(
        3,
        "told 5, then 7",
        first=first,
        first_lag_s=first_lag_s,
        second=second,
        second_lag_s=second_lag_s,
        overwrites=second == 7,
    )
    assert first == 5
    assert second == 7


@answers(4)
def test_corrections_downwards_are_taken(place: Place) -> None:
    meter, customer = place.meter(), place.customer()
    event = place.event(meter, customer, "10")
    billing = place.billing()

    billing.send(event)
    negative = billing.send(another(event, "-3", ".2"))
    total, lag_s = place.total(meter, customer, 7)

    place.record(4, "negative", answer=negative, total=total, lag_s=lag_s)
    assert negative == Accepted()
    assert total == 7


@answers(4)
def test_values_of_fifteen_digits_are_taken_and_what_becomes_of_others(place: Place) -> None:
    meter = place.meter()
    seen: dict[str, Any] = {}
    for value in ("999999999999999", "1000000000000000", "1.5", "0.000000000001", "0", "-1"):
        customer = place.customer()
        answer = place.billing().send(place.event(meter, customer, value))
        seen[value] = {"answer": answer}
        if isinstance(answer, Accepted):
            within_s = SUMMARY_WITHIN_S / 5
            seen[value]["total"], _ = place.total(
                meter, customer, Decimal(value), within_s=within_s
            )

    place.record(4, "digits and decimals", **seen)
    assert seen["999999999999999"] == {"answer": Accepted(), "total": Decimal(999999999999999)}


@answers(5)
def test_events_of_a_customer_on_a_test_clock(place: Place) -> None:
    meter = place.meter()
    clocks_now = floor_minute(place.now()) + timedelta(days=60)
    customer = place.customer(test_clock=place.clock(clocks_now))

    at_clock = place.billing().send(place.event(meter, customer, "5", occurred_at=clocks_now))
    at_real = place.billing().send(place.event(meter, customer, "7"))

    span = Span(clocks_now, clocks_now + ONE_MINUTE)
    total, lag_s = place.total(meter, customer, 5, span=span)
    place.record(
        5,
        "clock 60 days ahead",
        at_the_clocks_now=at_clock,
        at_the_real_now=at_real,
        total=total,
        lag_s=lag_s,
    )


@answers(6, 10)
def test_a_periods_end_with_late_usage(place: Place) -> None:
    """One month on a test clock: the draft, usage that comes into it, and after it is final."""
    meter = place.meter()
    began = (place.now() + timedelta(days=1)).replace(minute=0, second=0, microsecond=0)
    clock = place.clock(began)
    customer = place.customer(test_clock=clock)
    subscription = place.subscribe(customer, place.price(meter))
    item = subscription["items"].data[0]
    end = datetime.fromtimestamp(item.current_period_end, UTC)
    period = Span(ceil_minute(began), floor_minute(end))
    first = place.event(meter, customer, "7", occurred_at=began)
    assert place.billing().send(first) == Accepted()
    assert place.total(meter, customer, 7, span=period)[0] == 7

    place.advance(clock, end + 10 * ONE_MINUTE)
    draft = _cycle_invoice(place, customer)
    before = _line(place, draft.id)
    in_grace = another(first, "4", ".2", occurred_at=end - 2 * ONE_MINUTE)
    taken = place.billing().send(in_grace)
    place.total(meter, customer, 11, span=period)
    after, refreshed_s = place.seen_within(
        lambda: _line(place, draft.id), lambda seen: seen == 11, SUMMARY_WITHIN_S / 5
    )
    place.advance(clock, end + TWO_HOURS)
    final = _line(place, draft.id)
    place.record(
        10,
        "draft",
        status=draft.status,
        finalizes_at=draft.automatically_finalizes_at,
        before=before,
        late_answer=taken,
        after=after,
        refreshed_s=refreshed_s,
        final=final,
    )
    assert (before, final) == (Decimal(7), Decimal(11))

    too_late = place.billing().send(another(first, "5", ".3", occurred_at=end - 3 * ONE_MINUTE))
    summary, _ = place.total(meter, customer, 16, span=period)
    line = _line(place, draft.id)
    invoices = place.client.v1.invoices.list({"customer": customer, "limit": 100}).data
    place.record(
        6,
        "after finalization",
        answer=too_late,
        summary=summary,
        line=line,
        status=_cycle_invoice(place, customer).status,
        invoices=len(invoices),
    )
    assert line == 11


def _cycle_invoice(place: Place, customer: str) -> stripe.Invoice:
    listed = place.client.v1.invoices.list({"customer": customer, "limit": 100}).data
    return next(one for one in listed if one.billing_reason == "subscription_cycle")


def _line(place: Place, invoice_id: str | None) -> Decimal:
    """The one line's quantity."""
    assert invoice_id
    (line,) = place.client.v1.invoices.retrieve(invoice_id).lines.data
    return Decimal(str(line.quantity_decimal))


@answers(7)
def test_what_an_empty_window_looks_like_and_how_long_summaries_take(place: Place) -> None:
    meter, customer = place.meter(), place.customer()
    empty = place.client.v1.billing.meters.event_summaries.list(
        meter.id,
        {
            "customer": customer,
            "start_time": int(place.minute(60).timestamp()),
            "end_time": int(place.minute().timestamp()),
        },
    )
    lags: list[float] = []
    for n in range(1, 6):
        place.billing().send(place.event(meter, customer, "1", ago=n))
        total, lag_s = place.total(meter, customer, n)
        assert total == n
        lags.append(lag_s)

    place.record(
        7,
        "empty window, then five events",
        empty_rows=[row.to_dict() for row in empty.data],
        lags_s=lags,
        greatest_s=max(lags),
    )


@answers(8)
def test_which_event_is_the_last(place: Place) -> None:
    meter, customer = place.meter("last"), place.customer()
    event = place.event(meter, customer, "3")
    billing = place.billing()

    billing.send(event)
    alone, _ = place.total(meter, customer, 3)
    billing.send(another(event, "4", ".2"))
    equal, _ = place.total(meter, customer, 4)
    older = event.occurred_at - 5 * ONE_MINUTE
    billing.send(another(event, "9", ".3", occurred_at=older))
    reordered, _ = place.total(meter, customer, 9, within_s=SUMMARY_WITHIN_S / 5)

    place.record(
        8,
        "3, then 4 at the same instant, then 9 five minutes before",
        alone=alone,
        equal_timestamps=equal,
        older_received_later=reordered,
    )
    assert alone == 3
    if not place.is_stripe:
        assert reordered == 4  # the timestamp decides there, not the receipt


@answers(9)
def test_what_a_restricted_key_is_told_it_lacks(place: Place) -> None:
    if place.is_stripe and RESTRICTED_KEY not in os.environ:
        pytest.skip(f"no {RESTRICTED_KEY}: set it to a rk_test_ key without permissions")
    narrow = _narrow_client(place)
    meter = place.meter()
    calls: dict[str, Callable[[], object]] = {
        "meter_events.create": lambda: narrow.v1.billing.meter_events.create(
            raw(place.event(meter, "cus_none", "1"))
        ),
        "meters.list": narrow.v1.billing.meters.list,
        "customers.list": narrow.v1.customers.list,
        "subscriptions.list": narrow.v1.subscriptions.list,
        "prices.list": narrow.v1.prices.list,
        "invoices.list": narrow.v1.invoices.list,
    }

    said = {name: refusal(call) for name, call in calls.items()}

    place.record(9, "a key without permissions", **said)
    for name, told in said.items():
        assert told["exception"] == "PermissionError", name


def _narrow_client(place: Place) -> stripe.StripeClient:
    if place.stand_in is None:
        return stripe.StripeClient(os.environ[RESTRICTED_KEY])
    place.stand_in.rule_key("rk_test_narrow", scopes=[])
    addresses = place.stand_in.base_addresses()
    return stripe.StripeClient("rk_test_narrow", base_addresses=addresses)


def test_every_question_has_a_scenario() -> None:
    scenarios = vars(sys.modules[__name__]).values()
    asked = {number for one in scenarios for number in getattr(one, "answers", ())}

    assert asked == set(QUESTIONS)


def test_the_answers_stand_on_one_page(tmp_path: Path) -> None:
    (tmp_path / "07.json").write_text('{"empty": []}')

    write_page(tmp_path)

    page = (tmp_path / "report.md").read_text()
    assert "## 7. empty summary window" in page
    assert '{"empty": []}' in page
    assert page.count("not asked yet") == len(QUESTIONS) - 1


def test_a_live_key_is_never_taken_for_the_sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY, "sk_live_x")

    with pytest.raises(SetupError, match="a test key of Stripe's is needed"):
        sandbox_key().read()
