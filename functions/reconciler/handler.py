"""Schedule: compare ledger, counters, pushes and Stripe, and keep the reports.

{}                                                        every tenant, periods that are open
{"tenantId": "demo", "period": "2026-11", "verify": true}   one report, everything read anew
"""

import logging
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Protocol

from metering import wiring
from metering.errors import RetryableError
from metering.names import TenantId
from metering.reconciler import READS_MAX
from metering.reconciliation import Report, Status

log = logging.getLogger(__name__)

RESERVE = timedelta(seconds=60)
"""No report is begun with less time left."""


class Context(Protocol):
    """What is used of Lambda's context."""

    def get_remaining_time_in_millis(self) -> int:
        """How much time the invocation has left."""
        ...


def handler(event: Mapping[str, Any], context: Context) -> dict[str, Any]:
    """Make reports; answers what each found, and for whom there was no time."""
    wired = wiring.current()
    tenants = [TenantId(event["tenantId"])] if "tenantId" in event else wired.settings.tenants()
    verify = bool(event.get("verify", False))
    reads_max = int(event.get("readsMax", READS_MAX))
    reports, left = [], []
    asked = [(tenant, month) for tenant in tenants for month in _months(event, tenant)]
    for tenant, month in sorted(asked, key=lambda one: one[1], reverse=True):
        if context.get_remaining_time_in_millis() < RESERVE / timedelta(milliseconds=1):
            left.append([tenant, month])
            continue
        try:
            reports.append(
                _told(wired.reconciler.run(tenant, month, verify=verify, reads_max=reads_max))
            )
        except RetryableError as error:
            log.warning("no report of %s for %s: %s", month, tenant, error)
            left.append([tenant, month])
    return {"reports": reports, "left": left}


def _months(event: Mapping[str, Any], tenant: TenantId) -> list[str]:
    if "period" in event:
        return [event["period"]]
    return wiring.current().reconciler.months(tenant)


def _told(report: Report) -> dict[str, Any]:
    unsettled = [row for row in report.rows if row.status is Status.INVESTIGATE]
    causes = sorted({finding.cause for row in unsettled for finding in row.findings})
    told = {
        "tenantId": report.tenant,
        "period": report.month,
        "id": report.id,
        "rows": len(report.rows),
        "investigate": len(unsettled),
        "causes": causes,
        "stripeReads": report.stripe_reads,
        "repairs": len(report.repairs),
        "proposals": len(report.proposals),
    }
    log.info("reconciliation: %s", told)
    return told
