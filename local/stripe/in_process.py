"""The `stripe` SDK talking straight to a core, without a socket: for simulations and fast tests."""

from collections.abc import Callable, Mapping
from typing import Any

import stripe
from requests.structures import CaseInsensitiveDict

from local.stripe.core import StripeCore
from local.stripe.wire import Request, Response


def _no_wait(_: float) -> None:
    """Let a delayed answer arrive at once."""


class InProcessClient(stripe.HTTPClient):
    """`StripeClient(key, http_client=InProcessClient(core))`.

    A dropped connection is the SDK's `APIConnectionError`; a delay is handed to `wait`, which may
    raise a timeout of its own.
    """

    name = "in-process"

    def __init__(self, core: StripeCore, wait: Callable[[float], None] = _no_wait) -> None:
        super().__init__()
        self._core = core
        self._wait = wait

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
        response = self._core.handle(Request.of(method, url, headers or {}, post_data))
        self._carry(response)
        return response.body.decode(), response.status, CaseInsensitiveDict(response.headers)

    def _carry(self, response: Response) -> None:
        try:
            if response.delay_s:
                self._wait(response.delay_s)
        finally:
            self._core.delivered(response)
        if response.dropped:
            raise stripe.APIConnectionError(  # type: ignore[no-untyped-call]
                "connection dropped", should_retry=True
            )

    def close(self) -> None:
        """Nothing to close."""
