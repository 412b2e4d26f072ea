"""From Stripe's notices of meter errors to suspicions that the reconciler settles."""

import logging
from itertools import islice
from typing import NamedTuple

from metering.error_report import MeterErrorReport, suspicions_of
from metering.errors import NotFoundError, RetryableError
from metering.notice import Notice, NoticeKind
from metering.ports import MeterErrorReports, Notices, SetupError, Suspects

log = logging.getLogger("metering.suspects")

REPORTS_MAX = 100
"""Reports read in one run; each is a read at Stripe, and reads are rationed."""


class Collected(NamedTuple):
    """What one run found."""

    reports: int = 0
    """Reports read at Stripe, one request each."""
    suspicions: int = 0
    foreign: int = 0
    """Errors of meter events that somebody else has sent."""


def collect(
    notices: Notices,
    reports: MeterErrorReports,
    suspects: Suspects,
    *,
    reports_max: int = REPORTS_MAX,
) -> Collected:
    """Read the reports that waiting notices name, and keep what they make us doubt.

    Reports that Stripe cannot show now are left for the next run: a suspicion only tells where to
    look first, and whoever called goes on without it. What was read twice is kept once.
    """
    found = Collected()
    waiting = notices.waiting(NoticeKind.METER, NoticeKind.METER_ERRORS)
    try:
        for notice in list(islice(waiting, reports_max)):
            found = _add(found, _follow(notice, reports, suspects))
            notices.done(notice)
    except (RetryableError, SetupError) as trouble:
        log.warning("reports of meter errors are left for the next run: %s", trouble)
    return found


def _add(one: Collected, other: Collected) -> Collected:
    return Collected(*map(sum, zip(one, other, strict=True)))


def _follow(notice: Notice, reports: MeterErrorReports, suspects: Suspects) -> Collected:
    if notice.kind is NoticeKind.METER:
        # The reconciler reads every meter anew in each run; a person may want to know sooner.
        log.warning("%s: %s %s", notice.id, notice.type, notice.object_id)
        return Collected()
    try:
        report = reports.report(notice.object_id, notice.account)
    except NotFoundError as gone:
        log.warning("%s: %s; what it reported is left to reconciliation", notice.id, gone)
        return Collected(reports=1)
    return _suspect(report, notice, suspects)


def _suspect(report: MeterErrorReport, notice: Notice, suspects: Suspects) -> Collected:
    suspicions = list(suspicions_of(report, notice))
    suspects.add(suspicions)
    foreign = sum(error.foreign for error in report.errors)
    for error in report.errors:
        log.warning(
            "Stripe did not count %d meter events of %s: %s; %d are pushes, %d foreign",
            error.count,
            report.meter_id or "no meter",
            error.code,
            len(error.ours),
            error.foreign,
        )
    return Collected(1, len(suspicions), foreign)
