"""What clients sent and were told, and what the ledger holds: I1, I2, I3, I9, I15 and I17."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from infra.tables import EVENTS, QUARANTINE
from tests.simulation.aws.dynamodb import Change
from tests.simulation.aws.mapping import Failure
from tests.simulation.aws.queue import QueueInvocation
from tests.simulation.clients import Clients, Copy
from tests.simulation.invariants_items import APPROVAL, REVERT, Entry, Item, entry_of, name
from tests.simulation.violation import Found
from tests.simulation.world import World

DECIDED = "adjustment:"
"""How the keys of decisions begin."""
_DERIVED = "evt_"
"""How the key of an event begins that was sent without one."""

type _Content = tuple[Any, ...]


class LedgerWatch:
    """Keeps a ledger of its own, of what it sees being written, and compares."""

    def __init__(self, world: World, clients: Clients, found: Found) -> None:
        self.entries: dict[tuple[str, str], Entry] = {}
        """By tenant and key."""
        self._world = world
        self._clients = clients
        self._found = found
        self._sent: dict[_Content, list[Copy]] = {}
        self._known = 0
        self._accepted: Counter[tuple[str, str]] = Counter()
        self._aside: dict[str, list[Item]] = defaultdict(list)
        """What is in quarantine, by what it is about."""
        self._refused_messages: dict[str, str] = {}
        """The bodies that were set aside whole."""
        clients.told = self.told
        finished = world.queue.finished

        def finish(invocation: QueueInvocation, answer: Any, now: datetime) -> None:
            self._acknowledged(invocation, answer)
            finished(invocation, answer, now)

        world.queue.finished = finish  # type: ignore[method-assign]

    # --- as items are written ---

    def changed(self, change: Change) -> Entry | None:
        """Look at a write; the new entry of the ledger, if it is one."""
        if change.table == QUARANTINE.name and change.new_image is not None:
            self._aside[change.keys["pk"]["S"]].append(change.new_image)
        if change.table != EVENTS.name:
            return None
        if change.event_name != "INSERT" or change.new_image is None:
            self._found.say(
                "I9",
                f"{change.keys['pk']['S']} of the ledger: {change.event_name} where only new items"
                f" may come; it held {self.entries.get(_key_of(change))}, now {change.new_image}",
            )
            return None
        entry = entry_of(change.new_image)
        self.entries[entry.tenant, entry.key] = entry
        self._check_origin(entry)
        return entry

    def _check_origin(self, entry: Entry) -> None:
        if entry.kind != "usage":
            self._check_decision(entry)
        elif not any(_has_key(copy, entry.key) for copy in self._copies(entry)):
            self._found.say(
                "I1",
                f"the ledger of {entry.tenant} holds {entry.quantity} {entry.metric} of"
                f" {entry.customer} under {entry.key!r}, and nobody sent that:"
                f" {self._named(entry.tenant, entry.key)}",
            )

    def _copies(self, entry: Entry) -> list[Copy]:
        if self._known != len(self._clients.copies):
            self._known = len(self._clients.copies)
            self._sent = {}
            for copy in self._clients.copies:
                self._sent.setdefault(_content(copy), []).append(copy)
        return self._sent.get(_content_of(entry), [])

    def _named(self, tenant: str, key: str) -> str:
        own = [one for one in self._clients.copies if (one.tenant, one.key) == (tenant, key)]
        return f"{len(own)} copies have the key, of {[str(one.quantity) for one in own]}"

    def _check_decision(self, entry: Entry) -> None:
        """An approval has its late event, a revert what it takes back, a correction its record."""
        if entry.kind == "approval":
            about, sign = entry.key.removeprefix(APPROVAL), 1
        elif entry.kind == "approval_revert":
            about, sign = APPROVAL + entry.key.removeprefix(REVERT), -1
        elif entry.key.endswith(":revert"):
            about, sign = entry.key.removesuffix(":revert"), -1
        else:
            self._check_record(entry)
            return
        held = self.entries.get((entry.tenant, about))
        if held is None or held.quantity * sign != entry.quantity or held.at != entry.at:
            self._found.say(
                "I1",
                f"{entry.key!r} of {entry.tenant} decides {entry.quantity} about {about!r}, which"
                f" holds {held.quantity if held else 'nothing'}",
            )

    def _check_record(self, entry: Entry) -> None:
        at = {"pk": {"S": name(entry.tenant)}, "sk": {"S": entry.key.removeprefix(DECIDED)}}
        record = self._world.tables.item("adjustments", at)
        if record is None or record["delta"]["N"] != f"{entry.quantity:f}":
            self._found.say(
                "I1",
                f"the ledger of {entry.tenant} holds a correction by {entry.quantity} under"
                f" {entry.key!r}, its record one by {record['delta']['N'] if record else None}",
            )

    # --- as answers are heard ---

    def told(self, copy: Copy, status: str) -> None:
        """A client hears what became of a copy."""
        standing = self.entries.get((copy.tenant, copy.key))
        is_same = standing is not None and _content_of(standing) == _content(copy)
        if status == "accepted":
            self._accepted[copy.tenant, copy.key] += 1
            if (times := self._accepted[copy.tenant, copy.key]) > 1:
                self._found.say(
                    "I3", f"{copy.key!r} of {copy.tenant} was accepted {times} times, not once"
                )
        if status in {"accepted", "duplicate"} and not is_same:
            self._found.say(
                "I2",
                f"{copy.key!r} of {copy.tenant} was answered {status}, and the ledger holds"
                f" {standing.quantity if standing else 'nothing'} there, not {copy.quantity}",
            )
        is_own_key = not copy.key.startswith(_DERIVED)
        if status == "conflict" and (standing is None or is_same or not is_own_key):
            self._found.say(
                "I3",
                f"{copy.key!r} of {copy.tenant} was answered conflict for {copy.quantity}, and the"
                f" ledger holds {standing.quantity if standing else 'nothing'} there;"
                f" {'its client' if is_own_key else 'nobody'} chose the key",
            )

    def _acknowledged(self, invocation: QueueInvocation, answer: Any) -> None:
        """A function says which messages it is done with."""
        if isinstance(answer, Failure):
            return
        failed = {one["itemIdentifier"] for one in answer.get("batchItemFailures", ())}
        for message, _ in invocation.received:
            if message.id not in failed:
                self._check_message(message.id, message.body)

    def _check_message(self, message_id: str, body: str) -> None:
        if self._has_reason(f"sqs-{message_id}"):
            self._refused_messages[message_id] = body
            return
        for position, event in enumerate(_events_of(body)):
            if not self._is_kept(event, f"sqs-{message_id}-{position}"):
                self._found.say(
                    "I2",
                    f"message {message_id} is done with, and its event {position} of"
                    f" {len(_events_of(body))} is in neither ledger nor quarantine: {event}",
                )

    def _is_kept(self, event: Mapping[str, Any], aside: str) -> bool:
        tenant, key = event.get("tenantId"), event.get("idempotencyKey")
        if not isinstance(tenant, str) or not isinstance(key, str):
            return self._has_reason(aside)
        standing = self.entries.get((tenant, key))
        if standing is not None and json.loads(standing.meta) == event["meta"]:
            return True
        return self._has_reason(name(tenant, key))

    def _has_reason(self, about: str) -> bool:
        return any(item.get("reason", {}).get("S") for item in self._aside.get(about, ()))

    # --- in the end ---

    def end(self) -> None:
        """Every copy is explained, and every client knows."""
        in_table = self._world.tables.items(EVENTS.name)
        if len(in_table) != len(self.entries):
            self._found.say(
                "I9",
                f"the ledger holds {len(in_table)} items, and {len(self.entries)} were written",
            )
        for item in in_table:
            entry = entry_of(item)
            before = self.entries.get((entry.tenant, entry.key))
            if before != entry:
                self._found.say(
                    "I9", f"{entry.key!r} of {entry.tenant} is {entry}, and was written as {before}"
                )
        self._check_answers()
        self._check_conservation()

    def _check_answers(self) -> None:
        silent = [one for one in self._clients.copies if not one.is_queued and not one.answers]
        if silent or self._clients.waiting:
            self._found.say(
                "I15",
                f"{len(silent)} of {len(self._clients.copies)} copies have no definite answer, and"
                f" {self._clients.waiting} requests wait: {[one.key for one in silent[:3]]}",
            )

    def _check_conservation(self) -> None:
        whole = "".join(self._refused_messages.values())
        what = Counter[str]()
        for copy in self._clients.copies:
            became = self._became(copy, whole)
            what[became] += 1
            if became == "unexplained":
                self._found.say(
                    "I17",
                    f"a copy of {copy.quantity} under {copy.key!r} of {copy.tenant} is in neither"
                    f" ledger nor quarantine; it was told {copy.answers or 'nothing'}",
                )
        usage = sum(one.kind == "usage" for one in self.entries.values())
        # Of all copies with the ledger's content one was taken, and the others are duplicates.
        if len({self._key(one) for one in self._clients.copies} & self.entries.keys()) != usage:
            self._found.say(
                "I17",
                f"{len(self._clients.copies)} copies became {dict(sorted(what.items()))}, and the"
                f" ledger holds {usage} events",
            )

    def _key(self, copy: Copy) -> tuple[str, str]:
        return copy.tenant, copy.key

    def _became(self, copy: Copy, whole: str) -> str:
        standing = self.entries.get((copy.tenant, copy.key))
        if standing is not None and _content_of(standing) == _content(copy):
            return "kept"
        if any(answer.startswith("error") for answer in copy.answers):
            return "refused"
        if self._has_reason(name(copy.tenant, copy.key)):
            return "conflict" if standing is not None else "quarantined"
        if copy.is_queued and f'"idempotencyKey": "{copy.key}"' in whole:
            return "quarantined"
        return "unexplained"

    def taken(self) -> Iterator[tuple[Entry, Copy]]:
        """Each key's entry with the copy that was taken, as it was sent."""
        for entry in self.entries.values():
            if entry.kind == "usage":
                copies = [one for one in self._copies(entry) if _has_key(one, entry.key)]
                yield from ((entry, copy) for copy in copies[:1])


def _key_of(change: Change) -> tuple[str, str]:
    tenant, key = (change.new_image or {}).get("t", {}), (change.new_image or {}).get("k", {})
    return tenant.get("S", ""), key.get("S", "")


def _has_key(copy: Copy, key: str) -> bool:
    return copy.key == key or (not copy.key and key.startswith(_DERIVED))


def _content(copy: Copy) -> _Content:
    return copy.tenant, copy.metric, copy.customer, copy.quantity, copy.at, copy.number


def _content_of(entry: Entry) -> _Content:
    number = json.loads(entry.meta).get("n")
    return entry.tenant, entry.metric, entry.customer, entry.quantity, entry.at, number


def _events_of(body: str) -> list[Any]:
    events = json.loads(body)
    return events if isinstance(events, list) else [events]
