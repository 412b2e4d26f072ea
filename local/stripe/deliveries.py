"""Telling destinations of events: who is told, signed how, when again, and what goes wrong.

The core hands out what is due and is told how it went; carrying it over HTTP is the transport's
part. Webhooks come at least once, in no order, and again for three days until they are confirmed.
"""

import hmac
import json
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from hashlib import blake2b, sha256
from uuid import UUID

from local.stripe.faults import FaultPlan, WebhookFault, WebhookFaultKind
from local.stripe.state import (
    EVENT,
    EVENT_DESTINATION,
    THIN_EVENT,
    WEBHOOK_ENDPOINT,
    Account,
    DeliveryEnded,
    DeliveryScheduled,
    PendingDelivery,
    World,
)
from local.stripe.wire import Json, encode

RETRY_AFTER_S = (300, 1_800, 7_200, 18_000, 36_000)
"""From one attempt to the next; after these, every 12 hours."""
RETRY_LATER_S = 43_200
GIVEN_UP_AFTER = timedelta(days=3)
LOG_LENGTH = 1_000
EVENTBRIDGE = "amazon_eventbridge"

_NOT_THE_SECRET = "whsec_of_somebody_else"  # noqa: S105 (it signs what shall not verify)


@dataclass(frozen=True, slots=True)
class Delivery:
    """One attempt to tell one destination of one event, ready to be sent."""

    id: str
    account: str
    destination: str
    event: str
    type: str
    url: str
    """Where to POST it; an ARN where Amazon EventBridge takes it."""
    headers: dict[str, str]
    body: bytes
    attempt: int
    """The first is 1."""
    at: datetime
    """When it was handed out, by the stand-in's clock."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """A line of the log of deliveries, like the dashboard's."""

    event: str
    type: str
    destination: str
    url: str
    attempt: int
    status: int
    """The receiver's HTTP status; 0 when there was no answer."""
    at: datetime


# --- who is told ----------------------------------------------------------------------------------


def destinations(account: Account, kind: str, event_type: str) -> list[Json]:
    """The enabled endpoints and destinations that want a type of event; `kind` is snapshot or thin.

    Snapshots are `event` objects, thin ones `v2.core.event` objects without their data.
    """
    payload = "thin" if kind == THIN_EVENT else "snapshot"
    found = [
        one for one in account.newest_first(EVENT_DESTINATION) if one["event_payload"] == payload
    ]
    if kind == EVENT:
        found += account.newest_first(WEBHOOK_ENDPOINT)
    return [one for one in found if one["status"] == "enabled" and _wants(one, event_type)]


def _wants(destination: Json, event_type: str) -> bool:
    return any(wanted in ("*", event_type) for wanted in destination["enabled_events"])


def schedule(world: World, account: Account, event: Json, told: Iterable[Json]) -> None:
    """Let an event be delivered to each of some destinations, at once."""
    now = world.clock.now()
    for destination in told:
        pending = PendingDelivery(
            id=world.ids.next("whd_"),
            kind=event["object"],
            event=event["id"],
            destination=destination["id"],
            first_at=now,
            due_at=now,
        )
        world.record(DeliveryScheduled(account.id, pending))


# --- what is sent ---------------------------------------------------------------------------------


def signature(secrets: Iterable[str], at: int, body: bytes) -> str:
    """The `Stripe-Signature` header: one `v1` per secret, HMAC-SHA256 over `<t>.<body>`."""
    signed = b"%d." % at + body
    sums = (hmac.new(secret.encode(), signed, sha256).hexdigest() for secret in secrets)
    return ",".join([f"t={at}", *(f"v1={one}" for one in sums)])


def notification(event: Json) -> Json:
    """An event as it is delivered: a thin one goes without its data."""
    if event["object"] == EVENT:
        return event
    return {name: value for name, value in event.items() if name not in ("data", "changes")}


def envelope(event: Json, *, arn: str, at: datetime) -> Json:
    """An event as Amazon EventBridge hands it to its rules."""
    digest = blake2b(event["id"].encode(), digest_size=16).digest()
    _, _, _, region, owner, source = arn.split(":", 5)
    return {
        "version": "0",
        "id": str(UUID(bytes=digest)),
        "detail-type": event["type"],
        "source": source.removeprefix("event-source/"),
        "account": owner,
        "time": at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "region": region,
        "resources": [arn],
        "detail": notification(event),
    }


def is_eventbridge(destination: Json) -> bool:
    """Whether Amazon EventBridge takes its events, rather than a URL."""
    return destination.get("type") == EVENTBRIDGE


