"""`make scale`: print the tables, or `--write` them into docs/scale.md and docs/cost.md."""

import sys
from pathlib import Path

from infra.cost import pages as cost
from infra.cost.measurement import Measurement
from infra.cost.sheet import document, replaced
from infra.scale import pages as scale

DOCS = Path(__file__).parents[2] / "docs"


def main(*arguments: str) -> None:
    """Print, or write."""
    measured = Measurement.load()
    if arguments == ("--write",):
        for name, sheets in (("scale", scale.page(measured)), ("cost", cost.page(measured))):
            path = DOCS / f"{name}.md"
            path.write_text(replaced(path.read_text(), sheets))
    elif arguments:
        sys.exit(f"error: {' '.join(arguments)} is unknown; there is --write, or nothing")
    else:
        sys.stdout.write(document(scale.page(measured)))


if __name__ == "__main__":
    main(*sys.argv[1:])
