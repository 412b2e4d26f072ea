"""The client of the control calls, for tests, the demo and the local stack."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import httpx

from local.stripe.faults import FaultKind, WebhookFaultKind
from local.stripe.state import DEFAULT_ACCOUNT

if TYPE_CHECKING:
    from stripe._base_address import BaseAddresses

TIMEOUT_S = 30.0


class ControlError(Exception):
    """A control call was refused; the message says why."""


@dataclass(frozen=True, slots=True)
class Total:
    """A customer's usage of a meter."""

    account: str
    meter: str
    event_name: str
    customer: str
    events: int
    total: Decimal
    """Of all events that count or will."""
    shown: Decimal
    """Of those that summaries show by now."""


class StandIn:
    """A running stand-in, at its URL."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._http = httpx.Client(base_url=f"{url}/_control/", timeout=TIMEOUT_S, trust_env=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give back the connection."""
        self._http.close()

    def base_addresses(self) -> "BaseAddresses":
        """For `StripeClient(base_addresses=…)`: every host of Stripe, so that none is real."""
        url = self.url
        return {"api": url, "connect": url, "files": url, "meter_events": url}

    # --- state --------------------------------------------------------------------------------

    def reset(self) -> None:
        """Forget every object, event, key and fault; settings and time stay."""
        self._call("POST", "reset")

    def state(self) -> dict[str, Any]:
        """Everything there is, for looking at."""
        return self._call("GET", "state")

    def requests(self) -> list[dict[str, Any]]:
        """The last 1,000 requests with their answers' status, oldest first."""
        return list(self._call("GET", "requests")["requests"])

    def totals(self, *, account: str = DEFAULT_ACCOUNT) -> dict[tuple[str, str], Total]:
        """By event name and customer; deactivated meters of the same event name are left out."""
        found = (_total(line) for line in self._call("GET", "totals")["totals"])
        return {(one.event_name, one.customer): one for one in found if one.account == account}

    def total(self, event_name: str, customer: str, *, account: str = DEFAULT_ACCOUNT) -> Decimal:
        """What a customer used, 0 when nothing was ever reported."""
        found = self.totals(account=account).get((event_name, customer))
        return found.total if found else Decimal(0)

    def add_customers(self, ids: Sequence[str], *, account: str = DEFAULT_ACCOUNT) -> int:
        """Let customers exist under chosen ids; how many were new."""
        body = {"ids": list(ids), "account": account}
        return int(self._call("POST", "customers", body)["created"])

    def send_foreign_event(
        self, event_name: str, customer: str, value: str, **more: str | int
    ) -> str:
        """Let another writer send a meter event; its identifier.

        `timestamp`, `identifier` and `account` may be given.
        """
        body = {"event_name": event_name, "customer": customer, "value": value, **more}
        return str(self._call("POST", "meter_events", body)["identifier"])

    def invoices(
        self, customer: str | None = None, *, account: str = DEFAULT_ACCOUNT
    ) -> list[dict[str, Any]]:
        """The invoices with all their lines as of now, oldest first; those on test clocks too."""
        body = {"customer": customer, "account": account}
        return list(self._call("POST", "invoices", body)["invoices"])

    # --- time and settings ----------------------------------------------------------------------

    def now(self) -> datetime:
        """The stand-in's present instant."""
        return _instant(self._call("GET", "time"))

    def ahead(self) -> timedelta:
        """How far the stand-in's time is ahead of the machine's."""
        return timedelta(seconds=self._call("GET", "time")["ahead_s"])

    def stand_at(self, instant: datetime) -> datetime:
        """Stop the stand-in's clock at an instant."""
        return _instant(self._call("POST", "time", {"stand_at": instant.isoformat()}))

    def advance(self, by: timedelta) -> datetime:
        """Move the stand-in's clock on."""
        return _instant(self._call("POST", "time", {"advance_s": by.total_seconds()}))

    def run(self) -> datetime:
        """Let a stopped clock run on from where it stands."""
        return _instant(self._call("POST", "time", {"run": True}))

    def follow(self) -> datetime:
        """Let the clock tell the machine's time again."""
        return _instant(self._call("POST", "time", {"follow": True}))

    def settle(self) -> None:
        """Aggregate at once whatever was received."""
        self._call("POST", "settle")

    def set(self, **settings: object) -> dict[str, Any]:
        """Change settings, such as `summary_delay_s=60`; see `local.stripe.state.Settings`."""
        return dict(self._call("POST", "settings", settings)["settings"])

    # --- webhooks, keys, legacy prices ----------------------------------------------------------

    def deliveries(self) -> dict[str, list[dict[str, Any]]]:
        """The last 1,000 `attempts` at a webhook, oldest first, and those still `pending`."""
        return self._call("GET", "deliveries")

    def eventbridge(self) -> list[dict[str, Any]]:
        """What Amazon EventBridge was handed since the last time, as its rules see it."""
        return list(self._call("POST", "eventbridge")["envelopes"])

    def plan_webhook(self, kind: WebhookFaultKind, **more: object) -> None:
        """Let something go wrong with coming webhooks.

        `times` (None: until cleared), `type` and `destination` (with `*`), `delay_s`.
        """
        self._call("POST", "webhook_faults", {"kind": kind, **more})

    def clear_webhook_faults(self) -> None:
        """Let every webhook arrive again."""
        self._call("DELETE", "webhook_faults")

    def roll_secret(
        self, endpoint: str, *, keep_old_s: float = 86_400, account: str = DEFAULT_ACCOUNT
    ) -> str:
        """Give an endpoint a new secret; until the old one ends, both sign."""
        body = {"endpoint": endpoint, "keep_old_s": keep_old_s, "account": account}
        return str(self._call("POST", "webhook_secrets", body)["secret"])

    def rule_key(self, key: str, **rule: object) -> None:
        """Say what an API key may do: `scopes`, `revoked`, `account`, `connected`."""
        self._call("POST", "keys", {"key": key, **rule})

    def add_legacy_price(self, **more: object) -> str:
        """A metered price without a meter, at a `unit_amount_decimal`; its identity.

        `interval`, `aggregate_usage`, `currency`, `product_name` and `account` may be given.
        """
        return str(self._call("POST", "legacy_prices", more)["id"])

    # --- faults -------------------------------------------------------------------------------

    def plan(self, kind: FaultKind, **more: object) -> None:
        """Let something go wrong with coming requests.

        `times` (None: until cleared), `method`, `path` (with `*`), `delay_s`, `reason`.
        """
        self._call("POST", "faults", {"kind": kind, **more})

    def clear_faults(self) -> None:
        """Let everything go well again."""
        self._call("DELETE", "faults")

    def planned_faults(self) -> list[dict[str, Any]]:
        """The faults still to come."""
        return list(self._call("GET", "faults")["faults"])

    @contextmanager
    def outage(self, kind: FaultKind = FaultKind.DROP_BEFORE) -> Iterator[None]:
        """Nothing gets through while this lasts; then all planned faults are cleared."""
        self.plan(kind, times=None)
        try:
            yield
        finally:
            self.clear_faults()

    def _call(
        self, method: str, name: str, body: Mapping[str, object] | None = None
    ) -> dict[str, Any]:
        answer = self._http.request(method, name, json=body)
        content: dict[str, Any] = answer.json()
        if answer.is_error:
            raise ControlError(f"{method} /_control/{name}: {content['error']}")
        return content


def _instant(answer: Mapping[str, Any]) -> datetime:
    return datetime.fromisoformat(answer["now"])


def _total(line: Mapping[str, Any]) -> Total:
    exact = {name: Decimal(line[name]) for name in ("total", "shown")}
    return Total(**{**line, **exact})
