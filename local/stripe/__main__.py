"""`python -m local.stripe`: the stand-in alone."""

from pathlib import Path
from typing import Annotated

import typer

from local.stripe import server
from local.stripe.state import SUMMARY_DELAY_S


def main(
    port: Annotated[int, typer.Option(help="Where to listen on 127.0.0.1; 0 takes a free one.")] = (
        server.PORT
    ),
    data: Annotated[Path | None, typer.Option(help="Keep the state in this folder.")] = None,
    summary_delay_s: Annotated[
        float, typer.Option(min=0, help="How long meter events stay out of the summaries.")
    ] = SUMMARY_DELAY_S,
) -> None:
    """Run a stateful stand-in for Stripe's Billing Meters until Ctrl-C."""
    try:
        server.serve(port, data=data, summary_delay_s=summary_delay_s)
    except server.PortTakenError as error:
        raise SystemExit(f"Stripe stand-in: {error}") from None


if __name__ == "__main__":
    typer.run(main)
