"""Webhook endpoints: the URLs that are told of events. The secret is shown once, at creation."""

from collections.abc import Mapping
from urllib.parse import urlsplit

from local.stripe import deliveries, params, refusals
from local.stripe.call import Call
from local.stripe.lists import page
from local.stripe.params import Array, Boolean, Fields, Kind, Metadata, Text, merged_metadata
from local.stripe.state import EVENT_DESTINATION, WEBHOOK_ENDPOINT, Account, Put, World
from local.stripe.wire import Json

PRIVATE = ("secret", "old_secret")
"""What is stored of an endpoint and not shown."""

_COMMON: Mapping[str, Kind] = {
    "description": Text(unset=True),
    "enabled_events": Array(Text()),
    "metadata": Metadata(),
    "url": Text(),
}
CREATE = Fields(
    {**_COMMON, "api_version": Text()}, required=("enabled_events", "url"), not_yet=("connect",)
)
UPDATE = Fields({**_COMMON, "disabled": Boolean()})
LIST = Fields(params.LIST_FIELDS)


def create(call: Call) -> Json:
    """A new endpoint, with the secret that signs what it is sent."""
    given = call.params
    check_url(given["url"], "url")
    endpoint = {
        "id": call.new_id("we_"),
        "object": WEBHOOK_ENDPOINT,
        "api_version": given.get("api_version"),
        "application": None,
        "created": call.now,
        "description": given.get("description"),
        "enabled_events": given["enabled_events"],
        "livemode": False,
        "metadata": merged_metadata({}, given.get("metadata")),
        "old_secret": None,
        "secret": call.new_id("whsec_"),
        "status": "enabled",
        "url": given["url"],
    }
    call.put(endpoint)
    return shown(endpoint) | {"secret": endpoint["secret"]}


def check_url(url: str, param: str) -> None:
    """Take only what can be called at all.

    Raises:
        RefusedError: it is no HTTP URL.
    """
    if not _can_be_called(url):
        message = f"Invalid URL: {url}; it must be whole, such as https://example.com/stripe."
        raise refusals.invalid(message, param, code="url_invalid")


def _can_be_called(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def shown(endpoint: Json) -> Json:
    """An endpoint as answers show it: without its secrets."""
    return {name: value for name, value in endpoint.items() if name not in PRIVATE}


def retrieve(call: Call) -> Json:
    """One endpoint."""
    return shown(call.targeted(WEBHOOK_ENDPOINT))


def update(call: Call) -> Json:
    """The endpoint with the given fields changed."""
    endpoint, given = call.targeted(WEBHOOK_ENDPOINT), dict(call.params)
    if "url" in given:
        check_url(given["url"], "url")
    if "metadata" in given:
        given["metadata"] = merged_metadata(endpoint["metadata"], given["metadata"])
    if "disabled" in given:
        given["status"] = "disabled" if given.pop("disabled") else "enabled"
    return shown(call.put(endpoint | given))


def list_all(call: Call) -> Json:
    """The account's endpoints, newest first."""
    found = (shown(one) for one in call.account.newest_first(WEBHOOK_ENDPOINT))
    return page(found, call.params, call.path)


def delete(call: Call) -> Json:
    """The endpoint is told nothing more."""
    endpoint = call.targeted(WEBHOOK_ENDPOINT)
    return call.put({"id": endpoint["id"], "object": WEBHOOK_ENDPOINT, "deleted": True})


def roll_secret(world: World, account: Account, identity: str, *, keep_old_s: float) -> str:
    """Give an endpoint or destination a new secret; the old one signs on for a while, too.

    The dashboard does this at Stripe; there is no call for it.

    Raises:
        RefusedError: there is no such endpoint.
    """
    kinds = (WEBHOOK_ENDPOINT, EVENT_DESTINATION)
    found = next(filter(None, (account.get(kind, identity) for kind in kinds)), None)
    if found is None or deliveries.is_eventbridge(found):
        raise refusals.no_such("webhook endpoint", identity, param="endpoint")
    secret = world.ids.next("whsec_")
    until = world.clock.now().timestamp() + keep_old_s
    old = {"secret": found["secret"], "until": until}
    world.record(Put(account.id, found | {"secret": secret, "old_secret": old}))
    return secret
