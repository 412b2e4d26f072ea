"""Schedule: compare ledger, counters, pushes and Stripe, and keep the reports.

{}                                                        every tenant, periods that are open
{"tenantId": "demo", "period": "2026-11", "verify": true}   one report, everything read anew
{"tenantId": "demo", "customerRefs": ["cus_ada"]}           some customers; others' rows stand
"""

import logging
from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Any, Protocol

from functions.invocation import invocation
from metering import wiring
from metering.errors import RetryableError
from metering.names import TenantId
from metering.parity import differences, shadowed_rows
from metering.ports import SetupError
from metering.reconciler import READS_MAX, Reconciler
from metering.reconciliation import Report, Status
from metering.shadow import NO_KEY

log = logging.getLogger(__name__)

RESERVE = timedelta(seconds=60)
"""No report is begun with less time left."""


class Context(Protocol):
    """What is used of Lambda's context."""

    def get_remaining_time_in_millis(self) -> int:
        """How much time the invocation has left."""
        ...


@invocation
def handler(event: Mapping[str, Any], context: Context) -> dict[str, Any]:
    """Make reports; answers what each found, and for whom there was no time."""
    wired = wiring.current()
    tenants = [TenantId(event["tenantId"])] if "tenantId" in event else wired.settings.tenants()
    asked = [(tenant, month) for tenant in tenants for month in _months(event, tenant)]
    told = _reports(wired.reconciler, asked, event, context)
    if "tenantId" not in event and not told["left"]:
        # Whose report could not be made would else go unnoticed for as long as that lasts.
        wired.metrics.count("runs_total", function="reconciler")
    shadow = _shadow(asked, event, context)
    return told if shadow is None else told | {"shadow": shadow}


type _Asked = Sequence[tuple[TenantId, str]]


def _reports(
    reconciler: Reconciler, asked: _Asked, event: Mapping[str, Any], context: Context
) -> dict[str, Any]:
    verify = bool(event.get("verify", False))
    reads_max = int(event.get("readsMax", READS_MAX))
    customers = frozenset(event["customerRefs"]) if "customerRefs" in event else None
    run = partial(reconciler.run, verify=verify, reads_max=reads_max, customers=customers)
    reports, left = [], []
    for tenant, month in sorted(asked, key=lambda one: one[1], reverse=True):
        if context.get_remaining_time_in_millis() < RESERVE / timedelta(milliseconds=1):
            left.append([tenant, month])
            continue
        try:
            reports.append(_told(run(tenant, month)))
        except RetryableError as error:
            log.warning("no report of %s for %s: %s", month, tenant, error)
            left.append([tenant, month])
    return {"reports": reports, "left": left}


def _shadow(asked: _Asked, event: Mapping[str, Any], context: Context) -> dict[str, Any] | None:
    """The same for test accounts, in the time that is left; None where nobody has a shadow.

    Whatever goes wrong is logged and told, and never raised: the primary's reports are made.
    """
    wired = wiring.current()
    shadowed = [one for one in asked if _has_shadow(one[0])]
    if not shadowed:
        return None
    try:
        reconciler = wired.shadow_reconciler
        if reconciler is None:
            return {"skipped": NO_KEY}
        told = _reports(reconciler, shadowed, event, context)
        differing = sum(_differing(*one) for one in shadowed)
    except SetupError as error:
        log.warning("no reports of the shadow: %s", error)
        return {"skipped": str(error)}
    except Exception as error:
        log.exception("the shadow's reports failed; the primary's are made")
        return {"failed": str(error)}
    wired.metrics.gauge("shadow_differs_rows", differing)
    return told | {"differing": differing}


def _has_shadow(tenant: TenantId) -> bool:
    mappings = wiring.current().settings_store.mappings(tenant)
    return any(mapping.active and mapping.shadow for mapping in mappings)


def _differing(tenant: TenantId, month: str) -> int:
    """How many rows the primary and the shadow were told different numbers of."""
    wired = wiring.current()
    primary, shadow = (one.latest(tenant, month) for one in (wired.reports, wired.shadow_reports))
    if primary is None or shadow is None:
        return 0
    found = list(differences(primary.rows, shadowed_rows(shadow)))
    for one in found:
        whose = (one.counter.metric, one.counter.customer, f"{one.period.start:%Y-%m-%d}")
        log.warning("shadow of %s of %s from %s: %s", *whose, one.explanation)
    return len(found)


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
