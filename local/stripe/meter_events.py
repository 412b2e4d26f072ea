"""Meter events: taken one by one, counted later, never read back.

A wrong event is refused at once with 400, or answered 200 and found wrong afterwards: which of the
two, an account's settings say per error code.
"""

import re
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from itertools import takewhile

from local.stripe import alerts, refusals
from local.stripe.call import Call
from local.stripe.params import TIMESTAMP_MAX, Fields, Integer, Text, Texts
from local.stripe.state import (
    CUSTOMER,
    METER,
    TEST_CLOCK,
    Account,
    EventReceived,
    EventRejected,
    MeterEvent,
    ReceiptsForgotten,
    Rejection,
)
from local.stripe.wire import Json

PAST_MAX_S = 35 * 86_400
FUTURE_MAX_S = 300
DIGITS_MAX = 15

CREATE = Fields(
    {
        "event_name": Text(100),
        "payload": Texts(),
        "identifier": Text(100),
        "timestamp": Integer(least=0, most=TIMESTAMP_MAX),
    },
    required=("event_name", "payload"),
)

_NUMBER = re.compile(r"(-?)(\d+)(?:\.(\d+))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Sent:
    """A meter event as it was sent, with what it left out filled in."""

    event_name: str
    payload: dict[str, str]
    identifier: str
    timestamp: int
    foreign: bool = False
    """Written by somebody else, through no request."""
    only_later: frozenset[str] = frozenset()
    """Codes of errors that are found only after a 200, whatever the settings say."""


class UsedIdentifierError(refusals.RefusedError):
    """The identifier of a meter event was used before, and is still remembered."""


class _WrongEventError(Exception):
    """A meter event that cannot count, with Stripe's code for why."""

    def __init__(self, code: str, message: str, param: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.param = param


def create(call: Call) -> Json:
    """Take a meter event.

    Raises:
        RefusedError: it is wrong, its identifier was used before, or another one for the same
            customer and meter is being taken (429).
    """
    sent = Sent(
        event_name=call.params["event_name"],
        payload=call.params["payload"],
        identifier=call.params.get("identifier") or call.new_id(""),
        timestamp=call.params.get("timestamp", call.now),
    )
    take(call, sent)
    return {
        "object": "billing.meter_event",
        "created": call.now,
        "event_name": sent.event_name,
        "identifier": sent.identifier,
        "livemode": False,
        "payload": sent.payload,
        "timestamp": sent.timestamp,
    }


def foreign(call: Call, payload: dict[str, str], *, event_name: str) -> str:
    """Take a meter event that somebody else wrote; its identifier."""
    identifier = call.params.get("identifier") or call.new_id("foreign_")
    timestamp = call.params.get("timestamp", call.now)
    take(call, Sent(event_name, payload, identifier, timestamp, foreign=True))
    return str(identifier)


def take(call: Call, sent: Sent) -> None:
    """Check a meter event, and let it count or note why it does not."""
    try:
        event = _checked(call, sent)
    except _WrongEventError as wrong:
        _refuse_or_note(call, sent, wrong)
    else:
        call.record(EventReceived(call.account.id, event))
        alerts.consider(call.world, call.account, event)


def _refuse_or_note(call: Call, sent: Sent, wrong: _WrongEventError) -> None:
    if wrong.code not in call.world.settings.asynchronous | sent.only_later:
        raise refusals.RefusedError(wrong.message, code=wrong.code, param=wrong.param) from wrong
    _refuse_used_identifier(call, sent.identifier)
    rejection = Rejection(
        number=call.account.received + 1,
        identifier=sent.identifier,
        idempotency_key=call.idempotency_key,
        event_name=sent.event_name,
        meter=_meter_named(call.account, sent.event_name),
        code=wrong.code,
        message=wrong.message,
        at=call.at,
    )
    call.record(EventRejected(call.account.id, rejection))


def _meter_named(account: Account, event_name: str) -> str | None:
    """The meter that an error is reported at: the active one, or else the last that was."""
    active = account.meter_of.get(event_name)
    named = (one["id"] for one in account.newest_first(METER) if one["event_name"] == event_name)
    return active or next(named, None)


def _checked(call: Call, sent: Sent) -> MeterEvent:
    meter = _meter(call.account, sent.event_name)
    customer = _customer_of(sent, meter)
    if not sent.foreign:
        call.hold((meter["id"], customer))
    value = _value_of(call, sent, meter)
    _check_timestamp(_clock_of(call, customer), sent)
    _refuse_used_identifier(call, sent.identifier)
    _check_customer(call.account, customer, meter)
    return MeterEvent(
        number=call.account.received + 1,
        identifier=sent.identifier,
        event_name=sent.event_name,
        meter=meter["id"],
        customer=customer,
        value=value,
        timestamp=sent.timestamp,
        received_at=call.at,
        counts_from=call.at + timedelta(seconds=call.world.settings.summary_delay_s),
        foreign=sent.foreign,
    )


def _meter(account: Account, event_name: str) -> Json:
    identity = account.meter_of.get(event_name)
    if identity:
        return account.all(METER)[identity]
    if any(meter["event_name"] == event_name for meter in account.all(METER).values()):
        message = f"The meter for the event name {event_name} is inactive; reactivate it."
        raise _WrongEventError("archived_meter", message, "event_name")
    message = f"No active meter found for event name {event_name}."
    raise _WrongEventError("no_meter", message, "event_name")


def _customer_of(sent: Sent, meter: Json) -> str:
    key = meter["customer_mapping"]["event_payload_key"]
    customer = sent.payload.get(key)
    if not customer:
        message = f"The payload must name the customer under the key {key}."
        raise _WrongEventError("meter_event_no_customer_defined", message, f"payload[{key}]")
    return customer


def _check_customer(account: Account, customer: str, meter: Json) -> None:
    if account.get(CUSTOMER, customer) is None:
        key = meter["customer_mapping"]["event_payload_key"]
        message = f"No such customer: '{customer}'"
        raise _WrongEventError("meter_event_customer_not_found", message, f"payload[{key}]")


def _value_of(call: Call, sent: Sent, meter: Json) -> Decimal:
    if meter["default_aggregation"]["formula"] == "count":
        return Decimal(1)
    key = meter["value_settings"]["event_payload_key"]
    text = sent.payload.get(key)
    if not text:
        message = f"The payload must hold the value under the key {key}."
        raise _WrongEventError("meter_event_value_not_found", message, f"payload[{key}]")
    return _number(call, text, f"payload[{key}]")


def _number(call: Call, text: str, param: str) -> Decimal:
    match = _NUMBER.fullmatch(text)
    if match is None:
        message = f"Invalid value {text!r}: must be a number."
        raise _WrongEventError("meter_event_invalid_value", message, param)
    sign, whole, decimals = match.groups()
    if decimals and not call.world.settings.decimals:
        message = f"Invalid value {text}: must be a whole number."
        raise _WrongEventError("meter_event_invalid_value", message, param)
    if sign and not call.world.settings.negatives:
        message = f"Invalid value {text}: must not be negative."
        raise _WrongEventError("meter_event_invalid_value", message, param)
    if len((whole + (decimals or "")).lstrip("0")) > DIGITS_MAX:
        message = f"Invalid value {text}: has more than {DIGITS_MAX} significant digits."
        raise _WrongEventError("meter_event_value_too_many_digits", message, param)
    return Decimal(text)


def _clock_of(call: Call, customer: str) -> Call:
    """The call at the time that decides how old an event of a customer may be."""
    owner = call.account.get(CUSTOMER, customer) or {}
    clock = call.account.get(TEST_CLOCK, owner.get("test_clock") or "")
    if clock is None or not call.world.settings.clock_windows:
        return call
    return call.at_instant(clock["frozen_time"])


def _check_timestamp(call: Call, sent: Sent) -> None:
    if sent.timestamp < call.now - PAST_MAX_S:
        message = "The timestamp cannot be more than 35 days in past of the current time."
        raise _WrongEventError("timestamp_too_far_in_past", message, "timestamp")
    if sent.timestamp > call.now + FUTURE_MAX_S:
        message = "The timestamp cannot be more than 5 minutes in future of the current time."
        raise _WrongEventError("timestamp_in_future", message, "timestamp")


def _refuse_used_identifier(call: Call, identifier: str) -> None:
    _forget_old_receipts(call)
    if identifier in call.account.receipts:
        raise UsedIdentifierError(
            f"An event already exists with identifier {identifier}.",
            headers={"Stripe-Should-Retry": "false"},
        )


def _forget_old_receipts(call: Call) -> None:
    receipts = call.account.receipts
    if not receipts:
        return
    oldest_kept = call.at - timedelta(seconds=call.world.settings.identifier_memory_s)
    if next(iter(receipts.values())).received_at > oldest_kept:
        return
    aged = takewhile(lambda receipt: receipt.received_at <= oldest_kept, receipts.values())
    call.record(ReceiptsForgotten(call.account.id, sum(1 for _ in aged)))
