"""Schedule: advance rebuilds under way. With a `tenantId`: request one.

{"tenantId": "demo"}    open the tenant's next epoch
{}                      take every rebuild as far as time allows
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from metering import times, wiring
from metering.names import TenantId
from metering.rebuild import RebuildReport


def handler(event: Mapping[str, Any], context: object) -> dict[str, Any]:
    """Request a rebuild or advance those under way; answers their states."""
    rebuilder = wiring.current().rebuilder
    tenant = event.get("tenantId")
    if tenant:
        return {"rebuilds": [_told(rebuilder.request(TenantId(tenant)))]}
    return {"rebuilds": [_told(report) for report in rebuilder.advance()]}


def _told(report: RebuildReport) -> dict[str, Any]:
    return asdict(report) | {"cut_at": times.to_text(report.cut_at)}
