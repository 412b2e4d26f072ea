"""The ledger's archive: exports to S3, one window of time after the other, without a gap.

A window begins where the one before ended, and stands in the table under its start before its
export is asked for. So two runs at once choose the same window and one of them has it; a run that
died is taken up by the next; and a window whose export failed is exported again, not left out.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple

from metering import times
from metering.period import Span

if TYPE_CHECKING:
    from metering.ports import ArchiveWindows, Clock, Exports, Metrics

log = logging.getLogger(__name__)

EVER = datetime(1970, 1, 1, tzinfo=UTC)
"""Before any event."""
SHORTEST = timedelta(minutes=15)
LONGEST = timedelta(hours=24)
"""Of an incremental export. Source: AWS, "DynamoDB data export to Amazon S3"."""


class State(StrEnum):
    """How far a window's export is."""

    PLANNED = "planned"
    """To be asked for, or asked for by a run that died before it could say so."""
    EXPORTING = "exporting"
    DONE = "done"


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of time, `[start, end)`, whose changes of the ledger one export holds."""

    start: datetime
    end: datetime
    is_full: bool = False
    """Its export is of the whole ledger: what came before is in it again."""
    state: State = State.PLANNED
    attempt: int = 1
    export: str = ""
    """The export's ARN, once it is known."""
    manifest: str = ""
    """The object that lists the files, once it is done."""
    entries: int = 0
    billed_bytes: int = 0

    @property
    def name(self) -> str:
        """Where its files stand, under the archive's prefix."""
        start = "ever" if self.start == EVER else f"{self.start:%Y-%m-%dT%H%M}"
        return f"{start}--{self.end:%Y-%m-%dT%H%M}{'-full' if self.is_full else ''}"

    @property
    def is_repeated(self) -> bool:
        """Whether its export has failed and not come to its end since."""
        return self.attempt > 1 and self.state is not State.DONE

    @property
    def token(self) -> str:
        """What makes asking twice for the same attempt one export."""
        return f"{self.name}-{self.attempt}"


class ExportStatus(NamedTuple):
    """What DynamoDB says of an export."""

    is_running: bool
    failure: str = ""
    """Why it failed; empty otherwise."""
    manifest: str = ""
    entries: int = 0
    billed_bytes: int = 0


def next_window(last: Window | None, restorable: Span) -> Window | None:
    """The window that may be exported now; None while it is too short.

    It ends at a whole hour. What the table's backups do not reach back to any more cannot be
    exported as changes: then the whole ledger is, which has lost nothing.
    """
    end = restorable.end.replace(minute=0, second=0, microsecond=0)
    if last is None or last.end < restorable.start:
        start = last.end if last else EVER
        return Window(start, end, is_full=True) if end >= restorable.start else None
    end = min(end, last.end + LONGEST)
    return Window(last.end, end) if end - last.end >= SHORTEST else None


def archived_until(windows: Sequence[Window]) -> datetime | None:
    """Up to when every entry is in a whole export; None while nothing is."""
    until, is_unbroken = None, True
    for window in windows:
        is_done = window.state is State.DONE
        is_unbroken = is_done and (is_unbroken or window.is_full)
        until = window.end if is_unbroken else until
    return until


class Archiver:
    """Exports what can be exported, and looks after what was begun before."""

    def __init__(
        self,
        exports: "Exports",
        windows: "ArchiveWindows",
        metrics: "Metrics",
        clock: "Clock",
    ) -> None:
        self._exports = exports
        self._windows = windows
        self._metrics = metrics
        self._clock = clock

    def run(self) -> dict[str, Any]:
        """Follow up earlier exports and begin the next ones; answers how far the archive is.

        Raises:
            SetupError: the table has no backups to export from.
            RetryableError: DynamoDB cannot answer now; the next run goes on where this one ended.
        """
        restorable = self._exports.restorable()
        windows = [self._follow(one, restorable) for one in self._windows.all()]
        while window := next_window(windows[-1] if windows else None, restorable):
            if not self._windows.add(window):
                break  # Another run is at it.
            windows.append(self._begin(window, restorable))
        return self._tell(windows)

    def _follow(self, window: Window, restorable: Span) -> Window:
        match window.state:
            case State.DONE:
                return window
            case State.PLANNED:
                return self._begin(window, restorable)
            case State.EXPORTING:
                return self._look(window, restorable)

    def _look(self, window: Window, restorable: Span) -> Window:
        status = self._exports.status(window.export)
        if status.is_running:
            return window
        if status.failure:
            return self._repeat(window, status.failure, restorable)
        done = replace(
            window,
            state=State.DONE,
            manifest=status.manifest,
            entries=status.entries,
            billed_bytes=status.billed_bytes,
        )
        self._windows.change(window, done)
        return done

    def _repeat(self, window: Window, failure: str, restorable: Span) -> Window:
        log.error("export %s of the ledger failed and is repeated: %s", window.export, failure)
        self._metrics.count("archive_exports_failed_total")
        again = replace(
            window,
            state=State.PLANNED,
            attempt=window.attempt + 1,
            export="",
        )
        return self._begin(again, restorable) if self._windows.change(window, again) else window

    def _begin(self, window: Window, restorable: Span) -> Window:
        # The backups may reach it no more: it waited for long, or the table was restored from one.
        wanted = replace(window, is_full=window.is_full or window.start < restorable.start)
        # Of the whole ledger any later moment serves as well: an entry never changes.
        at = max(window.end, restorable.start)
        begun = replace(wanted, state=State.EXPORTING, export=self._exports.begin(wanted, at))
        self._windows.change(window, begun)
        return begun

    def _tell(self, windows: Sequence[Window]) -> dict[str, Any]:
        until = archived_until(windows)
        if until is not None:
            lag = self._clock.now() - until
            self._metrics.gauge("archive_lag_seconds", lag / timedelta(seconds=1))
        told = {
            "archived": "on",
            "until": times.to_iso_ms(until) if until else None,
            "underWay": [one.name for one in windows if one.state is not State.DONE],
            "repeated": [one.name for one in windows if one.is_repeated],
        }
        log.info("archive: %s", told)
        return told
