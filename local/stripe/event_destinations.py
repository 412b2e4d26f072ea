"""Event destinations of v2: webhooks and Amazon EventBridge, for snapshots or for thin events."""

from collections.abc import Mapping
from typing import Any

from local.stripe import deliveries, refusals, thin_events, v2, webhooks
from local.stripe.call import Call
from local.stripe.params import Array, Choice, Fields, Kind, Text, merged_metadata
from local.stripe.state import EVENT_DESTINATION
from local.stripe.wire import API_VERSION, Json

PING = "v2.core.event_destination.ping"
_SECRET = "webhook_endpoint.signing_secret"  # noqa: S105 (the name of a field)
_URL = "webhook_endpoint.url"

_WEBHOOK = Fields({"url": Text()}, required=("url",))
_COMMON: Mapping[str, Kind] = {
    "description": Text(),
    "enabled_events": Array(Text()),
    "include": Array(Choice(_SECRET, _URL)),
    "metadata": v2.Strings(),
    "name": Text(),
    "webhook_endpoint": _WEBHOOK,
}
CREATE = Fields(
    {
        **_COMMON,
        "amazon_eventbridge": Fields(
            {"aws_account_id": Text(), "aws_region": Text()},
            required=("aws_account_id", "aws_region"),
        ),
        "event_payload": Choice("snapshot", "thin"),
        "events_from": Array(Choice("@self")),
        "snapshot_api_version": Text(),
        "type": Choice(deliveries.EVENTBRIDGE, "webhook_endpoint"),
    },
    required=("enabled_events", "event_payload", "name", "type"),
    not_yet=("azure_event_grid",),
)
UPDATE = Fields(_COMMON)
INCLUDE = Fields({"include": Array(Choice(_URL))})
LIST = Fields({**v2.LIST_FIELDS, "include": Array(Choice(_URL))})


def create(call: Call) -> Json:
    """A new destination; its secret is shown only here, and only when it is asked for.

    Raises:
        RefusedError: the fields do not go with its type.
    """
    given = call.params
    kind = given["type"]
    if kind not in given:
        raise refusals.missing_parameter(kind)
    snapshot = given["event_payload"] == "snapshot"
    if "snapshot_api_version" in given and not snapshot:
        message = "Thin events have no version; leave snapshot_api_version out."
        raise refusals.invalid(message, "snapshot_api_version")
    destination = {
        "id": call.new_id("ed_test_"),
        "object": EVENT_DESTINATION,
        "created": v2.written(call.now),
        "description": given.get("description", ""),
        "enabled_events": given["enabled_events"],
        "event_payload": given["event_payload"],
        "events_from": given.get("events_from", ["@self"]),
        "livemode": False,
        "metadata": merged_metadata({}, given.get("metadata")),
        "name": given["name"],
        "snapshot_api_version": given.get("snapshot_api_version", API_VERSION)
        if snapshot
        else None,
        "status": "enabled",
        "status_details": None,
        "type": kind,
        "updated": v2.written(call.now),
        "old_secret": None,
        "secret": call.new_id("whsec_"),
        **_target(call, given),
    }
    return _shown(call.put(destination), given)


def _target(call: Call, given: Json) -> Json:
    if given["type"] == deliveries.EVENTBRIDGE:
        target, source = given["amazon_eventbridge"], call.new_id("ed_test_")
        owner, region = target["aws_account_id"], target["aws_region"]
        arn = f"arn:aws:events:{region}:{owner}:event-source/aws.partner/stripe.com/{source}"
        made = {
            "aws_account_id": owner,
            "aws_event_source_arn": arn,
            "aws_event_source_status": "active",
        }
        return {"amazon_eventbridge": made, "webhook_endpoint": None}
    url = given["webhook_endpoint"]["url"]
    webhooks.check_url(url, "webhook_endpoint.url")
    return {"amazon_eventbridge": None, "webhook_endpoint": {"url": url}}


def _shown(destination: Json, given: dict[str, Any]) -> Json:
    """A destination as answers show it: URL and secret only where they are included."""
    included = given.get("include") or ()
    shown = webhooks.shown(destination)
    if shown["webhook_endpoint"]:
        secret = destination["secret"] if _SECRET in included else None
        url = destination["webhook_endpoint"]["url"] if _URL in included else None
        shown["webhook_endpoint"] = {"signing_secret": secret, "url": url}
    return shown


def retrieve(call: Call) -> Json:
    """One destination."""
    return _shown(call.targeted(EVENT_DESTINATION), call.params)


def update(call: Call) -> Json:
    """The destination with the given fields changed.

    Raises:
        RefusedError: a URL for a destination that has none, or none that can be called.
    """
    destination, given = call.targeted(EVENT_DESTINATION), dict(call.params)
    include = {"include": given.pop("include", None)}
    if "webhook_endpoint" in given:
        if deliveries.is_eventbridge(destination):
            message = "A destination at Amazon EventBridge has no URL."
            raise refusals.invalid(message, "webhook_endpoint")
        webhooks.check_url(given["webhook_endpoint"]["url"], "webhook_endpoint.url")
    if "metadata" in given:
        given["metadata"] = merged_metadata(destination["metadata"], given["metadata"])
    return _shown(call.put(destination | given | {"updated": v2.written(call.now)}), include)


def list_all(call: Call) -> Json:
    """The account's destinations, newest first."""
    found = (_shown(one, call.params) for one in call.account.newest_first(EVENT_DESTINATION))
    return v2.page(found, call.params, call.path)


def delete(call: Call) -> Json:
    """The destination is told nothing more."""
    destination = call.targeted(EVENT_DESTINATION)
    gone = {"id": destination["id"], "object": EVENT_DESTINATION}
    call.put(gone | {"deleted": True})
    return gone


def enable(call: Call) -> Json:
    """The destination is told of events again."""
    return _in_status(call, "enabled", None)


def disable(call: Call) -> Json:
    """The destination is told nothing until it is enabled again."""
    return _in_status(call, "disabled", {"disabled": {"reason": "user"}})


def _in_status(call: Call, status: str, details: Json | None) -> Json:
    change = {"status": status, "status_details": details, "updated": v2.written(call.now)}
    return _shown(call.put(call.targeted(EVENT_DESTINATION) | change), {})


def ping(call: Call) -> Json:
    """Send a thin event to one destination only, whatever it listens to."""
    destination = call.targeted(EVENT_DESTINATION)
    event = thin_events.made(
        call.world,
        call.account,
        PING,
        None,
        call.at,
        related={
            "id": destination["id"],
            "type": EVENT_DESTINATION,
            "url": f"/v2/core/event_destinations/{destination['id']}",
        },
    )
    deliveries.schedule(call.world, call.account, event, [destination])
    return event
