"""Markdown of tables and headings, with text escaped where Markdown or HTML would read it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

GENERATED = "*This page is generated from the code.*"


def escaped(text: str) -> str:
    """Return text on one line, so that it can stand in a cell; code between backticks stays code."""
    parts = " ".join(text.split()).split("`")
    parts[::2] = [part.replace("<", "&lt;") for part in parts[::2]]
    return "`".join(parts).replace("|", "\\|")


def code(text: object) -> str:
    """Return text as code; nothing stays nothing."""
    return f"`{text}`" if str(text) else ""


def codes(values: Iterable[object]) -> str:
    """Return values as code, with commas between them."""
    return ", ".join(code(value) for value in values)


def heading(level: int, text: str, anchor: str) -> str:
    """Return a heading with an anchor of its own."""
    return f"{'#' * level} {text} {{ #{anchor} }}"


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; columns that are empty in every row are left out."""
    cells = [[escaped(cell) for cell in row] for row in rows]
    used = [n for n in range(len(columns)) if any(row[n] for row in cells)]
    lines = [[columns[n] for n in used], ["---"] * len(used)]
    lines += [[row[n] for n in used] for row in cells]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def page(title: str, *blocks: str) -> str:
    """Return a page: a title, and blocks with an empty line between them."""
    return "\n\n".join([f"# {title}", *(block for block in blocks if block)]) + "\n"
