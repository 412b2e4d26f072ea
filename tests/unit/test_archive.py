"""The archiver over exports and windows of a few lines."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from metering.archive import (
    EVER,
    Archiver,
    ExportStatus,
    State,
    Window,
    archived_until,
    next_window,
)
from metering.errors import RetryableError
from metering.period import Span
from metering.telemetry import NO_METRICS
from tests.conftest import SetClock

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
START = datetime(2026, 11, 1, 3, 7, tzinfo=UTC)


class Place:
    """A table with backups of 35 days, its exports, and the windows."""

    def __init__(self) -> None:
        self.clock = SetClock(START)
        self.backups_since = START - 2 * HOUR
        self.windows: dict[datetime, Window] = {}
        self.asked: dict[str, tuple[Window, datetime]] = {}
        """By the attempt's token: asking twice is one export."""
        self.failures: dict[str, str] = {}
        self.running: set[str] = set()
        self.dies_after_asking = False
        self.before_adding: list[Any] = []

    # --- exports ---

    def restorable(self) -> Span:
        now = self.clock.now()
        return Span(max(self.backups_since, now - 35 * DAY), now - timedelta(minutes=5))

    def begin(self, window: Window, at: datetime) -> str:
        restorable = self.restorable()
        span = Span(at, at) if window.is_full else Span(window.start, window.end)
        assert restorable.start <= span.start <= span.end <= restorable.end
        assert window.is_full or timedelta(minutes=15) <= window.end - window.start <= DAY
        self.asked[window.token] = window, at
        if self.dies_after_asking:
            raise RetryableError("the connection broke")
        return window.token

    def status(self, export: str) -> ExportStatus:
        if export in self.running:
            return ExportStatus(is_running=True)
        if export in self.failures:
            return ExportStatus(is_running=False, failure=self.failures[export])
        return ExportStatus(is_running=False, manifest=f"{export}/manifest", entries=7)

    # --- windows ---

    def all(self) -> list[Window]:
        return [self.windows[start] for start in sorted(self.windows)]

    def add(self, window: Window) -> bool:
        for interfere in self.before_adding:
            interfere()
        return self.windows.setdefault(window.start, window) is window

    def change(self, before: Window, after: Window) -> bool:
        stands = self.windows[before.start]
        if (stands.state, stands.attempt) != (before.state, before.attempt):
            return False
        self.windows[before.start] = after
        return True

    # --- running ---

    def runs(self, after: timedelta = timedelta()) -> dict[str, Any]:
        self.clock.advance(after)
        return Archiver(self, self, NO_METRICS, self.clock).run()

    def is_tiled(self) -> bool:
        """No gap and no overlap, from ever to the newest window."""
        windows = self.all()
        return [one.start for one in windows] == [EVER, *(one.end for one in windows[:-1])]


@pytest.fixture
def place() -> Place:
    return Place()


def test_the_first_export_is_of_the_whole_ledger_and_the_next_of_a_days_changes(
    place: Place,
) -> None:
    first = place.runs()
    second = place.runs(after=DAY)
    place.runs(after=DAY)

    assert first == {
        "archived": "on",
        "until": None,
        "underWay": ["ever--2026-11-01T0300-full"],
        "repeated": [],
    }
    assert second == {
        "archived": "on",
        "until": "2026-11-01T03:00:00.000Z",
        "underWay": ["2026-11-01T0300--2026-11-02T0300"],
        "repeated": [],
    }
    assert [one.state for one in place.all()] == [State.DONE, State.DONE, State.EXPORTING]
    assert (place.all()[1].manifest, place.all()[1].entries) == (
        "2026-11-01T0300--2026-11-02T0300-1/manifest",
        7,
    )
    assert place.is_tiled()


def test_an_archiver_that_was_away_for_days_exports_each_of_them(place: Place) -> None:
    place.runs()
    place.runs(after=10 * DAY + 2 * HOUR)

    assert len(place.all()) == 1 + 10 + 1
    assert {one.end - one.start for one in place.all()[1:-1]} == {DAY}
    assert place.all()[-1].end == datetime(2026, 11, 11, 5, tzinfo=UTC)
    assert place.is_tiled()


def test_a_window_that_is_too_short_waits(place: Place) -> None:
    place.runs()
    assert place.runs(after=timedelta(minutes=50))["underWay"] == []
    assert place.runs(after=timedelta(minutes=10))["underWay"] == [
        "2026-11-01T0300--2026-11-01T0400"
    ]


def test_a_table_whose_backups_have_just_begun_waits_for_its_first_whole_hour(
    place: Place,
) -> None:
    place.backups_since = START - timedelta(minutes=6)

    assert place.runs()["underWay"] == []
    assert place.runs(after=HOUR)["underWay"] == ["ever--2026-11-01T0400-full"]


