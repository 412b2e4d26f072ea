"""How much one tenant may send: a bucket that all execution environments share, at few writes.

What is kept per tenant is one instant, `paid_until`: until when all that was taken so far is paid
for at the tenant's limit. Each event moves it by 1/limit; a tenant is refused while it lies
`BURST_S` or more ahead of now. So in any t seconds at most limit x (t + BURST_S) are taken, besides
what environments have not told each other yet.

Telling costs one write unit, and is put off:

- An environment tells at most once a second (`TELL_EVERY_S`), all it took since. With n
  environments that is n writes a second and tenant at the most, however many events there are.
- It tells nothing before it has taken more than `_quantum`: a hundredth of what the limit allows in
  a second, and no less than 10 events.
- Of what it took it forgets `_quiet` a second, 1 event, or a twentieth of a limit below 20. So an
  environment that takes up to an event a second never writes.

What an event costs by that, in write units beside the ledger's own one: a tenant of 1,000 events/s
sent one by one keeps about 15 environments busy (15 ms a request), 66 events/s each: 1/66, that is
$0.0095 a million. In batches of 100 two environments are enough: 1/500. A tenant of 10 events/s in
one environment: 1/10. What is told by one environment, the others hear when they tell next.

How exact that is: environments that take an event a second or less may go unheard, which adds at
most n events/s to the limit (1.5 % in the first example). What was not yet told adds, once and not
again each second, what n environments take in one second or n quanta, whichever is more; being told
later it is paid for by a longer refusal. Told twice (an answer was lost, and the call repeated) it
counts twice: then the limit errs by that much to the strict side, once. While the table answers
nobody for longer than a burst, each environment keeps the limit by itself, and what it took then is
never told: else all of it would be refused once more when the table is back.
"""

import logging
import math
from dataclasses import dataclass
from enum import StrEnum
from threading import Lock
from typing import TYPE_CHECKING, Final, NoReturn

from metering.errors import RateLimitedError, RetryableError
from metering.names import TenantId

if TYPE_CHECKING:
    from metering.ports import Clock, TenantRates

log = logging.getLogger("metering.rate_limit")

BURST_S: Final = 10
"""A tenant that was silent may send what it may send in so many seconds at once."""
TELL_EVERY_S: Final = 1
TENANTS_MAX: Final = 10_000
_PERCENT: Final = 100
_QUANTUM_MIN: Final = 10
_QUIET_MAX: Final = 1.0
_QUIET_PART: Final = 20


class RateKind(StrEnum):
    """What is limited."""

    EVENTS = "events"
    """Usage events sent over HTTPS, wrong and repeated ones, too: they cost as much."""
    REQUESTS = "requests"
    """Requests to all other routes."""


@dataclass(frozen=True, slots=True)
class TenantLimits:
    """What the operator allows one tenant; None is the deployment's default, 0 no limit."""

    events_a_second: int | None = None
    requests_a_second: int | None = None

    def of(self, kind: RateKind) -> int | None:
        """The limit of one kind."""
        return self.events_a_second if kind is RateKind.EVENTS else self.requests_a_second


@dataclass(slots=True)
class _Spending:
    """One tenant's, as far as this environment knows; instants are epoch seconds."""

    paid_until: float = 0.0
    """By what was heard, and by all that was taken here: time pays for it, told or not."""
    heard: float = 0.0
    """What the table answered last."""
    untold: float = 0.0
    """What was taken here and not told yet."""
    at: float = 0.0
    told_at: float = 0.0
    silent_since: float | None = None
    """When the table first gave no answer, while it gives none."""


class RateLimit:
    """Lets tenants take so many of one kind a second; `default` 0 switches it off for everybody."""

    def __init__(self, kind: RateKind, default: int, rates: "TenantRates", clock: "Clock") -> None:
        self._kind = kind
        self._default = default
        self._rates = rates
        self._clock = clock
        self._spendings: dict[TenantId, _Spending] = {}
        self._lock = Lock()

    def take(self, tenant: TenantId, amount: int = 1) -> None:
        """Note that a tenant takes so many; all of them or none.

        What is larger than the limit is taken, too, when the tenant owes nothing: it is paid for
        by a longer wait.

        Raises:
            RateLimitedError: the tenant took too many; nothing was noted.
        """
        if not self._default:
            return
        limit = self._limit_of(tenant)
        if not limit:
            return
        now = self._clock.now().timestamp()
        with self._lock:
            spending = self._spending_of(tenant, now)
            _forget_quiet(spending, limit, now)
            is_refused = spending.paid_until - now >= BURST_S
            if not is_refused:
                spending.untold += amount
                spending.paid_until = max(spending.paid_until, now) + amount / limit
            is_due = _is_due(spending, limit, now)
        if is_due:
            self._tell(tenant, spending, limit, now)
        if is_refused:
            self._refuse(spending, limit, now)

    def _limit_of(self, tenant: TenantId) -> int:
        try:
            own = self._rates.limits(tenant).of(self._kind)
        except RetryableError as trouble:
            log.warning("a tenant's limits cannot be read, the default holds: %s", trouble)
            own = None
        return self._default if own is None else own

    def _spending_of(self, tenant: TenantId, now: float) -> _Spending:
        spending = self._spendings.get(tenant)
        if spending is None:
            spending = self._spendings[tenant] = _Spending(at=now)
            while len(self._spendings) > TENANTS_MAX:
                del self._spendings[next(iter(self._spendings))]
        return spending

    def _refuse(self, spending: _Spending, limit: int, now: float) -> NoReturn:
        ahead_s = spending.paid_until - now
        raise RateLimitedError(
            f"This tenant may send {limit} {self._kind} a second, and has sent more; nothing of"
            " this request was taken, send it again",
            math.floor(ahead_s - BURST_S) + 1,
        )

    def _tell(self, tenant: TenantId, spending: _Spending, limit: int, now: float) -> None:
        """Tell the others what was taken here, and hear what they took."""
        with self._lock:
            told, spending.untold = spending.untold, 0.0
            heard, spending.told_at = spending.heard, now
            since = min(now, spending.paid_until - told / limit)
        try:
            answer = self._rates.spend(self._kind, tenant, told / limit, since=since, heard=heard)
        except RetryableError as trouble:
            # A limit is no reason to refuse usage that could be stored.
            log.warning("%s of a tenant are told later, or not: %s", self._kind, trouble)
            with self._lock:
                spending.silent_since = spending.silent_since or now
                is_lasting = now - spending.silent_since > BURST_S
                spending.untold += 0.0 if is_lasting else told
            return
        with self._lock:
            spending.heard, spending.silent_since = answer, None
            spending.paid_until = max(spending.paid_until, answer + spending.untold / limit)


def _forget_quiet(spending: _Spending, limit: int, now: float) -> None:
    quiet = min(_QUIET_MAX, limit / _QUIET_PART)
    # A clock set back must not forget a thing, nor bring anything back.
    spending.untold = max(0.0, spending.untold - quiet * max(0.0, now - spending.at))
    spending.at = now


def _is_due(spending: _Spending, limit: int, now: float) -> bool:
    quantum = max(_QUANTUM_MIN, limit / _PERCENT)
    return spending.untold >= quantum and now - spending.told_at >= TELL_EVERY_S
