"""moto's server in a process of its own: the queues (and later secrets) of the local stack.

Unlike moto's own command it keeps connections open and logs no request.
"""

import argparse
import signal
import sys
from typing import Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

from local.ports import LOOPBACK


class _QuietHandler(WSGIRequestHandler):
    """HTTP/1.1, so that clients keep their connections; nothing is logged."""

    protocol_version = "HTTP/1.1"

    def log_request(self, *args: Any) -> None:
        """Not a word."""


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m local.moto_server", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    port = parser.parse_args().port
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    application = DomainDispatcherApplication(create_backend_app)
    make_server(
        LOOPBACK, port, application, threaded=True, request_handler=_QuietHandler
    ).serve_forever()


if __name__ == "__main__":
    main()
