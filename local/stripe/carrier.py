"""Webhooks on the wire: what is due is sent over HTTP, to this machine and nowhere else."""

import asyncio
import contextlib
from collections.abc import Callable
from urllib.parse import urlsplit

import httpx

from local.stripe.core import StripeCore
from local.stripe.deliveries import Delivery
from local.stripe.state import EVENT_DESTINATION, WEBHOOK_ENDPOINT

IN_FLIGHT_MAX = 8
TIMEOUT_S = 10.0
LOOK_AGAIN_S = 0.25
"""How often it looks for what time alone makes due, while anybody is to be told of it."""
NO_ANSWER = 0

_THIS_MACHINE = ("127.0.0.1", "localhost", "::1")


class Carrier:
    """Sends a core's webhooks as long as it runs, on the event loop that the core lives on.

    `persist` is called after each change of the core's state.
    """

    def __init__(self, core: StripeCore, persist: Callable[[], None]) -> None:
        self._core = core
        self._persist = persist
        self._woken = asyncio.Event()
        self._places = asyncio.Semaphore(IN_FLIGHT_MAX)

    def wake(self) -> None:
        """Something may be due now."""
        self._woken.set()

    async def run(self) -> None:
        """Send until cancelled."""
        async with (
            httpx.AsyncClient(timeout=TIMEOUT_S, trust_env=False) as http,
            asyncio.TaskGroup() as sending,
        ):
            while True:
                self._woken.clear()
                for delivery in self._due():
                    await self._places.acquire()
                    sending.create_task(self._send(http, delivery))
                await self._rest()

    def _due(self) -> list[Delivery]:
        if not self._anybody_listens():
            return []
        due = self._core.due_deliveries(self._core.world.clock.now())
        self._persist()
        return due

    def _anybody_listens(self) -> bool:
        accounts = self._core.world.accounts.values()
        kinds = (WEBHOOK_ENDPOINT, EVENT_DESTINATION)
        return any(account.all(kind) for account in accounts for kind in kinds)

    async def _rest(self) -> None:
        wait = LOOK_AGAIN_S if self._anybody_listens() else None
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._woken.wait(), wait)

    async def _send(self, http: httpx.AsyncClient, delivery: Delivery) -> None:
        try:
            status = await self._posted(http, delivery)
        finally:
            self._places.release()
        self._core.delivered_webhook(delivery, status)
        self._persist()

    @staticmethod
    async def _posted(http: httpx.AsyncClient, delivery: Delivery) -> int:
        if urlsplit(delivery.url).hostname not in _THIS_MACHINE:
            return NO_ANSWER
        try:
            answer = await http.post(delivery.url, content=delivery.body, headers=delivery.headers)
        except (httpx.HTTPError, httpx.InvalidURL):
            return NO_ANSWER
        return answer.status_code
