"""Lambda's side of a cold start: the runtime API, Secrets Manager, and a process with nothing else.

A function is started from the built assets alone. What they lack, it lacks; only Python's own
library and `awslambdaric` are there beside them, as on Lambda.
"""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import distribution
from pathlib import Path
from typing import Any, ClassVar

from infra.functions import Function
from local.dynamodb_local import ACCESS_KEY, REGION, SECRET_KEY
from local.ports import LOOPBACK
from metering.adapters.clock import SystemClock

STARTER = Path(__file__).with_name("starter.py")
RUNTIME_PACKAGES = ("awslambdaric", "simplejson", "snapshot-restore-py")
_INVOCATION = "/2018-06-01/runtime/invocation/"
_WITHIN_S = 60

type Proxied = Callable[[str, str, Mapping[str, str], bytes], tuple[int, bytes]]
"""Answers (method, path with query, headers in lower case, body) by status and body."""


@dataclass
class Host:
    """What one cold start asks of its surroundings, and what it said."""

    event: Mapping[str, Any]
    timeout_s: int
    secrets: Mapping[str, str]
    proxied: Proxied
    """What else is asked: another service of AWS, or our own API."""
    answers: list[Any] = field(default_factory=list)
    errors: list[Any] = field(default_factory=list)


@dataclass(frozen=True)
class Started:
    """One cold start: what it answered, and what it took to get there."""

    answer: Any
    cpu_ms: float
    modules: Mapping[str, str]
    """Name and file of every module that was imported after the runtime was up."""
    output: str


def runtime_folder(folder: Path) -> Path:
    """A folder with `awslambdaric` and what it needs, and nothing else that is installed here."""
    for name in RUNTIME_PACKAGES:
        package = distribution(name)
        for top in {Path(file).parts[0] for file in package.files or ()}:
            source = Path(str(package.locate_file(top)))
            if not top.endswith(".dist-info") and top != ".." and source.exists():
                (folder / top).symlink_to(source)
    return folder


def start(
    function: Function, host: Host, paths: list[Path], environment: Mapping[str, str], report: Path
) -> Started:
    """Start a function on its event, in an environment of these variables and no others.

    `{host}` in a variable is where the host listens.
    """
    with _serving(host) as address:
        done = subprocess.run(
            [_python(), "-I", "-S", str(STARTER), str(report), *map(str, paths)],
            env=_environment(function, address)
            | {name: value.replace("{host}", address) for name, value in environment.items()},
            cwd=report.parent,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_WITHIN_S,
            check=False,
        )
    output = done.stdout.decode(errors="replace")
    assert not host.errors, f"{function.name}: {json.dumps(host.errors, indent=1)}\n{output}"
    assert done.returncode == 0, f"{function.name} ended with {done.returncode}:\n{output}"
    (answer,) = host.answers
    return Started(answer=answer, output=output, **json.loads(report.read_text()))


def _python() -> str:
    """The interpreter itself: the one of an environment would add the environment's packages."""
    return os.path.realpath(sys.executable)


def _environment(function: Function, address: str) -> dict[str, str]:
    """What Lambda sets. Source: AWS, "Defined runtime environment variables"."""
    return {
        "_HANDLER": function.handler,
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ENDPOINT_URL_SECRETS_MANAGER": f"http://{address}",
        "AWS_EXECUTION_ENV": "AWS_Lambda_python3.13",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(function.memory_mb),
        "AWS_LAMBDA_FUNCTION_NAME": function.name,
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "AWS_LAMBDA_LOG_FORMAT": "JSON",
        "AWS_LAMBDA_LOG_LEVEL": "INFO",
        "AWS_LAMBDA_RUNTIME_API": address,
        "AWS_REGION": REGION,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "LANG": "en_US.UTF-8",
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "TZ": ":UTC",
    }


@contextmanager
def _serving(host: Host) -> Iterator[str]:
    handler = type("Handler", (_Handler,), {"host": host})
    with ThreadingHTTPServer((LOOPBACK, 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"{LOOPBACK}:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    """The runtime API for one invocation. Source: AWS, "Using the Lambda runtime API"."""

    host: ClassVar[Host]
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Nothing."""

    def do_GET(self) -> None:
        """The next invocation, or a read of something else."""
        if self.path != _INVOCATION + "next":
            self._proxy(b"")
            return
        deadline = SystemClock().now().timestamp() + self.host.timeout_s
        headers = {
            "Content-Type": "application/json",
            "Lambda-Runtime-Aws-Request-Id": "8476a536-e9f4-11e8-9739-2dfe598c3fcd",
            "Lambda-Runtime-Deadline-Ms": str(int(deadline * 1000)),
            "Lambda-Runtime-Invoked-Function-Arn": f"arn:aws:lambda:{REGION}:1:function:it",
        }
        self._send(HTTPStatus.OK, json.dumps(self.host.event).encode(), headers)

    def do_POST(self) -> None:
        """An answer, an error, or a call of something else."""
        body = self._body()
        if not self.path.startswith("/2018-06-01/"):
            self._proxy(body)
            return
        kept = self.host.answers if self.path.endswith("/response") else self.host.errors
        kept.append(json.loads(body))
        self._send(HTTPStatus.ACCEPTED, b"")

    def _proxy(self, body: bytes) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        if headers.get("x-amz-target", "").startswith("secretsmanager."):
            name = json.loads(body)["SecretId"]
            found = {"Name": name, "SecretString": self.host.secrets[name]}
            self._send(HTTPStatus.OK, json.dumps(found).encode())
            return
        self._send(*self.host.proxied(self.command, self.path, headers, body))

    def _body(self) -> bytes:
        if self.headers.get("transfer-encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("content-length", "0")))
        parts = []
        while size := int(self.rfile.readline().strip() or b"0", 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _send(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (dict(headers or {}) | {"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
