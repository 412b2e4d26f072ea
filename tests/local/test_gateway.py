import asyncio
import base64
import json
import threading
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import httpx
import pytest

from infra.functions import API, INGEST, WRITER, Http
from local.control import Control
from local.environment import Environment
from local.gateway import Gateway, routes_of
from local.handlers import Loaded
from local.schedules import Scheduled
from local.stripe.clock import SettableClock
from local.time_travel import TimeTravel
from metering.adapters.clock import SystemClock
from tests.local.helpers import an_event

HOST = "a1b2c3d4e5.execute-api.us-east-1.amazonaws.com"


class Recorder:
    """A handler that notes events and gives one answer."""

    def __init__(self, answer: object = None) -> None:
        self.events: list[Any] = []
        self._answer = answer

    def __call__(self, event: Any, context: Any) -> Any:
        self.events.append(event)
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer


def send(gateway: Gateway, method: str, path: str, **request: Any) -> httpx.Response:
    async def call() -> httpx.Response:
        transport = httpx.ASGITransport(app=gateway)
        async with httpx.AsyncClient(transport=transport, base_url=f"http://{HOST}") as client:
            return await client.request(method, path, **request)

    return asyncio.run(call())


def a_control() -> Control:
    clock = SettableClock(SystemClock().now)
    return Control(TimeTravel(clock, "http://127.0.0.1:1", lambda: ()))


def a_gateway(ingest: Any, api: Any, **options: Any) -> Gateway:
    return Gateway(routes_of([Loaded(INGEST, ingest), Loaded(API, api)]), **options)


def replayed(name: str) -> tuple[dict[str, Any], Any]:
    """An example event, and what the gateway makes of the request it came from."""
    real = an_event(name)
    recorder = Recorder({})
    http = real["requestContext"]["http"]
    query = f"?{real['rawQueryString']}" if real["rawQueryString"] else ""
    content = real["body"].encode() if "body" in real else None
    gateway = a_gateway(recorder, recorder)
    sent = send(
        gateway, http["method"], http["path"] + query, headers=real["headers"], content=content
    )
    assert sent.status_code == 200
    return real, recorder.events[0]


@pytest.mark.parametrize("name", ["http-ingest", "http-get"])
def test_a_request_becomes_the_event_that_api_gateway_would_send(name: str) -> None:
    real, ours = replayed(name)

    context, real_context = ours.pop("requestContext"), real.pop("requestContext")
    ours["headers"] = {key: ours["headers"][key] for key in real["headers"]}
    assert ours == real
    assert context.keys() == real_context.keys()
    for name_ in ("domainName", "domainPrefix", "routeKey", "stage"):
        assert context[name_] == real_context[name_]
    assert context["http"] == real_context["http"] | {"sourceIp": "127.0.0.1"}
    assert len(context["time"]) == len(real_context["time"])


def test_ingest_has_its_own_route_and_everything_else_goes_to_the_api() -> None:
    ingest, api = Recorder({}), Recorder({})
    gateway = a_gateway(ingest, api)

    send(gateway, "POST", "/v1/events/ingest", json={})
    send(gateway, "GET", "/v1/events/ingest")
    send(gateway, "GET", "/health")

    assert [event["routeKey"] for event in ingest.events] == ["POST /v1/events/ingest"]
    assert [event["routeKey"] for event in api.events] == ["$default", "$default"]


def test_repeated_headers_and_parameters_are_joined_and_cookies_stand_apart() -> None:
    api = Recorder({})
    headers = [("X-Tag", "a"), ("X-Tag", "b"), ("Cookie", "one=1; two=2")]

    send(a_gateway(api, api), "GET", "/v1/events?a=1&a=2&b=%20x", headers=headers)

    [event] = api.events
    assert event["headers"]["x-tag"] == "a,b"
    assert "cookie" not in event["headers"]
    assert event["cookies"] == ["one=1", "two=2"]
    assert event["queryStringParameters"] == {"a": "1,2", "b": " x"}
    assert event["rawQueryString"] == "a=1&a=2&b=%20x"


def test_a_path_arrives_decoded() -> None:
    api = Recorder({})

    send(a_gateway(api, api), "GET", "/v1/customers/a%20b%7Cc")

    assert api.events[0]["rawPath"] == "/v1/customers/a b|c"


@pytest.mark.parametrize(
    ("headers", "content"),
    [
        ({"content-type": "application/octet-stream"}, b"abc"),
        ({"content-type": "application/json", "content-encoding": "gzip"}, b"abc"),
        ({"content-type": "application/json"}, b"\xff\xfe"),
        ({}, b"abc"),
    ],
)
def test_what_is_no_text_arrives_in_base64(headers: dict[str, str], content: bytes) -> None:
    ingest = Recorder({})

    send(a_gateway(ingest, ingest), "POST", "/v1/events/ingest", headers=headers, content=content)

    [event] = ingest.events
    assert event["isBase64Encoded"] is True
    assert base64.b64decode(event["body"]) == content


