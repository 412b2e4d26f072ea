"""What Stripe's error reports make us doubt: the pushes they name, and the window for the rest."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from metering.adapters.stripe_error_reports import read_report
from metering.error_report import MeterError, MeterErrorReport, push_named, suspicions_of
from metering.names import Identifier
from metering.notice import Notice
from metering.period import Span
from metering.stripe_event import read_event
from tests.builders import NOON
from tests.stripe_events import a_thin_event

STREAM = "abcdefghijklmnopqrstuvwxyz234567"
PUSH = Identifier(f"u1.{STREAM}.7")
WINDOW = Span(
    datetime(2026, 11, 20, 11, 59, 40, tzinfo=UTC), datetime(2026, 11, 20, 11, 59, 50, tzinfo=UTC)
)


def a_fetched_event(*errors: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A thin event with its data, as Stripe answers when it is fetched."""
    data = {
        "developer_message_summary": "There are 3 invalid events",
        "validation_start": "2026-11-20T11:59:40.000Z",
        "validation_end": "2026-11-20T11:59:50.000Z",
        "reason": {"error_count": 3, "error_types": list(errors)},
    }
    return a_thin_event(id="evt_9", data=data) | changes


def errors_of(code: str, count: int, *samples: dict[str, str]) -> dict[str, Any]:
    return {
        "code": code,
        "error_count": count,
        "sample_errors": [{"error_message": f"{code}!", "request": one} for one in samples],
    }


def a_report(*errors: MeterError, meter_id: str | None = "mtr_1") -> MeterErrorReport:
    return MeterErrorReport("evt_9", meter_id, WINDOW, "3 invalid events", errors)


def a_notice() -> Notice:
    notice = read_event(a_thin_event(id="evt_9", context="acct_1"), NOON)
    assert notice is not None
    return notice


@pytest.mark.parametrize(
    ("text", "push"),
    [
        (PUSH, PUSH),
        (f"{PUSH}.g1", PUSH),
        (f"{PUSH}.g12", PUSH),
        ("somebody-elses-key", None),
        (f"u1.{STREAM}", None),
        (f"u1.{STREAM}.7.8", None),
        (f"{PUSH}.g", None),
        (f"u2.{STREAM}.7", None),
        (f"u1.{STREAM.upper()}.7", None),
        ("", None),
    ],
)
def test_a_push_is_known_by_its_identifier_or_its_key(text: str, push: str | None) -> None:
    assert push_named(text) == push


def test_a_report_is_read_with_its_window_and_samples() -> None:
    event = a_fetched_event(
        errors_of("archived_meter", 3, {"identifier": f"{PUSH}.g1"}, {"identifier": "csv-4"})
    )

    report = read_report(event)

    assert (report.id, report.window) == ("evt_9", WINDOW)
    assert report.meter_id == event["related_object"]["id"]
    (error,) = report.errors
    assert error == MeterError("archived_meter", 3, (PUSH, "csv-4"), "archived_meter!")
    assert (error.ours, error.foreign, error.unnamed) == ((PUSH,), 1, 1)


@pytest.mark.parametrize(
    "request_of_sample",
    [
        {"identifier": PUSH},
        {"idempotency_key": f"{PUSH}.g2"},
        {"identifier": "req-1", "idempotency_key": PUSH},
        {"identifier": PUSH, "idempotency_key": f"{PUSH}.g1"},
    ],
)
def test_a_sample_may_name_the_push_by_either_field(request_of_sample: dict[str, str]) -> None:
    report = read_report(a_fetched_event(errors_of("no_meter", 1, request_of_sample)))

    (error,) = report.errors
    assert (error.ours, error.foreign, error.unnamed) == ((PUSH,), 0, 0)


def test_samples_may_be_absent_or_nameless_and_codes_be_new() -> None:
    nameless = {"code": "brand_new", "error_count": 2, "sample_errors": [{"request": None}]}
    without = {"code": "archived_meter", "error_count": 5}

    report = read_report(a_fetched_event(nameless, without, related_object=None))

    assert report.meter_id is None
    assert report.errors == (MeterError("brand_new", 2, ()), MeterError("archived_meter", 5, ()))


def test_a_push_that_is_named_is_in_doubt() -> None:
    error = MeterError("archived_meter", 1, (f"{PUSH}.g1",), "The meter is archived.")

    (doubt,) = suspicions_of(a_report(error), a_notice())

    assert (doubt.id, doubt.identifier, doubt.count) == (PUSH, PUSH, 1)
    assert (doubt.meter_id, doubt.code, doubt.window) == ("mtr_1", "archived_meter", WINDOW)
    assert (doubt.message, doubt.account) == ("The meter is archived.", "acct_1")
    assert (doubt.reported_at, doubt.seen_empty_at) == (NOON, None)


def test_what_no_sample_names_puts_its_window_in_doubt() -> None:
    error = MeterError("no_meter", 5, (PUSH, "csv-4"))

    named, unnamed = suspicions_of(a_report(error, meter_id=None), a_notice())

    assert (named.id, named.count) == (PUSH, 1)
    assert (unnamed.id, unnamed.identifier, unnamed.count) == ("evt_9.no_meter", None, 3)
    assert unnamed.message == "3 invalid events"


def test_what_somebody_else_sent_is_no_doubt_of_ours() -> None:
    error = MeterError("archived_meter", 2, ("csv-4", "csv-5"))

    assert list(suspicions_of(a_report(error), a_notice())) == []


def test_a_push_that_two_samples_name_is_doubted_once() -> None:
    error = MeterError("archived_meter", 2, (PUSH, f"{PUSH}.g1"))

    assert [doubt.id for doubt in suspicions_of(a_report(error), a_notice())] == [PUSH]


@pytest.mark.parametrize("is_live", [True, False])
def test_a_suspicion_knows_the_mode_of_its_notice(is_live: bool) -> None:  # noqa: FBT001 (a parameter of pytest)
    notice = replace(a_notice(), is_live=is_live)
    report = a_report(MeterError("c", 1, (), "m"))

    assert [one.is_live for one in suspicions_of(report, notice)] == [is_live]
