"""Schedule: export what the ledger took since the last export to S3."""

from collections.abc import Mapping
from typing import Any

from functions.invocation import invocation
from metering import wiring


@invocation
def handler(event: Mapping[str, Any], context: object) -> dict[str, Any]:
    """One run; answers what it began and what became of earlier exports."""
    wired = wiring.current()
    if wired.archiver is None:
        return {"archived": "off"}
    told = wired.archiver.run()
    if not told["repeated"]:  # Exports that fail day after day are as good as no runs.
        wired.metrics.count("runs_total", function="archiver")
    return told
