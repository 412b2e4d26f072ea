"""Ingest: from what a client sent to entries of the ledger, one result per event, in order.

One bad event never refuses its neighbours, and nothing is answered `accepted` before it is durable.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Protocol

from metering import event, sent_event, times
from metering.errors import Refusal, RetryableError
from metering.event import LedgerEntry, UsageEvent
from metering.event_result import EventResult, Status
from metering.mapping import LatePolicy, MetricSettings
from metering.names import IdempotencyKey, TenantId
from metering.ports import Appended, Clock, Ledger, Quarantine, Quarantined, Settings

AHEAD_MAX = timedelta(hours=1)
EVENTS_MAX = 1000
"""Of one request."""


class TakesEvents(Protocol):
    """Whatever events are handed to: `Ingest`, or something around it."""

    def take(
        self, sent: Sequence[object], *, tenant: TenantId | None, header_key: str | None = None
    ) -> list[EventResult]:
        """See `Ingest.take`."""
        ...


class Ingest:
    """Takes events into the ledger."""

    def __init__(
        self, ledger: Ledger, settings: Settings, quarantine: Quarantine, clock: Clock
    ) -> None:
        self._ledger = ledger
        self._settings = settings
        self._quarantine = quarantine
        self._clock = clock

    def take(
        self, sent: Sequence[object], *, tenant: TenantId | None, header_key: str | None = None
    ) -> list[EventResult]:
        """One result per event of `sent` (JSON values), in its order.

        `tenant` owns them all; None lets each event name its own. `header_key` is the request's
        Idempotency-Key: the key of its keyless event, or with the position that of each of several.
        """
        now = self._clock.now()
        keys = _header_keys(sent, header_key)
        judged = [
            self._judge(sent_event.parse(raw, tenant=tenant, header_key=key), now)
            for raw, key in zip(sent, keys, strict=True)
        ]
        return self._append(judged)

    # --- what may enter ---------------------------------------------------------------------------

    def _judge(self, parsed: UsageEvent | Refusal, now: datetime) -> LedgerEntry | EventResult:
        if isinstance(parsed, Refusal):
            return EventResult(Status.ERROR, error=parsed.message)
        if parsed.occurred_at > now + AHEAD_MAX:
            return _refused(parsed, "Event timestamp too far in the future")
        settings = self._settings.metric(parsed.tenant, parsed.metric)
        is_late = now - parsed.occurred_at > settings.lateness
        if is_late and settings.late_policy is LatePolicy.REJECT and not self._is_taken(parsed):
            return _refused(parsed, _too_late(settings))
        held = is_late and settings.late_policy is LatePolicy.ADJUST
        return LedgerEntry(parsed, received_at=now, is_late=held)

    def _is_taken(self, sent: UsageEvent) -> bool:
        """Whether an event's key stands in the ledger, so that this may be a retry of it."""
        return self._ledger.get(sent.tenant, sent.key) is not None

    # --- the ledger -------------------------------------------------------------------------------

    def _append(self, judged: Sequence[LedgerEntry | EventResult]) -> list[EventResult]:
        results = {at: item for at, item in enumerate(judged) if isinstance(item, EventResult)}
        waiting = {at: item for at, item in enumerate(judged) if isinstance(item, LedgerEntry)}
        copies = _copies(waiting)
        for at in copies:
            del waiting[at]
        while waiting:
            # A key with two contents in a request goes in two rounds: the second meets the first.
            first_of_key = {_identity(waiting[at]): at for at in reversed(waiting)}
            batch = {at: waiting.pop(at) for at in sorted(first_of_key.values())}
            outcomes = self._ledger.append(list(batch.values()))
            for (at, entry), outcome in zip(batch.items(), outcomes, strict=True):
                results[at] = self._result(entry, outcome)
        results |= {at: _of_copy(results[original]) for at, original in copies.items()}
        return [results[at] for at in range(len(judged))]

    def _result(self, entry: LedgerEntry, outcome: Appended) -> EventResult:
        sent = entry.event
        match outcome:
            case Appended.ACCEPTED:
                return EventResult(Status.ACCEPTED, sent.key, sent.metric, is_late=entry.is_late)
            case Appended.DUPLICATE:
                return EventResult(Status.DUPLICATE, sent.key, sent.metric)
            case Appended.CONFLICT:
                return self._conflict(entry)
            case Appended.FAILED:
                return _failed(sent)

    def _conflict(self, entry: LedgerEntry) -> EventResult:
        """Refuse an event whose key stands for other content, and keep it to be looked at."""
        sent = entry.event
        try:
            self._quarantine.put([_conflicting(entry)])
        except RetryableError:
            return _failed(sent)
        return EventResult(
            Status.CONFLICT,
            sent.key,
            sent.metric,
            error=f"Idempotency key {sent.key!r} is taken by an event with other content;"
            " nothing was changed. Send a new key if this is another event.",
        )


