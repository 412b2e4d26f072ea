"""Thin events: their notification names an object, and their data has to be fetched."""

from datetime import datetime
from typing import Any

from local.stripe import deliveries, refusals, v2
from local.stripe.call import Call
from local.stripe.params import Array, Fields, Text, within
from local.stripe.state import DEFAULT_ACCOUNT, THIN_EVENT, Account, Put, World
from local.stripe.wire import Json

LIST = Fields(
    {
        **v2.LIST_FIELDS,
        "created": Fields(dict.fromkeys(("gt", "gte", "lt", "lte"), v2.Instant())),
        "object_id": Text(),
        "types": Array(Text()),
    }
)


def emit(
    world: World, account: Account, kind: str, data: Json, at: datetime, *, related: Json | None
) -> None:
    """Note that something happened, and tell the thin destinations that want to know.

    `related` is the object it is about: `{id, type, url}`.
    """
    event = made(world, account, kind, data, at, related=related)
    told = deliveries.destinations(account, THIN_EVENT, kind)
    deliveries.schedule(world, account, event, told)


def made(
    world: World,
    account: Account,
    kind: str,
    data: Json | None,
    at: datetime,
    *,
    related: Json | None,
) -> Json:
    """An event that nobody is told of yet."""
    event: Json = {
        "id": world.ids.next("evt_test_"),
        "object": THIN_EVENT,
        "changes": None,
        # Whoever is told at another account needs to know whose event it is to fetch.
        "context": None if account.id == DEFAULT_ACCOUNT else account.id,
        "created": v2.written(at),
        "livemode": False,
        "reason": None,
        "snapshot_event": None,
        "type": kind,
    }
    if related is not None:
        event["related_object"] = related
    if data is not None:
        event["data"] = data
    world.record(Put(account.id, event))
    return event


def retrieve(call: Call) -> Json:
    """One event with its data.

    Raises:
        RefusedError: there is none; 404.
    """
    found = call.account.get(THIN_EVENT, call.target)
    if found is None:
        message = f"No such event: '{call.target}'"
        raise refusals.RefusedError(message, status=refusals.NOT_FOUND, code="not_found")
    return found


def list_all(call: Call) -> Json:
    """The account's events, newest first."""
    given = call.params
    found = (event for event in call.account.newest_first(THIN_EVENT) if _matches(event, given))
    return v2.page(found, given, call.path)


def _matches(event: Json, given: dict[str, Any]) -> bool:
    types, about = given.get("types"), given.get("object_id")
    if types and event["type"] not in types:
        return False
    if about and event.get("related_object", {}).get("id") != about:
        return False
    created = int(datetime.fromisoformat(event["created"]).timestamp())
    return within(created, given.get("created", {}))
