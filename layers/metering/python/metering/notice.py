"""Notices from Stripe: that something happened there to an object of ours.

A notice is a hint and nothing more. Notices repeat, come late, out of order or never, so whoever
acts on one reads the object anew; and what they tell is also found by asking from time to time.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class NoticeKind(StrEnum):
    """What a notice is about."""

    INVOICE = "invoice"
    SUBSCRIPTION = "subscription"
    METER = "meter"
    """A meter was changed, or deactivated."""
    METER_ERRORS = "meter_errors"
    """Meter events that were taken have not counted; the object is the Stripe event to read."""


_KINDS = {
    NoticeKind.INVOICE: (
        "invoice.created",
        "invoice.updated",
        "invoice.finalized",
        "invoice.finalization_failed",
        "invoice.paid",
        "invoice.voided",
        "invoice.deleted",
    ),
    NoticeKind.SUBSCRIPTION: (
        "customer.subscription.created",
        "customer.subscription.updated",
        "customer.subscription.deleted",
        "customer.subscription.paused",
        "customer.subscription.resumed",
    ),
    NoticeKind.METER: (
        "billing.meter.updated",
        "billing.meter.deactivated",
        "billing.meter.reactivated",
    ),
    NoticeKind.METER_ERRORS: (
        "v1.billing.meter.error_report_triggered",
        "v1.billing.meter.no_meter_found",
    ),
}
_KIND_OF = {event_type: kind for kind, types in _KINDS.items() for event_type in types}

THIN_TYPES = _KINDS[NoticeKind.METER_ERRORS]
"""What an event destination at Stripe with thin payload is to be told of."""
SNAPSHOT_TYPES = tuple(one for one in _KIND_OF if one not in THIN_TYPES)
"""What a webhook endpoint at Stripe is to be told of."""


def kind_of(event_type: str) -> NoticeKind | None:
    """What an event of this type is about; None for one that matters nothing here."""
    return _KIND_OF.get(event_type)


@dataclass(frozen=True, slots=True)
class Notice:
    """One event of Stripe's, as far as it matters here."""

    id: str
    """`evt_...`; the same for every delivery of it."""
    kind: NoticeKind
    type: str
    """Stripe's word: `invoice.created`."""
    object_id: str
    """`in_...`, `sub_...`, `mtr_...`, or of meter errors the event itself."""
    customer: str
    """`cus_...`, empty where the event names none."""
    account: str
    """`acct_...` of a connected account; empty for the key's own."""
    is_live: bool
    created_at: datetime
    received_at: datetime
