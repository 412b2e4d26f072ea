"""A webhook endpoint of the tests: an HTTP server on this machine that keeps what it is sent."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

WAIT_S = 10.0


class Received(NamedTuple):
    body: bytes
    signature: str
    headers: dict[str, str]


class Receiver:
    """What was received so far; `status` is how the next ones are answered."""

    def __init__(self) -> None:
        self.url = ""
        self.status = 200
        self.received: list[Received] = []
        self._changed = threading.Condition()

    def take(self, received: Received) -> int:
        with self._changed:
            self.received.append(received)
            self._changed.notify_all()
            return self.status

    def wait_for(self, count: int) -> list[Received]:
        """Until so many were received; all of them."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.received) >= count, WAIT_S)
            return list(self.received)


@contextmanager
def receiving() -> Iterator[Receiver]:
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            headers = dict(self.headers.items())
            status = receiver.take(Received(body, headers.get("Stripe-Signature", ""), headers))
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (the base's name)
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        receiver.url = f"http://127.0.0.1:{server.server_address[1]}/stripe"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield receiver
        finally:
            server.shutdown()
            thread.join(WAIT_S)
