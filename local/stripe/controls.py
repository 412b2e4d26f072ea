"""What Stripe cannot be asked for: time, faults, settling, foreign events, a look inside.

All under `/_control`, in JSON, without a key. `local.stripe.control` is the client.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from local.stripe import (
    customers,
    error_reports,
    faults,
    invoice_life,
    meter_events,
    refusals,
    summaries,
)
from local.stripe.call import Call
from local.stripe.core import OK, StripeCore
from local.stripe.event_controls import EventControls
from local.stripe.faults import Fault, FaultKind
from local.stripe.refusals import RefusedError
from local.stripe.state import (
    CUSTOMER,
    DEFAULT_ACCOUNT,
    INVOICE,
    METER,
    Account,
    ClockMoved,
    MeterEvent,
    Put,
    Settled,
    Wiped,
)
from local.stripe.wire import Json, Request, Response

PREFIX = "/_control/"


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TimeMove(_Body):
    """One move of the stand-in's clock."""

    stand_at: datetime | None = None
    advance_s: float | None = Field(default=None, ge=0)
    run: bool = False
    follow: bool = False

    @model_validator(mode="after")
    def _one(self) -> Self:
        given = (self.stand_at is not None, self.advance_s is not None, self.run, self.follow)
        if sum(given) != 1:
            raise ValueError("give exactly one of stand_at, advance_s, run, follow")
        if self.stand_at is not None and self.stand_at.tzinfo is None:
            raise ValueError("stand_at needs an offset, such as 2026-11-20T12:00:00Z")
        return self


class SettingsChange(_Body):
    """The settings to change; see `local.stripe.state.Settings`."""

    summary_delay_s: float | None = Field(default=None, ge=0)
    identifier_memory_s: float | None = Field(default=None, ge=0)
    answer_after_s: float | None = Field(default=None, ge=0)
    decimals: bool | None = None
    negatives: bool | None = None
    zero_rows: bool | None = None
    asynchronous: frozenset[str] | None = None
    invoice_grace_s: int | None = Field(default=None, ge=0)
    clock_advance_s: float | None = Field(default=None, ge=0)
    clock_windows: bool | None = None
    report_samples: int | None = Field(default=None, ge=0)
    calls_per_s: int | None = Field(default=None, ge=0)
    webhooks_in_own_time: bool | None = None


class ForeignEvent(_Body):
    """A meter event that another writer sends."""

    event_name: str
    customer: str
    value: str
    timestamp: int | None = None
    identifier: str | None = None
    account: str = DEFAULT_ACCOUNT


class CustomerIds(_Body):
    """Customers that shall exist under chosen ids, which Stripe itself does not offer."""

    ids: list[str]
    account: str = DEFAULT_ACCOUNT


class InvoicesOf(_Body):
    """Whose invoices to look at."""

    customer: str | None = None
    account: str = DEFAULT_ACCOUNT


class PlannedFault(_Body):
    """A fault to plan; see `local.stripe.faults.Fault`."""

    kind: FaultKind
    times: int | None = Field(default=1, ge=1)
    method: str = "*"
    path: str = "*"
    delay_s: float = Field(default=0.0, ge=0)
    reason: str = "global-rate"

    @model_validator(mode="after")
    def _known_reason(self) -> Self:
        known = (*faults.RATE_LIMIT_REASONS, faults.LOCK_TIMEOUT)
        if self.reason not in known:
            raise ValueError(f"reason must be one of {', '.join(known)}")
        return self


