"""API keys: who calls, for which tenant, and what the caller may do.

A key is `sm_<prefix>.<secret>`. Only the SHA-256 of the secret is kept; it is 24 random bytes, so a
slow hash would cost every request and gain nothing. The tenant always comes from the key: wherever
a request names a tenant, it can only repeat the key's.
"""

import hmac
import re
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple

from metering.errors import BadRequestError
from metering.failed_keys import FailedKeys
from metering.names import TenantId

if TYPE_CHECKING:
    from metering.ports import Clock, KeyStore

MISMATCHED_TENANT = "Mismatched tenantId"
MISMATCHED_TENANT_IN_EVENTS = "Mismatched tenantId in events"

_PREFIX = re.compile(r"sm_[0-9A-Za-z_-]{1,60}", re.ASCII)
_PREFIX_BYTES = 6
_SECRET_BYTES = 24


class Scope(StrEnum):
    """What a key may be allowed to do; a route lists alternatives, and any one suffices."""

    PROJECT_READ = "project:read"
    PROJECT_WRITE = "project:write"
    EVENTS_READ = "events:read"
    EVENTS_WRITE = "events:write"
    USAGE_READ = "usage:read"
    USAGE_WRITE = "usage:write"
    MAPPINGS_READ = "mappings:read"
    MAPPINGS_WRITE = "mappings:write"
    RECONCILIATION_READ = "reconciliation:read"
    RECONCILIATION_WRITE = "reconciliation:write"
    ALERTS_READ = "alerts:read"
    ALERTS_WRITE = "alerts:write"
    SIMULATION_READ = "simulation:read"
    SIMULATION_WRITE = "simulation:write"


EVERY_SCOPE = frozenset(Scope)
DEFAULT_SCOPES = frozenset({Scope.PROJECT_READ, Scope.PROJECT_WRITE})


def covered_by(scopes: Iterable[Scope]) -> frozenset[Scope]:
    """Every scope that adds nothing to these.

    Each route that takes a scope of its noun takes the project's scope of the same kind, too, so
    `project:write` can do whatever any `...:write` can.
    """
    held = frozenset(scopes)
    kinds = {one.partition(":")[2] for one in held & DEFAULT_SCOPES}
    return held | {one for one in Scope if one.partition(":")[2] in kinds}


class AuthError(Exception):
    """The caller is not known (401) or not allowed (403); `error` is the whole answer."""

    def __init__(self, status: int, error: str) -> None:
        super().__init__(error)
        self.status = status
        self.error = error

    @property
    def body(self) -> dict[str, str]:
        """What the HTTP API answers."""
        return {"error": self.error}


class OtherTenantError(AuthError):
    """The request names a tenant that the caller is not; 403."""

    def __init__(self, error: str) -> None:
        super().__init__(403, error)


