"""Events: what happened in an account, each with the object as it was right afterwards."""

from collections import Counter
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

from local.stripe import deliveries, params, refusals
from local.stripe.call import Call
from local.stripe.lists import page
from local.stripe.params import Array, Fields, Instants, Text, within
from local.stripe.state import EVENT, Account, Put, World
from local.stripe.wire import API_VERSION, Json

TYPES_MAX = 20

LIST = Fields(
    {**params.LIST_FIELDS, "created": Instants(), "type": Text(), "types": Array(Text())},
    not_yet=("delivery_success",),
)


def emit(world: World, account: Account, kind: str, obj: Json, at: int) -> None:
    """Note that something happened to an object, and tell the webhook endpoints that want to know.

    `kind` is Stripe's event type, such as `invoice.created`; `obj` the object as answers show it;
    `at` the instant in Unix seconds, UTC.
    """
    told = deliveries.destinations(account, EVENT, kind)
    event = {
        "id": world.ids.next("evt_"),
        "object": EVENT,
        "api_version": API_VERSION,
        "created": at,
        "data": _data(world, account, kind, obj),
        "livemode": False,
        "pending_webhooks": len(told),
        "request": {
            "id": world.cause.request_id,
            "idempotency_key": world.cause.idempotency_key,
        },
        "type": kind,
    }
    world.record(Put(account.id, event))
    deliveries.schedule(world, account, event, told)


def _data(world: World, account: Account, kind: str, obj: Json) -> Json:
    before = world.before.pop((account.id, obj["object"], obj.get("id", "")), None)
    if before is None or not kind.endswith(".updated"):
        return {"object": obj}
    changed = {
        name: before[name]
        for name, value in obj.items()
        if name in before and before[name] != value
    }
    return {"object": obj, "previous_attributes": changed}


def retrieve(call: Call) -> Json:
    """One event."""
    return _shown(call.targeted(EVENT), _pending(call.account))


def list_all(call: Call) -> Json:
    """The account's events, newest first.

    Raises:
        RefusedError: both `type` and `types`, or more than 20 types.
    """
    given = call.params
    types = given.get("types") or []
    if types and "type" in given:
        raise refusals.invalid("You may pass either type or types, but not both.", "types")
    if len(types) > TYPES_MAX:
        raise refusals.invalid(f"You may pass at most {TYPES_MAX} types.", "types")
    found = (event for event in call.account.newest_first(EVENT) if _matches(event, given))
    listed = page(found, given, call.path)
    pending = _pending(call.account)
    return listed | {"data": [_shown(event, pending) for event in listed["data"]]}


def _matches(event: Json, given: Mapping[str, Any]) -> bool:
    patterns = given.get("types") or [given.get("type", "*")]
    return within(event["created"], given.get("created", {})) and any(
        fnmatchcase(event["type"], pattern) for pattern in patterns
    )


def _pending(account: Account) -> Counter[str]:
    return Counter(pending.event for pending in account.deliveries.values())


def _shown(event: Json, pending: Counter[str]) -> Json:
    return event | {"pending_webhooks": pending[event["id"]]}
