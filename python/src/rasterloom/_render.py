"""Tables for terminals and notebooks."""

from __future__ import annotations

import shutil
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

STYLE = "text-align: left; padding: 0.15em 0.9em 0.15em 0"
SENTENCE = 80
"""Characters from which the text of a cell is broken into lines."""


def text_table(headers: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[str] = ()) -> str:
    """Align columns by spaces; ``right`` names the columns to align right.

    >>> print(text_table(["layer", "rows"], [["sst", "90"], ["elevation", "1200"]], right=["rows"]))
    layer      rows
    sst          90
    elevation  1200
    """
    widths = [max(len(cells[i]) for cells in [headers, *rows]) for i in range(len(headers))]

    def line(cells: Sequence[str]) -> str:
        parts = [
            cell.rjust(width) if header in right else cell.ljust(width)
            for header, cell, width in zip(headers, cells, widths, strict=True)
        ]
        return "  ".join(parts).rstrip()

    return "\n".join(line(cells) for cells in [headers, *rows])


def html_table(headers: Sequence[str], rows: Sequence[Sequence[str]], *, caption: str = "") -> str:
    """Write the same table as HTML, every text escaped."""

    def cell(tag: str, text: str) -> str:
        style = f"{STYLE}; max-width: {SENTENCE}ch" if len(text) > SENTENCE else f"{STYLE}; white-space: nowrap"
        return f'<{tag} style="{style}">{escape(text)}</{tag}>'

    head = "".join(cell("th", header) for header in headers)
    body = "".join("<tr>" + "".join(cell("td", text) for text in cells) + "</tr>" for cells in rows)
    title = f'<caption style="text-align: left; font-weight: bold">{escape(caption)}</caption>' if caption else ""
    return f"<table>{title}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def wrapped(text: str, indent: str) -> str:
    """Break a sentence to the width of the terminal, later lines indented."""
    import textwrap

    width = max(60, min(shutil.get_terminal_size((110, 24)).columns, 120))
    return textwrap.fill(text, width=width, initial_indent="", subsequent_indent=indent, break_long_words=False)


def number(value: float) -> str:
    """Six significant digits at most, of large numbers two decimals; and no negative zero.

    >>> number(-0.0), number(1 / 3), number(28.49999999927454), number(288776.25000080315)
    ('0', '0.333333', '28.5', '288776.25')
    """
    if abs(value) >= 1e4:
        return f"{value:.2f}".rstrip("0").rstrip(".")
    return f"{value + 0.0:.6g}"


def size(count: float) -> str:
    """Write a number of bytes for people.

    >>> size(512), size(1_500_000)
    ('512 B', '1.4 MiB')
    """
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def crs_name(crs: str) -> str:
    """Shorten a CRS to fit a table: the name in WKT, else the text itself."""
    if "[" in crs and '"' in crs:
        return crs.split('"')[1]
    return crs if len(crs) <= 24 else crs[:21] + "..."
