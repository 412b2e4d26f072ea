"""What is packed into which layer, and what is left out of it, as data; reasons stand beside it."""

from dataclasses import dataclass
from pathlib import Path, PurePath

PROJECT = Path(__file__).parents[2]
LOCK = PROJECT / "requirements/functions.txt"

FUNCTIONS = "functions"
"""The asset of our own code, the same for all functions: each names its handler in it."""


@dataclass(frozen=True, slots=True)
class Layer:
    """Third-party packages that go together; Lambda unpacks them to `/opt/python`."""

    name: str
    distributions: tuple[str, ...]
    """As the lock file names them."""


RUNTIME = Layer(
    "runtime",
    (
        "annotated-types",
        "aws-lambda-powertools",
        "botocore",
        "jmespath",
        "pydantic",
        "pydantic-core",
        "python-dateutil",
        "six",
        "typing-extensions",
        "typing-inspection",
        "urllib3",
    ),
)
"""What every function may import, ingest among them."""

STRIPE = Layer("stripe", ("certifi", "charset-normalizer", "idna", "requests", "stripe"))
"""The SDK and what only it needs, for the functions that speak to Stripe."""

LAYERS: tuple[Layer, ...] = (RUNTIME, STRIPE)

LEFT_OUT = {
    "boto3": "our code makes clients by botocore (`metering.adapters.aws`): fewer imports",
    "prometheus-client": "serves a scraper from a process that stays; on AWS numbers go out as EMF",
    "s3transfer": "only boto3 needs it",
}
"""Of the lock file, and why Lambda does without."""

AWS_SERVICES = ("dynamodb", "secretsmanager")
"""Those that our code makes clients of; botocore describes over 400, in 28 MB."""


def is_needed(path: PurePath) -> bool:
    """Whether a file of a layer's `python` folder can ever be read on Lambda.

    No module is left out but tests: what a package imports of itself is its own affair.
    """
    first, *_ = path.parts
    if first in {"bin", ".lock"} or "tests" in path.parts:
        return False  # commands and tests
    if path.suffix == ".pyi" or path.name == "py.typed":
        return False  # for type checkers
    if first.endswith(".dist-info"):
        # What is installed, for scanners of vulnerabilities, and its licence. Without the entry
        # points pydantic looks for plugins in vain, which is faster, and there are none.
        return path.name == "METADATA" or "licenses" in path.parts
    if path.is_relative_to("botocore/data") and len(path.parts) > _BELOW_DATA:
        return path.parts[_BELOW_DATA - 1] in AWS_SERVICES
    return True


_BELOW_DATA = 3
"""Parts of `botocore/data/<service>`; only files stand beside the services."""