class MissingScopeError(AuthError):
    """The caller's key may not do this; 403."""

    def __init__(self, alternatives: Iterable[str]) -> None:
        super().__init__(403, f"Require one of: {','.join(alternatives)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRecord:
    """What people may know of a key."""

    prefix: str
    """Its public half, by which it is found; unique in the deployment."""
    tenant: TenantId
    scopes: frozenset[Scope]
    created_at: datetime
    name: str = ""
    created_by: str = ""
    """The prefix of the key that asked for it, or who else did, such as `operator`."""
    expires_at: datetime | None = None
    retires_at: datetime | None = None
    """When it ends because another key has taken its place."""
    revoked_at: datetime | None = None

    @property
    def ends_at(self) -> datetime | None:
        """When it ends by itself; None is never."""
        return min((end for end in (self.expires_at, self.retires_at) if end), default=None)

    def is_usable(self, now: datetime) -> bool:
        """Whether it is neither revoked nor at its end."""
        return self.revoked_at is None and (self.ends_at is None or now < self.ends_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey(KeyRecord):
    """A key as it is kept: never with its secret."""

    secret_sha256: bytes

    def has_secret(self, secret: str) -> bool:
        """Whether this is the key's secret; takes the same time wherever they differ."""
        return hmac.compare_digest(self.secret_sha256, _sha256(secret))


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent a request: a key's tenant and scopes, or anyone where keys are not required."""

    tenant: TenantId | None
    """None only without a key, where the deployment allows it: the request names the tenant."""
    scopes: frozenset[Scope]
    key_prefix: str = ""

    def require(self, *alternatives: Scope) -> None:
        """Pass when the caller holds any one of the scopes.

        Raises:
            MissingScopeError: it holds none.
        """
        if self.scopes.isdisjoint(alternatives):
            raise MissingScopeError(alternatives)

    def tenant_among(
        self, named: Iterable[object], *, error: str = MISMATCHED_TENANT
    ) -> TenantId | None:
        """The one tenant of a request that names tenants in several places (None: not there).

        Every place is looked at: one place that agrees must not hide another that does not.

        Raises:
            OtherTenantError: with `error`, a place names another tenant than the key's, or than
                another place.
        """
        owner = self.tenant
        for name in named:
            if name is None or name == owner:
                continue
            if owner is not None or not isinstance(name, str):
                raise OtherTenantError(error)
            owner = TenantId(name)
        return owner

    def tenant_of_request(self, named: Iterable[object]) -> TenantId:
        """Like `tenant_among`, for a request that cannot be served without a tenant.

        Raises:
            OtherTenantError: places disagree.
            BadRequestError: neither a key nor the request says which tenant.
        """
        owner = self.tenant_among(named)
        if not owner:
            raise BadRequestError(
                "tenantId: Required (a request without an API key must name its tenant)",
                error="Validation Error",
            )
        return owner


ANYONE = Caller(None, EVERY_SCOPE)
"""A caller without a key, where the deployment serves those (`AUTH=off`, loopback only)."""


class Authenticator:
    """Finds out who calls, from a request's headers."""

    def __init__(
        self,
        keys: "KeyStore",
        clock: "Clock",
        *,
        required: bool = True,
        failures: "FailedKeys | None" = None,
    ) -> None:
        self._keys = keys
        self._clock = clock
        self._required = required
        self._failures = failures or FailedKeys(0)

    def authenticate(self, headers: Mapping[str, str], source: str = "") -> Caller:
        """The caller that the headers prove; header names in lower case, as API Gateway gives them.

        A key that is given is checked even where none is required. `source` is the address that the
        connection came from; whoever tries too many keys from there is made to wait.

        Raises:
            AuthError: 401, no key or not a valid one.
            RateLimitedError: 429, too many keys from there were not valid.
            RetryableError: the key could not be looked up for now.
        """
        given = headers.get("authorization") or headers.get("x-api-key")
        if not given:
            if self._required:
                raise AuthError(401, "Missing API key")
            return ANYONE
        now = self._clock.now()
        try:
            prefix, secret = _split(given)
            self._failures.check(prefix, source, now)
            key = self._find(prefix, secret)
        except AuthError:
            self._failures.note(source, now)
            raise
        self._failures.trust(prefix)
        return Caller(key.tenant, key.scopes, key.prefix)

    def _find(self, prefix: str, secret: str) -> ApiKey:
        # Nothing that is not one of our prefixes is looked up, so junk costs no read.
        key = self._keys.find(prefix) if _PREFIX.fullmatch(prefix) else None
        if key is None or not key.has_secret(secret) or not key.is_usable(self._clock.now()):
            raise AuthError(401, "Invalid API key")
        return key


def _split(header: str) -> tuple[str, str]:
    """Prefix and secret, parted by the first dot; `Bearer ` in front may be left away."""
    scheme, _, rest = header.strip().partition(" ")
    text = rest.strip() if scheme.lower() == "bearer" else header.strip()
    if not text:
        raise AuthError(401, "Missing API key")
    prefix, _, secret = text.partition(".")
    if not prefix or "." not in text:
        raise AuthError(401, "Invalid API key format")
    return prefix, secret


def _sha256(secret: str) -> bytes:
    # Headers may hold half surrogates; they match nothing, and must not raise either.
    return sha256(secret.encode(errors="surrogatepass")).digest()


class IssuedKey(NamedTuple):
    """A new key and its only appearance in full."""

    key: ApiKey
    text: str
    """`sm_<prefix>.<secret>`: shown once, kept nowhere."""


class KeyIssuer:
    """Makes API keys; `random_bytes` must be fit for secrets."""

    def __init__(
        self, keys: "KeyStore", clock: "Clock", random_bytes: Callable[[int], bytes]
    ) -> None:
        self._keys = keys
        self._clock = clock
        self._random_bytes = random_bytes

    def create_key(
        self,
        tenant: TenantId,
        scopes: Iterable[Scope] = DEFAULT_SCOPES,
        *,
        expires_at: datetime | None = None,
        name: str = "",
        created_by: str = "",
        opens_tenant: bool = False,
    ) -> IssuedKey:
        """A new key of a tenant; the tenant itself is noted with it when it is new.

        Raises:
            ConflictError: with `opens_tenant`, the tenant is not new.
        """
        issued = self._draw(tenant, scopes, name, created_by, expires_at)
        self._keys.add(issued.key, opens_tenant=opens_tenant)
        return issued

    def replace_key(
        self, old: ApiKey, *, retires_at: datetime, expires_at: datetime | None, asked_by: str
    ) -> IssuedKey:
        """A new key that may do what `old` may, which ends at `retires_at` at the latest.

        Raises:
            ConflictError: `old` has been changed since it was read.
        """
        issued = self._draw(old.tenant, old.scopes, old.name, asked_by, expires_at)
        self._keys.replace(old, issued.key, retires_at)
        return issued

    def _draw(
        self,
        tenant: TenantId,
        scopes: Iterable[Scope],
        name: str,
        created_by: str,
        expires_at: datetime | None,
    ) -> IssuedKey:
        """A key with a prefix and a secret that nobody had before."""
        prefix = "sm_" + self._random_bytes(_PREFIX_BYTES).hex()
        secret = urlsafe_b64encode(self._random_bytes(_SECRET_BYTES)).decode()
        key = ApiKey(
            prefix=prefix,
            tenant=tenant,
            scopes=frozenset(scopes),
            created_at=self._clock.now(),
            name=name,
            created_by=created_by,
            expires_at=expires_at,
            secret_sha256=_sha256(secret),
        )
        return IssuedKey(key, f"{prefix}.{secret}")
