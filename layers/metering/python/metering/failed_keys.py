"""How many wrong API keys one address may try, so that guessing costs the guesser and not us.

Kept in memory, one environment at a time: an attacker who reaches many environments has that many
times as many tries, which against secrets of 192 bits is the same as none. What the limit is for is
the look-ups: an unknown prefix costs a read of the settings table, and beyond the limit none.
"""

import math
from datetime import datetime
from ipaddress import IPv6Address, ip_address
from threading import Lock
from typing import Final

from metering.errors import RateLimitedError
from metering.rate import TokenBucket

ADDRESSES_MAX: Final = 10_000
TRUSTED_MAX: Final = 10_000
_IPV6_SITE: Final = 64
"""Bits of an IPv6 address that name whoever has it; the rest they choose as they like."""
_MINUTE_S: Final = 60


class FailedKeys:
    """Notes failed attempts by address; `a_minute` of them are let through, 0 is no limit.

    Keys that were valid here once go on being looked up whatever else comes from their address, so
    that a guesser behind the same router does not lock them out.
    """

    def __init__(self, a_minute: int) -> None:
        self._a_minute = a_minute
        self._buckets: dict[str, TokenBucket] = {}
        self._trusted: dict[str, None] = {}
        self._lock = Lock()

    def check(self, prefix: str, source: str, now: datetime) -> None:
        """Pass unless the address has used up its attempts, and this key is not known here.

        Raises:
            RateLimitedError: after so many seconds there is another attempt.
        """
        if not self._buckets or prefix in self._trusted:
            return
        bucket = self._buckets.get(_site(source))
        wait_s = bucket.take(now.timestamp()).wait_s if bucket else 0
        if wait_s:
            raise RateLimitedError("Too many API keys that are not valid", math.ceil(wait_s))

    def note(self, source: str, now: datetime) -> None:
        """An attempt from this address has failed."""
        if not self._a_minute or not source:
            return
        at, site = now.timestamp(), _site(source)
        with self._lock:
            bucket = self._buckets.pop(site, None) or self._full(at)
            left = bucket.take(at)
            # A key that is known here may fail beyond the limit; it must not run up a debt.
            self._buckets[site] = bucket if left.wait_s else left.bucket
            while len(self._buckets) > ADDRESSES_MAX:
                del self._buckets[next(iter(self._buckets))]

    def trust(self, prefix: str) -> None:
        """A key with this prefix was valid."""
        if not self._a_minute or prefix in self._trusted:
            return
        with self._lock:
            self._trusted[prefix] = None
            while len(self._trusted) > TRUSTED_MAX:
                del self._trusted[next(iter(self._trusted))]

    def _full(self, at: float) -> TokenBucket:
        return TokenBucket(self._a_minute / _MINUTE_S, self._a_minute, self._a_minute, at)


def _site(source: str) -> str:
    """Whoever is behind an address: all of an IPv4 address, the first half of an IPv6 one."""
    if ":" not in source:
        return source
    try:
        address = ip_address(source)
    except ValueError:
        return source
    if not isinstance(address, IPv6Address):
        return source
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return f"{int(address) >> _IPV6_SITE:x}"
