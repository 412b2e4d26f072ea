"""Stripe's event as it is delivered: which JSON is one, and the notice that it comes to.

A snapshot event carries the object as it was, which nobody here looks into further than its id and
its customer. A thin event carries none: what it tells is read at Stripe, under the event's own id.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from metering import times
from metering.notice import Notice, NoticeKind, kind_of


class NotAnEventError(Exception):
    """The JSON is no event of Stripe's; the message says what is missing."""


def read_event(event: Any, received_at: datetime) -> Notice | None:
    """The notice in an event; None for an event of a type that matters nothing here.

    Raises:
        NotAnEventError: it is no event, or one of a type that matters lacks what all of them have.
    """
    match event:
        case {"object": "event", "id": str(), "type": str(event_type)}:
            read = _of_snapshot
        case {"object": "v2.core.event", "id": str(), "type": str(event_type)}:
            read = _of_thin
        case _:
            raise NotAnEventError(
                "it has no 'object' of 'event' or 'v2.core.event', 'id' or 'type'"
            )
    kind = kind_of(event_type)
    return None if kind is None else read(event, kind, received_at)


def _of_snapshot(event: Mapping[str, Any], kind: NoticeKind, received_at: datetime) -> Notice:
    match event:
        case {
            "created": int(created_s),
            "livemode": bool(is_live),
            "data": {"object": {"id": str(object_id)} as changed},
        }:
            return Notice(
                id=event["id"],
                kind=kind,
                type=event["type"],
                object_id=object_id,
                customer=_id(changed.get("customer")),
                account=event.get("account") or "",
                is_live=is_live,
                created_at=datetime.fromtimestamp(created_s, UTC),
                received_at=received_at,
            )
    raise NotAnEventError("a snapshot event has 'created', 'livemode' and 'data.object.id'")


def _of_thin(event: Mapping[str, Any], kind: NoticeKind, received_at: datetime) -> Notice:
    match event:
        case {"created": str(created), "livemode": bool(is_live)}:
            return Notice(
                id=event["id"],
                kind=kind,
                type=event["type"],
                object_id=_object_of_thin(event, kind),
                customer="",
                account=event.get("context") or "",
                is_live=is_live,
                created_at=_instant(created),
                received_at=received_at,
            )
    raise NotAnEventError("a thin event has 'created' and 'livemode'")


def _object_of_thin(event: Mapping[str, Any], kind: NoticeKind) -> str:
    """What is to be read: of meter errors the event itself, which holds them."""
    if kind is NoticeKind.METER_ERRORS:
        return str(event["id"])
    match event:
        case {"related_object": {"id": str(object_id)}}:
            return object_id
    raise NotAnEventError(f"a thin event of type {event['type']} has 'related_object.id'")


def _instant(created: str) -> datetime:
    try:
        return times.parse_rfc3339(created)
    except times.InvalidTimestampError as wrong:
        raise NotAnEventError(f"'created' {wrong}") from None


def _id(reference: object) -> str:
    """An object's id, of its id alone or of the object in its place."""
    if isinstance(reference, Mapping):
        reference = reference.get("id")
    return reference if isinstance(reference, str) else ""
