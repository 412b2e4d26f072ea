"""Tables of figures, for a terminal and for documents alike."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal

type Row = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Sheet:
    """A table; its first column tells what the others are of."""

    title: str
    columns: Row
    rows: tuple[Row, ...]
    note: str = ""

    def markdown(self) -> str:
        """As a section of a document."""
        lines = [f"### {self.title}", ""]
        if self.note:
            lines += [self.note, ""]
        dashes = ["---", *["---:"] * (len(self.columns) - 1)]
        lines += [_line(self.columns), _line(dashes), *map(_line, self.rows)]
        return "\n".join(lines) + "\n"

    def plain(self) -> Mapping[str, object]:
        """For programs."""
        rows = [dict(zip(self.columns, row, strict=True)) for row in self.rows]
        return {"title": self.title, "note": self.note, "rows": rows}


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


BEGIN, END = "<!-- computed: begin -->", "<!-- computed: end -->"


def document(sheets: Iterable[Sheet]) -> str:
    """Sheets one after the other."""
    return "\n".join(sheet.markdown() for sheet in sheets)


def replaced(page: str, sheets: Iterable[Sheet]) -> str:
    """A document whose computed part is made anew.

    Raises:
        ValueError: it has no such part.
    """
    before, _, rest = page.partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        raise ValueError(f"there is no {BEGIN} ... {END} to put the tables in")
    return f"{before}{BEGIN}\n\n{document(sheets)}\n{END}{after}"


def usd(amount: Decimal) -> str:
    """Dollars: cents from a dollar on, what is less to three or four places."""
    if amount == 0:
        return "0"
    if amount >= 1:
        return f"${amount:,.2f}"
    return f"${amount:.3f}" if amount >= Decimal("0.1") else f"${amount:.4f}"


def number(value: Decimal | int) -> str:
    """A count or rate as people say it: 1,234; 12.5; 0.042."""
    value = Decimal(value)
    if value == 0:
        return "0"
    if value >= 100 or value == value.to_integral():  # noqa: PLR2004
        return f"{value:,.0f}"
    return f"{value:,.1f}" if value >= 1 else f"{value:.3f}"
