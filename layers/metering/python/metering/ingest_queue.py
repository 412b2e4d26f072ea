"""Usage events from a queue: many messages a call, each with one event or many."""

from collections.abc import Iterable, Sequence
from itertools import batched
from typing import NamedTuple

from metering.errors import BadRequestError, RetryableError
from metering.event import canonical_json
from metering.event_result import EventResult, Status
from metering.ingest import EVENTS_MAX, TakesEvents
from metering.ingest_request import read_json
from metering.names import IdempotencyKey, TenantId
from metering.ports import Clock, Quarantine, Quarantined


class Message(NamedTuple):
    """One message of the queue."""

    id: str
    body: str


class Sent(NamedTuple):
    """One event and the message and place it came in."""

    message: Message
    position: int
    event: object


class IngestQueue:
    """Takes messages' events into the ledger."""

    def __init__(self, ingest: TakesEvents, quarantine: Quarantine, clock: Clock) -> None:
        self._ingest = ingest
        self._quarantine = quarantine
        self._clock = clock

    def take(self, messages: Sequence[Message]) -> list[str]:
        """Take all messages' events; the ids of messages that must be received again."""
        sent: list[Sent] = []
        set_aside: list[tuple[str, Quarantined]] = []
        for message in messages:
            try:
                sent += _events_of(message)
            except BadRequestError as error:
                set_aside.append((message.id, self._unparseable(message, error.message)))
        failed = set()
        for chunk in batched(sent, EVENTS_MAX, strict=False):
            failed |= self._take_chunk(chunk, set_aside)
        return sorted(failed | self._set_aside(set_aside))

    def _take_chunk(
        self, sent: Sequence[Sent], set_aside: list[tuple[str, Quarantined]]
    ) -> set[str]:
        """Take up to a thousand events; notes the invalid ones, returns the failed messages."""
        try:
            results = self._ingest.take([one.event for one in sent], tenant=None)
        except RetryableError:
            return {one.message.id for one in sent}
        failed = set()
        for one, result in zip(sent, results, strict=True):
            if result.retryable:
                failed.add(one.message.id)
            elif result.status is Status.ERROR:
                set_aside.append((one.message.id, self._invalid(one, result)))
        return failed

    def _set_aside(self, items: Iterable[tuple[str, Quarantined]]) -> set[str]:
        """Quarantine each item; the messages whose item could not be kept."""
        failed = set()
        for message_id, item in items:
            try:
                self._quarantine.put([item])
            except RetryableError:
                failed.add(message_id)
        return failed

    def _unparseable(self, message: Message, reason: str) -> Quarantined:
        return Quarantined(
            id=f"sqs-{message.id}",
            tenant=None,
            key=None,
            kind="unparseable",
            reason=reason,
            origin=f"sqs:{message.id}",
            payload=message.body,
            recorded_at=self._clock.now(),
        )

    def _invalid(self, sent: Sent, result: EventResult) -> Quarantined:
        return Quarantined(
            id=f"sqs-{sent.message.id}-{sent.position}",
            tenant=_tenant_of(sent.event),
            key=_key_of(sent.event),
            kind="invalid_event",
            reason=result.error or "",
            origin=f"sqs:{sent.message.id}",
            payload=_text_of(sent.event),
            recorded_at=self._clock.now(),
        )


def _events_of(message: Message) -> list[Sent]:
    """The events of a message.

    Raises:
        BadRequestError: it holds none.
    """
    body = read_json(message.body.encode(errors="surrogatepass"))
    if isinstance(body, dict) and "events" in body:
        body = body["events"]
    events = body if isinstance(body, list) else [body]
    if not events or not all(isinstance(event, dict) for event in events):
        raise BadRequestError(
            'a message holds one event, an array of events, or {"events": [...]}; each an object'
        )
    return [Sent(message, position, event) for position, event in enumerate(events)]


def _tenant_of(event: object) -> TenantId | None:
    tenant = _named(event, "tenantId", "tenant_id")
    return None if tenant is None else TenantId(tenant)


def _key_of(event: object) -> IdempotencyKey | None:
    key = _named(event, "idempotencyKey", "idempotency_key")
    return None if key is None else IdempotencyKey(key)


def _named(event: object, *names: str) -> str | None:
    """A text that an event gives under one of the names, if it is fit for a key."""
    if not isinstance(event, dict):
        return None
    values = (event.get(name) for name in names)
    return next((value for value in values if _is_fit(value)), None)


def _is_fit(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= 255 and value.isprintable()  # noqa: PLR2004


def _text_of(event: object) -> str:
    try:
        return canonical_json(event)
    except (ValueError, RecursionError):  # it holds what JSON lacks, or is nested beyond reason
        return repr(event)
