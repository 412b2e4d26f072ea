"""The stand-in as one function: a request in, a response out; nothing is read but a given clock.

A transport (the server, a test, a simulation) hands over requests one at a time and then carries
the response as it says: after a delay, or not at all.
"""

import base64
import binascii
import re
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from local.stripe import error_reports, idempotency, refusals, renewals, routes, scopes, v2
from local.stripe.call import Call
from local.stripe.clock import SettableClock
from local.stripe.deliveries import Deliveries, Delivery
from local.stripe.expand import expanded
from local.stripe.faults import Fault, FaultKind, FaultPlan
from local.stripe.refusals import RefusedError
from local.stripe.state import (
    DEFAULT_ACCOUNT,
    Account,
    Answered,
    Cause,
    Settings,
    StoredAnswer,
    World,
)
from local.stripe.wire import API_VERSION, Raw, Request, Response, decode_form, encode

OK = 200
LOG_LENGTH = 1_000
_SECOND = timedelta(seconds=1)

_TEST_KEY = re.compile(r"(?:sk|rk)_test_\w+", re.ASCII)
_ACCOUNT = re.compile(r"acct_\w+", re.ASCII)
_EXECUTION_FAULTS = (FaultKind.ERROR_BEFORE, FaultKind.ERROR_AFTER)


@dataclass(frozen=True, slots=True)
class LoggedRequest:
    """A line of the request log, like the dashboard's."""

    request_id: str
    account: str
    method: str
    path: str
    idempotency_key: str | None
    status: int
    replayed: bool
    dropped: bool
    at: datetime


@dataclass(slots=True)
class _Answer:
    """What becomes of one request, before it has headers."""

    status: int = OK
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    held: list[Hashable] = field(default_factory=list)