def test_an_answer_with_a_status_is_given_as_told() -> None:
    api = Recorder(
        {
            "statusCode": 201,
            "headers": {"X-Count": 3, "Content-Type": "text/csv"},
            "cookies": ["a=1", "b=2"],
            "body": base64.b64encode(b"x,y").decode(),
            "isBase64Encoded": True,
        }
    )

    answered = send(a_gateway(api, api), "GET", "/")

    assert (answered.status_code, answered.content) == (201, b"x,y")
    assert answered.headers["x-count"] == "3"
    assert answered.headers["content-type"] == "text/csv"
    assert answered.headers.get_list("set-cookie") == ["a=1", "b=2"]


@pytest.mark.parametrize(("result", "body"), [({"a": 1}, b'{"a": 1}'), ("plain", b"plain")])
def test_any_other_result_is_200_json(result: object, body: bytes) -> None:
    api = Recorder(result)

    answered = send(a_gateway(api, api), "GET", "/")

    assert (answered.status_code, answered.content) == (200, body)
    assert answered.headers["content-type"] == "application/json"


def a_response(**changes: Any) -> dict[str, Any]:
    return {"statusCode": 200, "body": "", **changes}


@pytest.mark.parametrize(
    "result",
    [
        RuntimeError("broken"),
        a_response(body={"not": "text"}),
        a_response(statusCode="many"),
        a_response(body="%%%", isBase64Encoded=True),
        a_response(body="x" * (6 * 1024 * 1024 + 1)),
        object(),
    ],
    ids=["raises", "body", "status", "base64", "too large", "no JSON"],
)
def test_a_broken_handler_is_a_500_that_says_nothing_more(result: object) -> None:
    api = Recorder(result)

    answered = send(a_gateway(api, api), "GET", "/")

    assert (answered.status_code, answered.json()) == (500, {"message": "Internal Server Error"})


def test_a_handler_that_takes_too_long_is_a_503() -> None:
    release = threading.Event()

    def slow(event: Any, context: Any) -> Any:
        release.wait(10)

    answered = send(a_gateway(slow, slow, timeout_s=0.05), "GET", "/")
    release.set()

    assert (answered.status_code, answered.json()) == (503, {"message": "Service Unavailable"})


def test_more_than_ten_megabytes_are_refused_before_the_handler() -> None:
    ingest = Recorder({})
    body = b"x" * (10 * 1024 * 1024 + 1)

    answered = send(a_gateway(ingest, ingest), "POST", "/v1/events/ingest", content=body)

    assert answered.status_code == 413
    assert not ingest.events


def test_routes_with_variables_are_refused_at_start() -> None:
    def with_routes(*routes: str) -> Iterable[Loaded]:
        yield Loaded(replace(API, trigger=Http(routes)), Recorder())

    with pytest.raises(ValueError, match="name it exactly"):
        routes_of(with_routes("GET /v1/x/{id}"))


# --- control routes -------------------------------------------------------------------------------


def test_the_control_routes_say_what_there_is() -> None:
    gateway = a_gateway(Recorder(), Recorder(), control=a_control())

    nowhere = send(gateway, "GET", "/_local/nothing")
    unknown = send(gateway, "POST", "/_local/run/writer")
    broken = send(gateway, "POST", "/_local/drain", content=b"[1]")

    assert nowhere.status_code == 404
    assert "POST run/<function>" in nowhere.json()["message"]
    assert unknown.json()["message"] == "no scheduled function 'writer'; there are: none"
    assert broken.status_code == 400


def test_a_functions_own_error_is_not_taken_for_a_mistake_of_the_caller() -> None:
    def handler(event: Any, context: Any) -> Any:
        raise TypeError("an argument is missing")

    control = a_control()
    control.schedules["writer"] = Scheduled(WRITER, lambda: Environment(Loaded(WRITER, handler)))

    answered = send(
        a_gateway(Recorder(), Recorder(), control=control), "POST", "/_local/run/writer"
    )

    assert answered.status_code == 500
    assert answered.json()["message"] == "writer raised TypeError('an argument is missing')"


def test_the_status_tells_the_memory_of_the_process() -> None:
    gateway = a_gateway(Recorder(), Recorder(), control=a_control())

    status = json.loads(send(gateway, "GET", "/_local/status").content)

    assert 10 < status["rss_mb"] < 2000
