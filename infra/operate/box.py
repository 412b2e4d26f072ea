"""The one box that tells where everything is: `make dev` and `make deploy` print the same."""

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table

type Fact = tuple[str, str]


def print_box(
    title: str, facts: Sequence[Fact], invitation: str, call: str, *, console: Console | None = None
) -> None:
    """Print facts in a frame, and below it what to try first."""
    out = console or Console(highlight=False)
    grid = Table.grid(padding=(0, 2))
    for name, value in facts:
        grid.add_row(f"[bold]{name}[/]", escape(value))
    out.print(Panel(grid, title=title, expand=False))
    # Outside the box, so that it can be copied without the frame.
    out.print(invitation, escape(call), sep="\n", soft_wrap=True)