def _header_keys(sent: Sequence[object], header_key: str | None) -> list[IdempotencyKey | None]:
    if not header_key:
        return [None] * len(sent)
    keyless = sum(_is_keyless(raw) for raw in sent)
    if keyless <= 1:
        return [IdempotencyKey(header_key)] * len(sent)
    return [event.key_from_header(header_key, position) for position in range(len(sent))]


def _is_keyless(raw: object) -> bool:
    # Of two spellings the first is the one that is read, even when it is empty.
    return isinstance(raw, dict) and not raw.get("idempotencyKey", raw.get("idempotency_key"))


def _identity(entry: LedgerEntry) -> tuple[TenantId, IdempotencyKey]:
    return entry.event.tenant, entry.event.key


def _copies(entries: Mapping[int, LedgerEntry]) -> dict[int, int]:
    """Which of a request's events are the same as an earlier one of it, and as which.

    They are never sent to the ledger: it would meet the `received_at` of this very request, and
    take the second copy for the client library's retry of the first.
    """
    times_sent = Counter(map(_identity, entries.values()))
    originals: dict[tuple[tuple[TenantId, IdempotencyKey], bytes], int] = {}
    copies: dict[int, int] = {}
    for at, entry in entries.items():
        identity = _identity(entry)
        if times_sent[identity] > 1:
            original = originals.setdefault((identity, entry.event.content_hash()), at)
            copies |= {at: original} if original != at else {}
    return copies


def _of_copy(result: EventResult) -> EventResult:
    if result.status is Status.ACCEPTED:
        return replace(result, status=Status.DUPLICATE, is_late=False)
    return result


def _refused(sent: UsageEvent, error: str) -> EventResult:
    return EventResult(Status.ERROR, sent.key, sent.metric, error=error)


def _failed(sent: UsageEvent) -> EventResult:
    return EventResult(
        Status.ERROR,
        sent.key,
        sent.metric,
        error="Not stored for now; send the same event again with the same key",
        retryable=True,
    )


def _too_late(settings: MetricSettings) -> str:
    hours = settings.lateness / timedelta(hours=1)
    return (
        f"Event is older than the {hours:g} h that metric {settings.metric!r} takes"
        " (its latePolicy is 'reject')"
    )


def _conflicting(entry: LedgerEntry) -> Quarantined:
    sent = entry.event
    return Quarantined(
        id=f"conflict-{sent.content_hash().hex()}",
        tenant=sent.tenant,
        key=sent.key,
        kind="conflict",
        reason="its idempotency key is taken by an event with other content",
        origin=str(sent.source),
        payload=describe(sent),
        recorded_at=entry.received_at,
    )


def describe(sent: UsageEvent) -> str:
    """An event as canonical JSON, for people."""
    return event.canonical_json(
        {
            "tenantId": sent.tenant,
            "metric": sent.metric,
            "customerRef": sent.customer,
            "resourceId": sent.resource,
            "quantity": sent.quantity,
            "ts": times.to_text(sent.occurred_at),
            "meta": sent.meta,
            "idempotencyKey": sent.key,
            "source": str(sent.source),
        }
    )