class StripeCore:
    """Stripe's state and rules over a clock."""

    def __init__(
        self,
        clock: Callable[[], datetime],
        *,
        settings: Settings | None = None,
        seed: str = "stripe",
    ) -> None:
        self.world = World(SettableClock(clock), settings or Settings(), seed=seed)
        self.faults: FaultPlan[Fault] = FaultPlan()
        self.webhooks = Deliveries(self.world)
        self.log: deque[LoggedRequest] = deque(maxlen=LOG_LENGTH)
        self._calls: dict[str, deque[datetime]] = {}

    def handle(self, request: Request) -> Response:
        """Answer one request; what it does is done when this returns."""
        fault = self.faults.take(request.method, request.path_only)
        answer = self._answer(request, fault)
        response = self._response(request, answer, fault)
        self._note(request, response)
        self.world.in_flight.update(response.in_flight)
        return response

    def delivered(self, response: Response) -> None:
        """The transport is done with a delayed response: what it kept busy is free."""
        self.world.in_flight.difference_update(response.in_flight)

    def catch_up(self, account: Account, now: datetime) -> None:
        """Let everything happen in an account that is due by the clock."""
        renewals.catch_up(self.world, account, int(now.timestamp()))
        error_reports.catch_up(self.world, account, now)

    # --- webhooks -----------------------------------------------------------------------------

    def due_deliveries(self, now: datetime, *, to_eventbridge: bool = False) -> list[Delivery]:
        """The webhooks to be sent at an instant of the stand-in's clock, oldest first.

        Whoever takes them sends each and tells `delivered_webhook`; until then nobody else gets
        them. Destinations at Amazon EventBridge are asked for on their own.
        """
        for account in list(self.world.accounts.values()):
            self.catch_up(account, now)
        return self.webhooks.due(now, to_eventbridge=to_eventbridge)

    def delivered_webhook(self, delivery: Delivery, status: int) -> None:
        """How a webhook was answered: 2xx confirms it, all else (0: no answer) brings it again."""
        self.webhooks.ended(delivery, status)

    # --- the way of a request -----------------------------------------------------------------

    def _answer(self, request: Request, fault: Fault | None) -> _Answer:
        if fault is not None and fault.kind is FaultKind.DROP_BEFORE:
            return _Answer(status=0)
        try:
            account = self._account(request)
            planned = fault.refusal() if fault else None
            if planned is not None:
                raise planned
            return self._once(request, account, fault)
        except RefusedError as refusal:
            return _refused(refusal, request.path)

    def _account(self, request: Request) -> Account:
        """The account that a request is for.

        Raises:
            RefusedError: no key for test mode, one that may not do this, or an account id that is
                none.
        """
        key = check_key(request.headers.get("authorization", ""))
        named = request.headers.get("stripe-account") or request.headers.get("stripe-context")
        if named is not None and not _ACCOUNT.fullmatch(named):
            message = f"The account '{named}' in Stripe-Account must look like acct_…."
            raise RefusedError(message, before_execution=True)
        identity = scopes.account_of(self.world, key, named)
        scopes.check(self.world, key, request.method, request.path_only)
        self._count_call(identity)
        return self.world.account(identity)

    def _count_call(self, account: str) -> None:
        """Refuse more calls within a second than the account may make."""
        limit = self.world.settings.calls_per_s
        if not limit:
            return
        now = self.world.clock.now()
        calls = self._calls.setdefault(account, deque())
        while calls and calls[0] <= now - _SECOND:
            calls.popleft()
        if len(calls) >= limit:
            raise refusals.rate_limited("global-rate")
        calls.append(now)

    def _once(self, request: Request, account: Account, fault: Fault | None) -> _Answer:
        """Execute, or replay the answer that the idempotency key already got."""
        key = idempotency.key_of(request)
        earlier = idempotency.earlier_answer(self.world, account, key, request) if key else None
        if earlier is not None:
            return _replayed(earlier)
        route, call = self._call(request, account, key)
        answer = self._execute(route, call, fault)
        answer.headers["Request-Id"] = str(call.request_id)
        if key and idempotency.is_kept(request, answer.status):
            self._store(request, account, key, answer)
        return answer

    def _call(
        self, request: Request, account: Account, key: str | None
    ) -> tuple[routes.Route, Call]:
        path = request.path_only
        route, target = routes.find(request.method, path)
        call = Call(
            world=self.world,
            account=account,
            at=self.world.clock.now(),
            params=route.read(_params(request)),
            path=path,
            target=target,
            version=request.headers.get("stripe-version", API_VERSION),
            idempotency_key=key,
            request_id=self.world.request_ids.next("req_"),
        )
        return route, call

    def _execute(self, route: routes.Route, call: Call, fault: Fault | None) -> _Answer:
        """Run the handler, or break before or after it as planned.

        Raises:
            RefusedError: refused before anything began.
        """
        if fault is not None and fault.kind is FaultKind.ERROR_BEFORE:
            return _refused(refusals.internal_error(), call.path)
        answer = self._run(route, call)
        if fault is not None and fault.kind is FaultKind.ERROR_AFTER:
            return _refused(refusals.internal_error(), call.path, held=answer.held)
        return answer

    def _run(self, route: routes.Route, call: Call) -> _Answer:
        self.catch_up(call.account, call.at)
        paths = call.params.pop("expand", None)
        self.world.begin()
        self.world.cause = Cause(call.request_id, call.idempotency_key)
        try:
            content = route.handler(call)
        except RefusedError as refusal:
            self.world.roll_back()
            if refusal.before_execution:
                raise
            return _refused(refusal, call.path, held=call.held)
        finally:
            self.world.cause = Cause(None, None)
        if paths:
            content = expanded(call, content, paths)
        return _Answer(body=encode(content), held=call.held)

    def _store(self, request: Request, account: Account, key: str, answer: _Answer) -> None:
        stored = StoredAnswer(
            status=answer.status,
            body=answer.body,
            headers=_kept(answer.headers),
            fingerprint=idempotency.fingerprint(request),
            request_id=answer.headers["Request-Id"],
            at=self.world.clock.now(),
        )
        self.world.record(Answered(account.id, key, stored, of_v2=v2.is_v2(request.path)))
        answer.held.append(idempotency.in_flight_name(account, key))

    # --- the response ---------------------------------------------------------------------------

    def _response(self, request: Request, answer: _Answer, fault: Fault | None) -> Response:
        kind = fault.kind if fault else None
        delay_s = self.world.settings.answer_after_s
        if fault is not None and kind is FaultKind.DELAY:
            delay_s += fault.delay_s
        return Response(
            status=answer.status,
            headers=self._headers(request) | answer.headers,
            body=answer.body,
            delay_s=delay_s,
            dropped=kind in (FaultKind.DROP_BEFORE, FaultKind.DROP_AFTER),
            in_flight=tuple(answer.held) if delay_s else (),
        )

    def _headers(self, request: Request) -> dict[str, str]:
        given = request.headers
        headers = {
            "Content-Type": "application/json",
            "Request-Id": self.world.request_ids.next("req_"),
            "Stripe-Version": given.get("stripe-version", API_VERSION),
        }
        for name in ("Idempotency-Key", "Stripe-Account"):
            if name.lower() in given:
                headers[name] = given[name.lower()]
        return headers

    def _note(self, request: Request, response: Response) -> None:
        self.log.append(
            LoggedRequest(
                request_id=response.headers["Request-Id"],
                account=request.headers.get("stripe-account", DEFAULT_ACCOUNT),
                method=request.method,
                path=request.path,
                idempotency_key=request.headers.get("idempotency-key"),
                status=response.status,
                replayed="Idempotent-Replayed" in response.headers,
                dropped=response.dropped,
                at=self.world.clock.now(),
            )
        )


