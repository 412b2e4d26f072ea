"""Fixtures for the tests of the local stack: moto in a process of its own."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from local.dynamodb_local import PROJECT
from local.ports import LOOPBACK, free_port, wait_until_listening


@pytest.fixture(scope="session")
def sqs_endpoint() -> Iterator[str]:
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "local.moto_server", "--port", str(port)], cwd=PROJECT
    )
    assert wait_until_listening(port, within_s=20)
    yield f"http://{LOOPBACK}:{port}"
    process.terminate()
    process.wait(timeout=10)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"
