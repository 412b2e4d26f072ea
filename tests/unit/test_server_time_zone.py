"""Where a server's own clock stands must not matter: all times are UTC, wherever it is."""

import time
from collections.abc import Iterator
from datetime import date, timedelta

import pytest

from metering.read_budget import _day
from metering.times import parse_rfc3339, to_iso_ms, to_text
from tests.builders import NOON


@pytest.fixture
def in_tokyo(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "JST-9")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("in_tokyo")
def test_instants_are_read_written_and_counted_in_utc() -> None:
    evening = NOON + timedelta(hours=6, microseconds=1000)

    assert to_text(evening) == "2026-11-20T18:00:00.001000Z"
    assert to_iso_ms(evening) == "2026-11-20T18:00:00.001Z"
    assert _day(evening) == date(2026, 11, 20)
    assert str(parse_rfc3339("2026-11-20T18:00:00+01:00")) == "2026-11-20 17:00:00+00:00"
