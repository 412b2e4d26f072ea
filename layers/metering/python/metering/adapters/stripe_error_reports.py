"""Stripe's reports of meter events that did not count, read under the ids of their thin events."""

from collections.abc import Iterable, Mapping
from typing import Any

from metering import times
from metering.adapters.stripe_client import StripeConnection
from metering.error_report import MeterError, MeterErrorReport, identifier_of
from metering.period import Span


class StripeErrorReports:
    """The `MeterErrorReports` port on the `stripe` SDK."""

    def __init__(self, connection: StripeConnection) -> None:
        self._connection = connection

    def report(self, event_id: str, account: str = "") -> MeterErrorReport:
        """See `MeterErrorReports.report`."""
        with self._connection.reading(
            f"no event {event_id} at Stripe, in this account and mode (it keeps them for 30 days)"
        ):
            event = self._connection.client.v2.core.events.retrieve(
                event_id, None, {"stripe_context": account} if account else {}
            )
        return read_report(event.to_dict())


def read_report(event: Mapping[str, Any]) -> MeterErrorReport:
    """The report in a thin event that was fetched, with all its data."""
    data = event["data"]
    window = Span(
        times.parse_rfc3339(data["validation_start"]), times.parse_rfc3339(data["validation_end"])
    )
    return MeterErrorReport(
        id=event["id"],
        meter_id=(event.get("related_object") or {}).get("id"),
        window=window,
        summary=data["developer_message_summary"],
        errors=tuple(map(_error, data["reason"]["error_types"])),
    )


def _error(error: Mapping[str, Any]) -> MeterError:
    samples = error.get("sample_errors") or []
    return MeterError(
        code=error["code"],
        count=error["error_count"],
        identifiers=tuple(_identifiers(samples)),
        message=next((one.get("error_message") or "" for one in samples), ""),
    )


def _identifiers(samples: Iterable[Mapping[str, Any]]) -> Iterable[str]:
    """Of each sample its name: `identifier` is documented, and an older example has the other."""
    for sample in samples:
        request = sample.get("request") or {}
        found = identifier_of([request.get("identifier"), request.get("idempotency_key")])
        if found is not None:
            yield found
