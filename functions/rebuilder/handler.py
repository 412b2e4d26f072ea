"""Schedule: advance rebuilds under way. With a `tenantId`: request one.

{"tenantId": "demo"}    open the tenant's next epoch
{}                      take every rebuild as far as time allows
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from functions.invocation import invocation
from metering import times, wiring
from metering.names import TenantId
from metering.rebuild import RebuildReport


@invocation
def handler(event: Mapping[str, Any], context: object) -> dict[str, Any]:
    """Request a rebuild or advance those under way; answers their states."""
    wired = wiring.current()
    tenant = event.get("tenantId")
    if tenant:
        return {"rebuilds": [_told(wired.rebuilder.request(TenantId(tenant)))]}
    reports = wired.rebuilder.advance()
    wired.metrics.count("runs_total", function="rebuilder")
    return {"rebuilds": [_told(report) for report in reports]}


def _told(report: RebuildReport) -> dict[str, Any]:
    return asdict(report) | {"cut_at": times.to_text(report.cut_at)}
