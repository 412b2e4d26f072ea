"""Lists as Stripe pages them: newest first, a cursor is the id of an object."""

from collections.abc import Iterable
from typing import Any

from local.stripe import refusals
from local.stripe.wire import Json

LIMIT_DEFAULT = 10


def page(objects: Iterable[Json], params: dict[str, Any], url: str) -> Json:
    """One page of objects that come newest first.

    Raises:
        RefusedError: two cursors, or one that names no object of the list.
    """
    listed = list(objects)
    after, before = params.get("starting_after"), params.get("ending_before")
    if after and before:
        message = "You may only specify one of these parameters: starting_after, ending_before."
        raise refusals.invalid(message, "ending_before")
    limit = params.get("limit") or LIMIT_DEFAULT
    if before:
        preceding = listed[: _position(listed, before, "ending_before")]
        return _list(preceding[-limit:], url, has_more=len(preceding) > limit)
    rest = listed[_position(listed, after, "starting_after") + 1 :] if after else listed
    return _list(rest[:limit], url, has_more=len(rest) > limit)


def whole(objects: list[Json], url: str) -> Json:
    """A list that is part of an object, in the given order."""
    return _list(objects, url, has_more=False)


def _list(data: list[Json], url: str, *, has_more: bool) -> Json:
    return {"object": "list", "data": data, "has_more": has_more, "url": url}


def _position(listed: list[Json], cursor: str, param: str) -> int:
    for index, content in enumerate(listed):
        if content["id"] == cursor:
            return index
    raise refusals.no_such("object", cursor, param=param)
