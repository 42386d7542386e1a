"""Write tables, as text for terminals and as HTML for notebooks."""

from collections.abc import Container, Iterable, Sequence

from caplab.support.safe_text import html_text, line_text

__all__ = ["html_table", "text_table"]

_WIDEST, _LONGEST = 80, 2000  # characters of a cell, in a terminal and in HTML


def text_table(rows: Sequence[Sequence[str]], words: Container[int] = (0,)) -> list[str]:
    """Align the cells of a table: the columns in `words` to the left, the others to the right."""
    rows = [[line_text(cell, _WIDEST) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if column in words else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def html_table(
    rows: Iterable[Sequence[str]],
    head: Sequence[str] = (),
    *,
    caption: str = "",
    words: Container[int] | None = None,
) -> str:
    """Write a table of plain text as HTML; it sets no colours, so that dark themes work.

    The columns in `words` are aligned to the left, the others to the right; by default all are to
    the left.
    """

    def html_row(cells: Sequence[str], tag: str) -> str:
        aligned = ["left" if words is None or n in words else "right" for n in range(len(cells))]
        return "".join(
            f'<{tag} style="text-align: {side}">{html_text(cell, _LONGEST)}</{tag}>'
            for side, cell in zip(aligned, cells, strict=True)
        )

    top = f"<caption>{html_text(caption, _LONGEST)}</caption>" if caption else ""
    top += f"<thead><tr>{html_row(head, 'th')}</tr></thead>" if head else ""
    body = "".join(f"<tr>{html_row(cells, 'td')}</tr>" for cells in rows)
    return f"<table>{top}<tbody>{body}</tbody></table>"
