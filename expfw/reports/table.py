"""Table of values, printed in the terminal or written as Markdown or HTML."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from html import escape
from typing import TYPE_CHECKING, Any

from expfw.errors import to_printable
from expfw.system.formatting import format_number

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

_MAX_UNWRAPPED_LENGTH = 24
"""Characters; HTML wraps longer texts."""


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        title: header; the terminal breaks it after a slash.
        kind: `text`; `number`, aligned right; `status`, coloured in HTML; `code` for IDs, names and times. Only text is
            wrapped.
        format: formats a value other than None, by default floats with four significant digits; None is an empty cell.
        drop_order: a table that is too wide for the terminal first drops the column with the smallest number; columns
            with 0 are never dropped.
        tooltip: longer title, which HTML shows next to the mouse.
    """

    title: str
    kind: str = "text"
    format: Callable[[Any], str] = lambda value: format_number(value) if isinstance(value, float) else str(value)
    drop_order: int = 0
    tooltip: str = ""


class Table:
    """Rows of values; print it with `console.print(table)`.

    Args:
        columns: the columns; a title stands for a column of text.
        rows: a value for each column in each row. HTML sorts by the values, not by their texts.
    """

    def __init__(self, columns: Iterable[Column | str], rows: Iterable[Sequence[Any]]) -> None:
        self.columns = [Column(column) if isinstance(column, str) else column for column in columns]
        self.rows = list(rows)

    @property
    def texts(self) -> Iterator[list[str]]:
        """Texts of each row."""
        for row in self.rows:
            pairs = zip(self.columns, row, strict=True)
            yield ["" if value is None else to_printable(column.format(value)) for column, value in pairs]

    def measure_columns(self) -> list[int]:
        """Returns the width of each column in the terminal, with the gap after it, if no text is wrapped."""
        from rich.cells import cell_len

        titles = [column.title.replace("/", "/\n") for column in self.columns]
        cells_by_column = zip(titles, *self.texts, strict=True)
        return [2 + max(map(cell_len, "\n".join(cells).split("\n"))) for cells in cells_by_column]

    def fit(self, width: int) -> Table:
        """Returns the table without the columns that a terminal of this width drops."""
        widths = dict(enumerate(self.measure_columns()))
        for index in sorted(widths, key=lambda index: self.columns[index].drop_order):
            if sum(widths.values()) > width and self.columns[index].drop_order:
                del widths[index]
        return Table([self.columns[index] for index in widths], [[row[index] for index in widths] for row in self.rows])

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich import box, table
        from rich.text import Text

        fitting_table = self.fit(options.max_width)
        rich_table = table.Table(
            box=box.SIMPLE_HEAD,
            pad_edge=False,
            padding=(0, 1, 0, 0),
            show_header=any(column.title for column in fitting_table.columns),
        )
        for column in fitting_table.columns:
            rich_table.add_column(
                column.title.replace("/", "/\n"),
                overflow="fold",
                no_wrap=column.kind != "text",
                justify="right" if column.kind == "number" else "left",
            )
        for texts in fitting_table.texts:
            rich_table.add_row(*map(Text, texts))
        yield rich_table

    def to_markdown(self, max_length: int) -> str:
        """Returns Markdown with at most about `max_length` characters, which may omit the last rows."""
        lines = [_format_markdown_row(column.title for column in self.columns), "| --- " * len(self.columns) + "|"]
        remaining_length = max_length - sum(map(len, lines))
        for index, texts in enumerate(self.texts):
            line = _format_markdown_row(texts)
            remaining_length -= len(line) + 1
            if remaining_length < 0:
                return "\n".join([*lines, f"\nand {len(self.rows) - index} more"])
            lines.append(line)
        return "\n".join(lines)

    def to_html(self, label: str, best_row: int | None = None) -> str:
        """Returns HTML; numbers are aligned right, and a click on a header sorts by its column.

        Args:
            label: name of the table for screen readers.
            best_row: index of the row to mark, or None.
        """
        columns = list(self.columns)
        for index, column in enumerate(columns):
            cells = [row[index] for row in self.rows if row[index] is not None]
            if column.kind == "text" and cells and all(isinstance(cell, float | int) for cell in cells):
                columns[index] = replace(column, kind="number")
        header = "".join(
            f'<th scope="col" class="{column.kind}" title="{escape(column.tooltip)}">'
            f'<button type="button">{escape(column.title)}</button></th>'
            for column in columns
        )
        body = ""
        for index, (values, texts) in enumerate(zip(self.rows, self.texts, strict=True)):
            row_html = "".join(map(_render_cell, columns, values, texts))
            body += f"<tr{' class=best' if index == best_row else ''}>{row_html}</tr>"
        return (
            f'<div class="card scroll" tabindex="0" role="region" aria-label="{escape(label)}"><table>'
            f"<thead><tr>{header}</tr></thead><tbody>{body}</tbody></table></div>"
        )


def _format_markdown_row(texts: Iterable[str]) -> str:
    return "| " + " | ".join(text.replace("|", "\\|") for text in texts) + " |"


def _render_cell(column: Column, value: Any, text: str) -> str:
    css_class = "long" if column.kind == "text" and len(text) > _MAX_UNWRAPPED_LENGTH else column.kind
    text = escape(text)
    if column.kind == "status":
        css_class += f" {text}"
    if isinstance(value, float | int) and value == value:
        sort_key = str(value).replace("inf", "Infinity")  # as JavaScript reads it
        return f'<td class="{css_class}" data-value="{sort_key}">{text}</td>'
    return f'<td class="{css_class}">{text}</td>'
