"""What a tenant's people do with its API keys: make, list, rotate and revoke them.

Another tenant's key is not there. And no key makes one that outdoes it: neither in what it may do
nor in how long it lasts, so that whoever holds a key for a while has nothing when it ends.
"""

from collections.abc import Collection
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from metering import times
from metering.auth import (
    DEFAULT_SCOPES,
    ApiKey,
    AuthError,
    Caller,
    IssuedKey,
    KeyRecord,
    Scope,
    covered_by,
)
from metering.errors import BadRequestError, ConflictError, NotFoundError
from metering.names import TenantId

if TYPE_CHECKING:
    from metering.auth import KeyIssuer
    from metering.ports import Clock, KeyStore

OVERLAP: Final = timedelta(hours=24)
OVERLAP_MAX: Final = timedelta(days=7)


class BeyondOwnKeyError(AuthError):
    """The key asked for would outdo the caller's; 403."""

    def __init__(self, message: str) -> None:
        super().__init__(403, "Beyond the caller's own key")
        self.message = message

    @property
    def body(self) -> dict[str, str]:
        """What the HTTP API answers."""
        return {"error": self.error, "message": self.message}


class KeyAdmin:
    """Acts for a caller, who must hold `project:write` already.

    The caller's own key is read anew each time: one that was revoked a moment ago must not leave
    another one behind.
    """

    def __init__(self, keys: "KeyStore", issuer: "KeyIssuer", clock: "Clock") -> None:
        self._keys = keys
        self._issuer = issuer
        self._clock = clock

    def create(
        self,
        tenant: TenantId,
        caller: Caller,
        *,
        name: str,
        scopes: Collection[Scope] = DEFAULT_SCOPES,
        expires_at: datetime | None = None,
    ) -> IssuedKey:
        """A new key of the tenant; without a time it ends when the caller's does.

        Raises:
            BadRequestError: it would have ended already.
            AuthError: 401, the caller's key has ended; 403, the new one would outdo it.
        """
        own = self._own(caller)
        _check_scopes(scopes, caller)
        return self._issuer.create_key(
            tenant,
            scopes,
            expires_at=self._end(expires_at, own),
            name=name,
            created_by=caller.key_prefix,
        )

    def page(self, tenant: TenantId, after: str | None, limit: int) -> list[KeyRecord]:
        """Up to `limit` keys of the tenant by id, from after the given one."""
        return self._keys.listed(tenant, after, limit)

    def rotate(
        self,
        tenant: TenantId,
        caller: Caller,
        key_id: str,
        *,
        overlap: timedelta = OVERLAP,
        expires_at: datetime | None = None,
    ) -> IssuedKey:
        """A key in place of another, which stays valid for `overlap` at most.

        The new one may do the same and ends when the other would have, unless `expires_at` says
        otherwise. Who lost the answer rotates again: the overlap does not grow by that.
        A caller that rotates its own key a second time gets one that ends with the overlap.

        Raises:
            NotFoundError: the tenant has no such key.
            ConflictError: it has ended, or was changed by somebody else just now.
            BadRequestError: the new one would have ended already.
            AuthError: 401, the caller's key has ended; 403, the new one would outdo it.
        """
        own, old = self._own(caller), self._of_tenant(tenant, key_id)
        now = self._clock.now()
        if not old.is_usable(now):
            raise ConflictError(f"The API key {key_id} has ended; make a new one")
        _check_scopes(old.scopes, caller)
        return self._issuer.replace_key(
            old,
            retires_at=min(now + overlap, old.retires_at or now + overlap),
            expires_at=self._end(expires_at, own) if expires_at else _earlier(old, own),
            asked_by=caller.key_prefix,
        )

    def revoke(self, tenant: TenantId, caller: Caller, key_id: str) -> KeyRecord:
        """End a key now; other environments follow when their cache ends.

        Any key that may write the project can revoke any of its tenant's, itself among them: when
        one has leaked, nobody should have to look for a mightier one.

        Raises:
            NotFoundError: the tenant has no such key.
            AuthError: 401, the caller's key has ended.
        """
        self._own(caller)
        key, now = self._of_tenant(tenant, key_id), self._clock.now()
        self._keys.revoke(key, now)
        return replace(key, revoked_at=key.revoked_at or now)

    def _own(self, caller: Caller) -> ApiKey | None:
        """The caller's key as it stands now; None where no keys are required."""
        if not caller.key_prefix:
            return None
        own = self._keys.stored(caller.key_prefix)
        if own is None or not own.is_usable(self._clock.now()):
            raise AuthError(401, "Invalid API key")
        return own

    def _of_tenant(self, tenant: TenantId, key_id: str) -> ApiKey:
        key = self._keys.stored(key_id)
        if key is None or key.tenant != tenant:
            raise NotFoundError(f"No API key has the id {key_id}")
        return key

    def _end(self, wanted: datetime | None, own: ApiKey | None) -> datetime | None:
        """When a new key ends, as it was asked for; by itself when the caller's does."""
        last = own.ends_at if own else None
        if wanted is None:
            return last
        if wanted <= self._clock.now():
            raise BadRequestError("expiresAt: must lie in the future", error="Validation Error")
        if last is not None and wanted > last:
            raise BeyondOwnKeyError(
                f"expiresAt: this key ends at {times.to_iso_ms(last)}, and none that it makes may"
                " last longer; ask with a key that does"
            )
        return wanted


def _earlier(old: ApiKey, own: ApiKey | None) -> datetime | None:
    """When the key in place of `old` ends where nobody said: as `old` would, within `own`."""
    ends = (old.expires_at, own.ends_at if own else None)
    return min((end for end in ends if end), default=None)


def _check_scopes(scopes: Collection[Scope], caller: Caller) -> None:
    beyond = sorted(frozenset(scopes) - covered_by(caller.scopes))
    if beyond:
        raise BeyondOwnKeyError(
            f"scopes: this key may not give {', '.join(beyond)}, which it does not hold itself; ask"
            " with a key that does"
        )