class Controls:
    """The control calls over a core."""

    def __init__(self, core: StripeCore) -> None:
        self._core = core
        self._world = core.world
        self._routes: dict[tuple[str, str], Callable[[bytes], Json]] = {
            ("GET", "health"): self._health,
            ("POST", "reset"): self._reset,
            ("GET", "state"): self._state,
            ("GET", "time"): self._time,
            ("POST", "time"): self._move_time,
            ("POST", "settle"): self._settle,
            ("GET", "settings"): self._settings,
            ("POST", "settings"): self._change_settings,
            ("POST", "meter_events"): self._foreign_event,
            ("POST", "customers"): self._customers,
            ("POST", "invoices"): self._invoices,
            ("GET", "faults"): self._faults,
            ("POST", "faults"): self._plan_fault,
            ("DELETE", "faults"): self._clear_faults,
            ("GET", "totals"): self._totals,
            ("GET", "requests"): self._requests,
            **EventControls(core).routes,
        }

    def handle(self, request: Request) -> Response:
        """Answer one control call."""
        route = self._routes.get((request.method, request.path_only.removeprefix(PREFIX)))
        if route is None:
            calls = ", ".join(sorted(f"{method} {PREFIX}{name}" for method, name in self._routes))
            return _answer(404, {"error": f"no such control call; there are {calls}"})
        try:
            return _answer(OK, route(request.body))
        except ValidationError as error:
            wrong = error.errors(include_url=False, include_input=False, include_context=False)
            return _answer(
                400, {"error": "; ".join(f"{one['loc']}: {one['msg']}" for one in wrong)}
            )
        except RefusedError as error:
            return _answer(400, {"error": error.message})

    # --- all of it --------------------------------------------------------------------------------

    def _health(self, _: bytes) -> Json:
        return {"status": "ok"}

    def _reset(self, _: bytes) -> Json:
        self._core.faults.clear()
        self._core.log.clear()
        self._core.webhooks.forget()
        self._world.record(Wiped())
        return {}

    def _state(self, _: bytes) -> Json:
        accounts = self._world.accounts.values()
        return {
            "accounts": {account.id: _dumped(account) for account in accounts},
            **self._settings(b""),
            **self._time(b""),
            **self._faults(b""),
        }

    def _requests(self, _: bytes) -> Json:
        return {"requests": [asdict(line) for line in self._core.log]}

    # --- time and settings ------------------------------------------------------------------------

    def _time(self, _: bytes) -> Json:
        clock = self._world.clock
        return {
            "now": clock.now(),
            "stands": clock.stands,
            "ahead_s": clock.ahead.total_seconds(),
        }

    def _move_time(self, body: bytes) -> Json:
        move, clock = TimeMove.model_validate_json(body), self._world.clock
        if move.stand_at is not None:
            clock.stand_at(move.stand_at.astimezone(UTC))
        elif move.advance_s is not None:
            clock.advance(timedelta(seconds=move.advance_s))
        elif move.run:
            clock.run()
        else:
            clock.follow()
        self._world.record(ClockMoved(clock.offset, clock.now() if clock.stands else None))
        for account in self._world.accounts.values():
            self._core.catch_up(account, clock.now())
        return self._time(b"")

    def _settle(self, _: bytes) -> Json:
        self._world.record(Settled(self._world.clock.now()))
        for account in self._world.accounts.values():
            error_reports.report_all(self._world, account)
        return {}

    def _settings(self, _: bytes) -> Json:
        return {"settings": asdict(self._world.settings)}

    def _change_settings(self, body: bytes) -> Json:
        change = SettingsChange.model_validate_json(body).model_dump(exclude_none=True)
        self._world.settings = replace(self._world.settings, **change)
        return self._settings(b"")

    # --- usage ------------------------------------------------------------------------------------

    def _foreign_event(self, body: bytes) -> Json:
        event = ForeignEvent.model_validate_json(body)
        call = self._call(event.account, event.model_dump(exclude_none=True))
        identity = call.account.meter_of.get(event.event_name)
        if identity is None:
            raise refusals.no_such("active meter", event.event_name, param="event_name")
        meter = call.account.all(METER)[identity]
        payload = {
            meter["customer_mapping"]["event_payload_key"]: event.customer,
            meter["value_settings"]["event_payload_key"]: event.value,
        }
        identifier = meter_events.foreign(call, payload, event_name=event.event_name)
        return {"identifier": identifier}

    def _customers(self, body: bytes) -> Json:
        wanted = CustomerIds.model_validate_json(body)
        call = self._call(wanted.account, {})
        missing = [one for one in wanted.ids if call.account.get(CUSTOMER, one) is None]
        for identity in missing:
            self._world.record(Put(wanted.account, customers.blank(call, identity)))
        return {"created": len(missing)}

    def _invoices(self, body: bytes) -> Json:
        """Unlike the list that Stripe has: whole, oldest first, test clocks and all."""
        wanted = InvoicesOf.model_validate_json(body)
        call = self._call(wanted.account, {})
        self._core.catch_up(call.account, call.at)
        found = call.account.all(INVOICE).values()
        whole = [
            invoice_life.shown(call, one) | {"lines": invoice_life.current(call, one)["lines"]}
            for one in found
            if wanted.customer in (None, one["customer"])
        ]
        return {"invoices": whole}

    def _call(self, account: str, params: Json) -> Call:
        return Call(
            world=self._world,
            account=self._world.account(account),
            at=self._world.clock.now(),
            params=params,
            path=PREFIX,
        )

    def _totals(self, _: bytes) -> Json:
        at = self._world.clock.now()
        accounts = self._world.accounts.values()
        return {"totals": [line for account in accounts for line in _totals(account, at)]}

    # --- faults -----------------------------------------------------------------------------------

    def _faults(self, _: bytes) -> Json:
        return {"faults": [asdict(fault) for fault in self._core.faults.planned()]}

    def _plan_fault(self, body: bytes) -> Json:
        planned = PlannedFault.model_validate_json(body)
        self._core.faults.add(Fault(**planned.model_dump()))
        return self._faults(b"")

    def _clear_faults(self, _: bytes) -> Json:
        self._core.faults.clear()
        return self._faults(b"")


def _answer(status: int, content: Json) -> Response:
    body = json.dumps(content, default=_plain, ensure_ascii=False).encode()
    return Response(status, {"Content-Type": "application/json"}, body)


def _plain(value: object) -> object:
    match value:
        case datetime():
            return value.isoformat()
        case Decimal():
            return format(value, "f")
        case frozenset():
            return sorted(value)
        case _:
            raise TypeError(f"{type(value).__name__} has no JSON form here")


def _dumped(account: Account) -> Json:
    return {
        "objects": {kind: list(found.values()) for kind, found in account.objects.items() if found},
        "meter_events": [asdict(event) for event in sorted(account.events(), key=_receipt)],
        "rejections": [asdict(rejection) for rejection in account.rejections],
        "idempotency_keys": list(account.answers),
    }


def _receipt(event: MeterEvent) -> int:
    return event.number


def _totals(account: Account, at: datetime) -> Iterator[dict[str, Any]]:
    """Per meter and customer: all that counts or will, and what of it shows in summaries now."""
    for key, stream in account.streams.items():
        meter = account.all(METER)[key.meter]
        lasting = [event for event in stream if event.cancelled_from is None]
        shown = summaries.counted(account, key, at, start=0, end=summaries.END_OF_TIME)
        yield {
            "account": account.id,
            "meter": key.meter,
            "event_name": meter["event_name"],
            "customer": key.customer,
            "events": len(lasting),
            "total": summaries.aggregated(meter, lasting),
            "shown": summaries.aggregated(meter, shown),
        }
