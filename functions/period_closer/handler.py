"""Schedule: follow customers' subscriptions, and close the billing periods that have ended.

{}                                                  whatever is due
{"tenantId": "demo", "customerRefs": ["cus_ada"]}   some customers' ended periods, due or not

Retries belong to the schedule: what one run could not finish, the next one goes on with.
"""

import logging
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Protocol

from functions.invocation import invocation
from metering import wiring
from metering.errors import RetryableError
from metering.names import TenantId
from metering.ports import SetupError

log = logging.getLogger(__name__)

RESERVE = timedelta(seconds=20)
"""Nothing is begun with less time left: a step makes a few requests, of 13 seconds at most."""


class Context(Protocol):
    """What is used of Lambda's context."""

    def get_remaining_time_in_millis(self) -> int:
        """How much time the invocation has left."""
        ...


@invocation
def handler(event: Mapping[str, Any], context: Context) -> dict[str, Any]:
    """One run; answers what it did."""

    def has_time() -> bool:
        return timedelta(milliseconds=context.get_remaining_time_in_millis()) > RESERVE

    wired = wiring.current()
    try:
        if "tenantId" in event:
            asked = TenantId(event["tenantId"]), frozenset(event["customerRefs"])
            return {"closing": wired.closing.run_for(*asked, has_time)}
        told = {
            "holding": _hold_first(wired, has_time),
            "subscriptions": _follow_subscriptions(wired, has_time),
            "closing": wired.closing.run(has_time),
        }
        if "skipped" not in told["closing"]:
            wired.metrics.count("runs_total", function="period_closer")
        return told
    finally:
        wired.read_budget.flush()


def _hold_first(wired: wiring.Wiring, has_time: Any) -> dict[str, Any]:
    """What cannot be held now is held by the next run; all else is done all the same."""
    try:
        return wired.closing.hold_first(has_time)
    except RetryableError as error:
        log.warning("no draft is held first: %s", error)
        return {"skipped": str(error)}


def _follow_subscriptions(wired: wiring.Wiring, has_time: Any) -> dict[str, Any]:
    """Periods are closed all the same where subscriptions cannot be read."""
    try:
        return wired.subscription_sync.run(has_time)
    except (RetryableError, SetupError) as error:
        log.warning("subscriptions are not followed: %s", error)
        return {"skipped": str(error)}
