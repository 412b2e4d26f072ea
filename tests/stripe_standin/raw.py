"""Plain HTTP to the stand-in, for what the SDK would never send."""

from typing import Any

import requests

from local.stripe.control import StandIn

KEY = {"Authorization": "Bearer sk_test_x"}


def call(
    stand_in: StandIn,
    method: str,
    path: str,
    *,
    form: str | None = None,
    headers: dict[str, str] | None = None,
) -> requests.Response:
    content = {"Content-Type": "application/x-www-form-urlencoded"}
    return requests.request(
        method,
        stand_in.url + path,
        data=form,
        headers=content | (KEY if headers is None else headers),
        timeout=10,
    )


def error_of(response: requests.Response) -> dict[str, Any]:
    error: dict[str, Any] = response.json()["error"]
    return error
