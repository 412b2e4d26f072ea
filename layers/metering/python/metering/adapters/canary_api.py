"""The canary's way in: the deployment's own public API, with a key as any customer has one."""

import json
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode, urlsplit

from metering import times
from metering.adapters.secret_store import read_secret
from metering.adapters.stripe_key import is_loopback
from metering.cache import ShortCache
from metering.canary import CUSTOMER, METRIC, SLOT, Slot, Taken
from metering.config import Config
from metering.errors import RetryableError
from metering.keys import digest
from metering.ports import Clock, SetupError
from metering.reconciliation import DRIFT

TIMEOUT_S = 10.0
"""Of one call; ingest answers within milliseconds when it is warm."""
KEY_KEPT_FOR = timedelta(minutes=4)
"""Less than a schedule's interval: every run reads it anew, and knows one that was rotated."""
EVENTS_MAX = 500
"""Of one request; the API takes 1,000."""
_NOT_NOW = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})


class HttpsCanaryApi:
    """The `CanaryApi` port over HTTPS, with the standard library's client."""

    def __init__(self, config: Config, clock: Clock) -> None:
        self._config = config
        self._keys: ShortCache[str, str] = ShortCache(clock, KEY_KEPT_FOR)
        self._base = _checked(config.canary_api_url or "")
        self._customer = config.canary_customer

    def send(self, slots: Sequence[Slot]) -> list[Taken]:
        """See `CanaryApi.send`."""
        key = self._key()
        taken: list[Taken] = []
        for start in range(0, len(slots), EVENTS_MAX):
            some = slots[start : start + EVENTS_MAX]
            body = {"events": [self._event(slot) for slot in some]}
            answer = self._call("POST", "/v1/events/ingest", key, body=body)
            taken += [
                Taken(slot, result["status"], result.get("late", False))
                for slot, result in zip(some, answer["results"], strict=True)
            ]
        return taken

    def daily(self, first: datetime, last: datetime) -> dict[date, Decimal]:
        """See `CanaryApi.daily`."""
        query = {
            "customerRef": self._customer,
            "metric": METRIC,
            "periodStart": times.to_iso_ms(first),
            "periodEnd": times.to_iso_ms(last + SLOT),
            "step": "day",
        }
        answer = self._call("GET", f"/v1/usage/history?{urlencode(query)}", self._key())
        return {
            times.parse_rfc3339(one["ts"]).date(): Decimal(one["value"]) for one in answer["usage"]
        }

    def stripe_difference(self, month: str) -> Decimal | None:
        """See `CanaryApi.stripe_difference`."""
        if self._customer == CUSTOMER:
            return None
        answer = self._call("GET", f"/v1/reconciliation/{month}", self._key(), may_be_absent=True)
        rows = [row for row in answer.get("reports", ()) if self._is_told(row)]
        drifts = [
            finding["amount"]
            for row in rows
            for finding in row["findings"]
            if finding["cause"] in DRIFT and not finding["isSettled"]
        ]
        return max(drifts, key=abs, default=Decimal(0)) if rows else None

    def _is_told(self, row: Mapping[str, Any]) -> bool:
        """Whether a row of a report is about our event's counter, and Stripe was asked for it."""
        is_ours = (row["metric"], row["customerRef"]) == (METRIC, self._customer)
        return is_ours and row["stripeTotal"] is not None

    def _event(self, slot: Slot) -> dict[str, str]:
        return {
            "metric": METRIC,
            "customerRef": self._customer,
            "quantity": str(slot.quantity),
            "ts": times.to_iso_ms(slot.start),
            # Another customer's event is another event, also in the same slot.
            "idempotencyKey": f"{slot.key}-{digest(self._customer, size=4).hex()}",
        }

    def _key(self) -> str:
        name = self._config.canary_key_name or ""
        return self._config.canary_key or self._keys.get(
            name, lambda: read_secret(name, "the canary's key")
        )

    def _call(
        self,
        method: str,
        path: str,
        key: str,
        *,
        body: object = None,
        may_be_absent: bool = False,
    ) -> Any:
        content = None if body is None else json.dumps(body).encode()
        headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
        request = urllib.request.Request(  # noqa: S310 (its scheme was checked)
            self._base + path, content, headers, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310
                return json.loads(answer.read(), parse_float=Decimal, parse_int=Decimal)
        except urllib.error.HTTPError as refused:
            if may_be_absent and refused.code == HTTPStatus.NOT_FOUND:
                return {}
            raise _refusal(refused, f"{method} {path.partition('?')[0]}") from None
        except OSError as unreachable:
            raise RetryableError(f"{self._base} cannot be reached: {unreachable}") from unreachable


def _refusal(refused: urllib.error.HTTPError, what: str) -> Exception:
    with refused:
        said = refused.read(1000).decode(errors="replace")
    text = f"{what} was answered {refused.code}: {said}"
    is_ours = refused.code < HTTPStatus.INTERNAL_SERVER_ERROR and refused.code not in _NOT_NOW
    if not is_ours:
        return RetryableError(text)
    return SetupError(
        f"{text}; if the canary has no key of its own yet, `stripemeter canary` makes one"
    )


def _checked(url: str) -> str:
    """The API's address.

    Raises:
        SetupError: a key would be sent over the network as plain text.
    """
    address = urlsplit(url)
    is_safe = address.scheme == "https" or (
        address.scheme == "http" and is_loopback(address.hostname or "")
    )
    if not is_safe:
        raise SetupError(f"CANARY_API_URL must be https, or http on loopback, not {url!r}")
    return url.rstrip("/")
