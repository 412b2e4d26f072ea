"""`python -m infra.packaging`: build the assets of a deployment and tell what they weigh."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from infra.budgets import ASSET_MB, MB
from infra.packaging import tree
from infra.packaging.assets import OUT, PLATFORMS, built
from infra.packaging.lock import PackagingError

LAMBDA_MAX_MB = 250

main = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@main.command(
    epilog="Examples:  python -m infra.packaging   |   python -m infra.packaging --platform x86_64"
)
def build(
    platform: Annotated[
        str, typer.Option(help=f"The processor: {' or '.join(PLATFORMS)}.")
    ] = "aarch64",
    out: Annotated[Path, typer.Option(help="Where the folder of the platform goes.")] = OUT,
) -> None:
    """Build what is stale of the functions' code and its two layers, without Docker.

    Exit code 1: something that is needed is missing, or an asset weighs more than its budget.
    """
    try:
        assets = built(platform, out)
    except PackagingError as trouble:
        Console(stderr=True).print(f"packaging: {trouble}", markup=False)
        raise typer.Exit(1) from None
    Console().print(table_of(assets))
    if any(tree.unpacked_bytes(assets[name]) > limit * MB for name, limit in ASSET_MB.items()):
        Console(stderr=True).print("packaging: an asset is over its budget, see infra/budgets.py")
        raise typer.Exit(1)


def table_of(assets: dict[str, Path]) -> Table:
    """What each asset weighs, and the fingerprint that says whether two are the same."""
    folders = {_shown(folder.parent) for folder in assets.values()}
    table = Table(
        title=f"Assets in {', '.join(folders)}",
        caption=f"Unpacked, Lambda takes {LAMBDA_MAX_MB} MB of a function and its layers",
    )
    table.add_column("asset")
    for heading in ("files", "MB", "at most", "MB packed"):
        table.add_column(heading, justify="right")
    table.add_column("fingerprint")
    for name, folder in assets.items():
        table.add_row(
            name,
            str(len(tree.files_of(folder))),
            f"{tree.unpacked_bytes(folder) / MB:.1f}",
            str(ASSET_MB[name]),
            f"{tree.packed_bytes(folder) / MB:.1f}",
            tree.fingerprint(folder)[:12],
        )
    return table


def _shown(folder: Path) -> str:
    here = Path.cwd()
    return str(folder.relative_to(here) if folder.is_relative_to(here) else folder)


if __name__ == "__main__":
    sys.exit(main())