def _params(request: Request) -> dict[str, Raw]:
    if request.method == "POST" and v2.is_v2(request.path):
        return v2.decode(request.body)
    return decode_form(request.form)


def _refused(refusal: RefusedError, path: str, *, held: list[Hashable] | None = None) -> _Answer:
    content = v2.envelope(refusal) if v2.is_v2(path) else refusal.envelope()
    return _Answer(
        status=refusal.status,
        body=encode(content),
        headers=dict(refusal.headers),
        held=held or [],
    )


def _kept(headers: dict[str, str]) -> dict[str, str]:
    """The headers that belong to an answer rather than to its request."""
    return {name: value for name, value in headers.items() if name != "Request-Id"}


def _replayed(earlier: StoredAnswer) -> _Answer:
    headers = earlier.headers | {
        "Idempotent-Replayed": "true",
        "Original-Request": earlier.request_id,
    }
    return _Answer(status=earlier.status, body=earlier.body, headers=headers)


def check_key(authorization: str) -> str:
    """The API key; only test keys are let in, as Bearer or as the user name of Basic.

    Raises:
        RefusedError: no key, no test key; 401.
    """
    scheme, _, credentials = authorization.partition(" ")
    key = _basic_user(credentials) if scheme.lower() == "basic" else credentials
    if scheme.lower() not in ("basic", "bearer") or not key:
        raise refusals.unauthorized(
            "You did not provide an API key. You need to provide your API key in the Authorization "
            "header, using Bearer auth (e.g. 'Authorization: Bearer YOUR_SECRET_KEY'). The "
            "stand-in takes any key that starts with sk_test_ or rk_test_."
        )
    if not _TEST_KEY.fullmatch(key):
        raise refusals.unauthorized(
            f"Invalid API Key provided: {key[:8]}…. The stand-in takes any key that starts with "
            "sk_test_ or rk_test_; never send it a live one."
        )
    return key


def _basic_user(credentials: str) -> str:
    try:
        return base64.b64decode(credentials, validate=True).decode().partition(":")[0]
    except (binascii.Error, UnicodeDecodeError):
        return ""
