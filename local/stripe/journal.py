"""The state on disk: one line per request, the changes it made.

A line that was not finished when the process died is left out when the state is loaded: that
request was never answered. At each start the journal is written anew without what is outdated, and
put in the old one's place in one step.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from pydantic import TypeAdapter

from local.stripe.state import (
    ALERT,
    CHANGES,
    CUSTOMER,
    EVENT,
    EVENT_DESTINATION,
    INVOICE,
    INVOICE_ITEM,
    ITEM,
    METER,
    PRICE,
    PRODUCT,
    SUBSCRIPTION,
    TEST_CLOCK,
    THIN_EVENT,
    USAGE_RECORD,
    WEBHOOK_ENDPOINT,
    Account,
    Answered,
    Change,
    ClockMoved,
    DeliveryScheduled,
    EventReceived,
    EventRejected,
    KeyRuled,
    Put,
    RejectionsReported,
    World,
)

FILE_NAME = "stripe.jsonl"

_ADAPTERS: dict[str, TypeAdapter[Any]] = {kind.__name__: TypeAdapter(kind) for kind in CHANGES}
# A price needs its product and an item its subscription when they are stored again.
_KINDS = (
    METER,
    TEST_CLOCK,
    CUSTOMER,
    PRODUCT,
    PRICE,
    SUBSCRIPTION,
    ITEM,
    INVOICE_ITEM,
    INVOICE,
    USAGE_RECORD,
    ALERT,
    EVENT,
    THIN_EVENT,
    WEBHOOK_ENDPOINT,
    EVENT_DESTINATION,
)


class Journal:
    """The file that a world's changes are appended to."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, changes: Sequence[Change]) -> None:
        """Append one request's changes; they outlive the process when this returns."""
        self._file.write(_line(changes))
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def open_journal(folder: Path, world: World) -> Journal:
    """Load a world from its folder, and go on from there."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / FILE_NAME
    for change in _stored(path):
        change.apply(world)
    _rewrite(path, world)
    world.journaled = True
    return Journal(path.open("a", encoding="utf-8"))


def _stored(path: Path) -> Iterator[Change]:
    if not path.exists():
        return
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            if not line.endswith("\n"):
                return
            for kind, fields in json.loads(line):
                yield _ADAPTERS[kind].validate_python(fields)


def _rewrite(path: Path, world: World) -> None:
    fresh = path.with_suffix(".new")
    with fresh.open("w", encoding="utf-8") as file:
        file.writelines(_line([change]) for change in _whole(world))
    fresh.replace(path)


def _line(changes: Sequence[Change]) -> str:
    steps = [
        f'["{type(change).__name__}",{_ADAPTERS[type(change).__name__].dump_json(change).decode()}]'
        for change in changes
    ]
    return f"[{','.join(steps)}]\n"


def _whole(world: World) -> Iterator[Change]:
    """The changes that lead straight to a world as it is."""
    yield ClockMoved(world.clock.offset, world.clock.now() if world.clock.stands else None)
    for account in world.accounts.values():
        yield from _objects(account)
        yield from _events(account)
        yield RejectionsReported(account.id, account.reported)
        for delivery in account.deliveries.values():
            yield DeliveryScheduled(account.id, delivery)
        for key, answer in account.answers.items():
            yield Answered(account.id, key, answer)
        for key, answer in account.answers_of_v2.items():
            yield Answered(account.id, key, answer, of_v2=True)
    for api_key, rule in world.key_rules.items():
        yield KeyRuled(api_key, rule)


def _objects(account: Account) -> Iterator[Change]:
    for kind in _KINDS:
        for content in account.all(kind).values():
            yield Put(account.id, content)


def _events(account: Account) -> Iterator[Change]:
    received: list[tuple[int, Change]]
    received = [(event.number, EventReceived(account.id, event)) for event in account.events()]
    received += [(one.number, EventRejected(account.id, one)) for one in account.rejections]
    for _, change in sorted(received, key=lambda pair: pair[0]):
        yield change
