"""Instants: aware, UTC, with one text form that sorts as time does."""

import re
from datetime import UTC, datetime
from functools import lru_cache

_RFC3339 = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?([Zz]|[+-]\d\d:\d\d)", re.ASCII
)
_MICROSECOND_DIGITS = 6


class InvalidTimestampError(ValueError):
    """A timestamp that does not name one instant."""


def parse_rfc3339(value: object) -> datetime:
    """The UTC instant of an RFC 3339 date-time; the offset is required.

    Digits beyond microseconds are cut off; see `is_finer_than_microsecond`.

    Raises:
        InvalidTimestampError: no text, no such date, or no offset.
    """
    match = _RFC3339.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise InvalidTimestampError(
            "must be an RFC 3339 date-time with an offset, such as 2026-11-20T12:00:00Z"
        )
    day, clock, fraction, offset = match.groups()
    text = f"{day}T{clock}.{(fraction or '')[:_MICROSECOND_DIGITS]:0<6}{offset.upper()}"
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        raise InvalidTimestampError("names no real instant") from None


def is_finer_than_microsecond(text: str) -> bool:
    """Whether `parse_rfc3339` cut off digits that tell this instant from its neighbour."""
    match = _RFC3339.fullmatch(text)
    return bool(match and (match[3] or "")[_MICROSECOND_DIGITS:].strip("0"))


@lru_cache(maxsize=1024)
def to_text(instant: datetime) -> str:
    """Fixed-width UTC text with microseconds, `2026-11-20T12:00:00.000000Z`; sorts as time does."""
    # Remembered: the events of a request share an instant, and each text is needed twice.
    return instant.astimezone(UTC).isoformat(timespec="microseconds")[:-6] + "Z"


def from_text(text: str) -> datetime:
    """The instant that `to_text` wrote."""
    return datetime.fromisoformat(text)


def to_iso_ms(instant: datetime) -> str:
    """What the HTTP API answers with: UTC, milliseconds, `2026-11-20T12:00:00.000Z`."""
    return instant.astimezone(UTC).isoformat(timespec="milliseconds")[:-6] + "Z"