class Deliveries:
    """What is to be delivered, who carries it at present, and how it went."""

    def __init__(self, world: World) -> None:
        self.faults: FaultPlan[WebhookFault] = FaultPlan()
        self.log: deque[Attempt] = deque(maxlen=LOG_LENGTH)
        self._world = world
        self._carried: dict[str, int] = {}
        """How many attempts at a delivery are under way."""

    def forget(self) -> None:
        """Start anew after everything was wiped."""
        self.faults.clear()
        self.log.clear()
        self._carried.clear()

    def due(self, now: datetime, *, to_eventbridge: bool) -> list[Delivery]:
        """What is to be sent now, oldest first; nobody else gets it until `ended` is told."""
        found: list[Delivery] = []
        for account in self._world.accounts.values():
            for pending in list(account.deliveries.values()):
                if pending.due_at <= now and pending.id not in self._carried:
                    found += self._handed_out(account, pending, now, to_eventbridge=to_eventbridge)
        return found

    def _handed_out(
        self, account: Account, pending: PendingDelivery, now: datetime, *, to_eventbridge: bool
    ) -> Iterator[Delivery]:
        destination = _destination(account, pending.destination)
        if destination is None or destination["status"] != "enabled":
            self._world.record(DeliveryEnded(account.id, pending.id))
            return
        if is_eventbridge(destination) is not to_eventbridge:
            return
        event = account.all(pending.kind)[pending.event]
        fault = self.faults.take(event["type"], pending.destination)
        kind = fault.kind if fault else None
        if kind is WebhookFaultKind.LOSE:
            self._world.record(DeliveryEnded(account.id, pending.id))
        elif fault is not None and kind is WebhookFaultKind.LATE:
            due_at = now + timedelta(seconds=fault.delay_s)
            self._world.record(DeliveryScheduled(account.id, replace(pending, due_at=due_at)))
        else:
            times = 2 if kind is WebhookFaultKind.DUPLICATE else 1
            self._carried[pending.id] = times
            yield from [self._delivery(account, pending, destination, event, kind)] * times

    def _delivery(
        self,
        account: Account,
        pending: PendingDelivery,
        destination: Json,
        event: Json,
        fault: WebhookFaultKind | None,
    ) -> Delivery:
        url, body = self._addressed(destination, event)
        headers = {"Content-Type": "application/json; charset=utf-8", "User-Agent": "Stripe/1.0"}
        if not is_eventbridge(destination):
            secrets = self._secrets(destination)
            if fault is WebhookFaultKind.WRONG_SIGNATURE:
                secrets = [_NOT_THE_SECRET]
            headers["Stripe-Signature"] = signature(secrets, self._signed_at(), body)
        return Delivery(
            id=pending.id,
            account=account.id,
            destination=pending.destination,
            event=event["id"],
            type=event["type"],
            url=url,
            headers=headers,
            body=body,
            attempt=pending.tried + 1,
            at=self._world.clock.now(),
        )

    def _signed_at(self) -> int:
        """By the clock that the receiver compares with: the machine's, unless told otherwise."""
        clock = self._world.clock
        own = self._world.settings.webhooks_in_own_time
        return int((clock.now() if own else clock.base_now()).timestamp())

    def _addressed(self, destination: Json, event: Json) -> tuple[str, bytes]:
        if is_eventbridge(destination):
            arn = destination["amazon_eventbridge"]["aws_event_source_arn"]
            wrapped = envelope(event, arn=arn, at=self._world.clock.now())
            return arn, encode(wrapped)
        # Stripe sends its webhooks indented, and the signature is over exactly these bytes.
        body = json.dumps(notification(event), ensure_ascii=False, indent=2).encode()
        return url_of(destination), body

    def _secrets(self, destination: Json) -> list[str]:
        """The newest secret, and the one before it while it is still valid."""
        old = destination["old_secret"]
        now = self._world.clock.now().timestamp()
        kept = [old["secret"]] if old and now < old["until"] else []
        return [destination["secret"], *kept]

    def ended(self, delivery: Delivery, status: int) -> None:
        """How an attempt went: the receiver's HTTP status, 0 when there was no answer."""
        if delivery.id not in self._carried:
            return  # everything was wiped meanwhile
        self._carried[delivery.id] -= 1
        if not self._carried[delivery.id]:
            del self._carried[delivery.id]
        self._note(delivery, status)
        self._settle(delivery, status)

    def _note(self, delivery: Delivery, status: int) -> None:
        self.log.append(
            Attempt(
                event=delivery.event,
                type=delivery.type,
                destination=delivery.destination,
                url=delivery.url,
                attempt=delivery.attempt,
                status=status,
                at=delivery.at,
            )
        )

    def _settle(self, delivery: Delivery, status: int) -> None:
        account = self._world.account(delivery.account)
        pending = account.deliveries.get(delivery.id)
        confirmed = 200 <= status < 300  # noqa: PLR2004 (HTTP's success)
        # The twin of a duplicate may have been confirmed already, or be due again.
        if pending is None or (pending.tried >= delivery.attempt and not confirmed):
            return
        # From when it was handed out: how long the receiver took must not matter.
        again_at = delivery.at + _retry_after(pending.tried)
        if confirmed or again_at - pending.first_at > GIVEN_UP_AFTER:
            self._world.record(DeliveryEnded(account.id, pending.id))
        else:
            again = replace(pending, due_at=again_at, tried=pending.tried + 1)
            self._world.record(DeliveryScheduled(account.id, again))


def _retry_after(tried: int) -> timedelta:
    seconds = RETRY_AFTER_S[tried] if tried < len(RETRY_AFTER_S) else RETRY_LATER_S
    return timedelta(seconds=seconds)


def url_of(destination: Json) -> str:
    """Where an endpoint or a webhook destination listens."""
    if destination["object"] == WEBHOOK_ENDPOINT:
        return str(destination["url"])
    return str(destination["webhook_endpoint"]["url"])


def _destination(account: Account, identity: str) -> Json | None:
    return account.get(WEBHOOK_ENDPOINT, identity) or account.get(EVENT_DESTINATION, identity)
