"""Tables as text for terminals and as HTML for notebooks."""

from collections.abc import Container, Iterable, Sequence
from html import escape

__all__ = ["html_table", "text_table"]


def text_table(rows: Sequence[Sequence[str]], words: Container[int] = (0,)) -> list[str]:
    """Align the cells of a table: columns of words to the left, all others to the right."""
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
    """Write a table of plain text as HTML; colours are inherited, so that dark themes work.

    Columns in `words` are aligned to the left, the others to the right; left out, all to the left.
    """

    def line(cells: Sequence[str], tag: str) -> str:
        return "".join(
            f'<{tag} style="text-align: {"left" if words is None or at in words else "right"}">'
            f"{escape(cell)}</{tag}>"
            for at, cell in enumerate(cells)
        )

    top = f"<caption>{escape(caption)}</caption>" if caption else ""
    top += f"<thead><tr>{line(head, 'th')}</tr></thead>" if head else ""
    body = "".join(f"<tr>{line(cells, 'td')}</tr>" for cells in rows)
    return f"<table>{top}<tbody>{body}</tbody></table>"
