"""The connection to Stripe: the SDK's client with our key, and what its errors mean to a reader.

The SDK's own retries are off, because the push protocol decides what may be repeated, and so is its
telemetry, which would write a file. Timeouts are short, so that a function's deadline is never what
ends a request.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import stripe

from metering.adapters.stripe_key import StripeKey, forget_secret, mode_of
from metering.errors import NotFoundError, RetryableError
from metering.ports import SetupError
from metering.push import Mode

if TYPE_CHECKING:
    from stripe import RequestOptions
    from stripe._base_address import BaseAddresses

CONNECT_TIMEOUT_S = 3.05
READ_TIMEOUT_S = 10.0
_CONFLICT, _TOO_MANY, _SERVER_ERROR = 409, 429, 500
_UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND = 401, 403, 404

stripe.enable_telemetry = False
# The SDK tells of each request in two lines, 0.8 KB: a tenth of what a push costs in all.
logging.getLogger("stripe").setLevel(logging.WARNING)


def _uncounted(reads: int, account: str) -> None:
    """Nobody rations the reads of this connection."""


class StripeConnection:
    """One key's client, made when first used; a refused key is read anew.

    `note_reads` hears of every GET, with the connected account that it was for. `http_client` takes
    the place of the network: a simulation's, or recorded answers.
    """

    def __init__(
        self,
        key: StripeKey,
        *,
        note_reads: Callable[[int, str], None] = _uncounted,
        http_client: stripe.HTTPClient | None = None,
    ) -> None:
        self._key = key
        self._note_reads = note_reads
        self._http_client = http_client
        self._made: tuple[str, stripe.StripeClient] | None = None

    @property
    def is_set_up(self) -> bool:
        """Whether a key is configured at all."""
        return self._key.is_set

    @property
    def is_stripe_itself(self) -> bool:
        """Whether calls go to Stripe, and not to a stand-in."""
        return self._key.api_base is None

    @property
    def mode(self) -> Mode:
        """The world that the key opens; SetupError without a key."""
        return mode_of(self._key_and_client()[0])

    @property
    def client(self) -> stripe.StripeClient:
        """The SDK's client; SetupError without a key."""
        return self._key_and_client()[1]

    def _key_and_client(self) -> tuple[str, stripe.StripeClient]:
        made = self._made
        if made is None:
            key = self._key.read()
            network = self._http_client or stripe.RequestsClient(
                timeout=(CONNECT_TIMEOUT_S, READ_TIMEOUT_S)
            )
            counted = CountedReads(network, self._note_reads)
            made = self._made = key, _make_client(key, self._key.api_base, counted)
        return made

    def forget_key(self) -> None:
        """A refused key may have been rotated."""
        forget_secret()
        self._made = None

    @contextmanager
    def reading(self, not_found: str = "") -> Iterator[None]:
        """Around calls that change nothing: the SDK's errors become the core's.

        Raises:
            SetupError: Stripe refuses our key.
            NotFoundError: no such object; only where `not_found` says what to tell of it.
            RetryableError: Stripe cannot answer now.
        """
        try:
            yield
        except stripe.StripeError as error:
            status = error.http_status or 0
            if status in {_UNAUTHORIZED, _FORBIDDEN}:
                self.forget_key()
                raise SetupError(f"Stripe refuses our key: {error}") from error
            if status == _NOT_FOUND and not_found:
                raise NotFoundError(not_found) from error
            if 0 < status < _SERVER_ERROR and status not in {_CONFLICT, _TOO_MANY}:
                raise
            raise RetryableError(f"Stripe cannot answer now: {error}") from error


class CountedReads(stripe.HTTPClient):
    """An HTTP client of the SDK's that tells of each GET before it leaves."""

    name = "counted"

    def __init__(self, network: stripe.HTTPClient, note_reads: Callable[[int, str], None]) -> None:
        super().__init__()
        self._network = network
        self._note_reads = note_reads

    def request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None,
        post_data: Any = None,
        *,
        _usage: list[str] | None = None,
    ) -> tuple[str, int, Mapping[str, str]]:
        """See `stripe.HTTPClient.request`."""
        if method.lower() == "get":
            self._note_reads(1, (headers or {}).get("Stripe-Account", ""))
        return self._network.request(method, url, headers, post_data)

    def close(self) -> None:
        """See `stripe.HTTPClient.close`."""
        self._network.close()  # type: ignore[no-untyped-call]


def for_account(account: str) -> "RequestOptions":
    """The options of a call for a connected account; none for the key's own."""
    return {"stripe_account": account} if account else {}


def _make_client(
    key: str, api_base: str | None, http_client: stripe.HTTPClient
) -> stripe.StripeClient:
    # An address that is left out stays Stripe's own, so all of them are set or none.
    addresses: BaseAddresses = {}
    if api_base is not None:
        base = api_base.rstrip("/")
        addresses = {"api": base, "connect": base, "files": base, "meter_events": base}
    return stripe.StripeClient(
        key, base_addresses=addresses, max_network_retries=0, http_client=http_client
    )