def test_a_failed_export_is_repeated_and_the_archive_ends_before_it_until_then(
    place: Place,
) -> None:
    place.runs()
    place.runs(after=DAY)
    place.failures["2026-11-01T0300--2026-11-02T0300-1"] = "AccessDenied: no such bucket"

    third = place.runs(after=DAY)
    fourth = place.runs(after=DAY)

    assert third["until"] == "2026-11-01T03:00:00.000Z"
    assert third["underWay"][0] == "2026-11-01T0300--2026-11-02T0300"
    assert third["repeated"] == ["2026-11-01T0300--2026-11-02T0300"]
    assert fourth["until"] == "2026-11-03T03:00:00.000Z"
    assert place.all()[1].attempt == 2
    assert place.all()[1].export == "2026-11-01T0300--2026-11-02T0300-2"
    assert place.is_tiled()


def test_an_export_under_way_is_left_alone(place: Place) -> None:
    place.runs()
    place.running.add("ever--2026-11-01T0300-full-1")

    again = place.runs(after=DAY)

    assert again["until"] is None
    assert len(place.asked) == 2


def test_a_run_that_died_after_asking_is_taken_up_with_the_same_token(place: Place) -> None:
    place.dies_after_asking = True
    with pytest.raises(RetryableError):
        place.runs()
    assert [one.state for one in place.all()] == [State.PLANNED]
    place.dies_after_asking = False

    place.runs(after=HOUR)

    assert place.all()[0].export == "ever--2026-11-01T0300-full-1"
    assert len(place.asked) == 2
    assert place.is_tiled()


def test_two_runs_at_once_make_one_window(place: Place) -> None:
    place.runs()
    place.clock.advance(2 * HOUR)

    def another_run() -> None:
        place.before_adding.clear()
        place.runs(after=HOUR)

    place.before_adding.append(another_run)
    place.runs()

    assert [token for token in place.asked if "ever" not in token] == [
        "2026-11-01T0300--2026-11-01T0600-1"
    ]
    assert place.is_tiled()


def test_what_the_backups_reach_no_more_is_exported_with_the_whole_ledger(place: Place) -> None:
    place.runs()
    place.runs(after=40 * DAY)
    last = place.runs(after=HOUR)

    assert [one.is_full for one in place.all()] == [True, True, False]
    assert place.is_tiled()
    assert last["until"] == "2026-12-11T03:00:00.000Z"


def test_a_window_that_failed_until_the_backups_reach_it_no_more_becomes_a_whole_export(
    place: Place,
) -> None:
    place.runs()
    place.runs(after=DAY)
    place.failures["2026-11-01T0300--2026-11-02T0300-1"] = "x"

    place.runs(after=35 * DAY)

    second = place.all()[1]
    window, at = place.asked[second.token]
    assert (second.is_full, window.end) == (True, datetime(2026, 11, 2, 3, tzinfo=UTC))
    assert at == place.restorable().start
    assert place.is_tiled()


def test_a_run_that_died_before_asking_is_taken_up_when_the_backups_reach_it_no_more(
    place: Place,
) -> None:
    place.runs()
    place.clock.advance(DAY)
    planned = next_window(place.all()[0], place.restorable())
    assert planned is not None
    assert place.add(planned)
    place.backups_since = place.clock.now() + 5 * HOUR  # the table was restored from a backup

    place.runs(after=DAY)

    second = place.all()[1]
    assert (second.state, second.is_full) == (State.EXPORTING, True)
    assert second.token == "2026-11-01T0300--2026-11-02T0300-full-1"
    assert place.is_tiled()


def window(first: int, last: int, state: State = State.DONE, *, full: bool = False) -> Window:
    day = datetime(2026, 11, 1, tzinfo=UTC)
    return Window(day + first * DAY, day + last * DAY, is_full=full, state=state)


def test_the_archive_ends_where_the_first_export_is_not_done() -> None:
    windows = [window(0, 1, full=True), window(1, 2, State.EXPORTING), window(2, 3)]

    assert archived_until([]) is None
    assert archived_until(windows[:1]) == windows[0].end
    assert archived_until(windows) == windows[0].end
    assert archived_until([*windows, window(3, 4, full=True)]) == windows[0].end + 3 * DAY


def test_no_window_is_longer_than_a_day_or_ends_within_an_hour() -> None:
    last = window(0, 1)
    restorable = Span(last.start, last.end + 30 * HOUR + timedelta(minutes=59))

    following = next_window(last, restorable)

    assert following == Window(last.end, last.end + DAY)
    assert next_window(following, restorable) == Window(following.end, following.end + 6 * HOUR)
