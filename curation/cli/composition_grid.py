"""The composition of a run as a table that fits into a terminal."""

from __future__ import annotations

from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table as Grid

OPTIONAL_COLUMNS = (
    "seed_set",
    "seed_rows",
    "strategy",
    "seed_images",
    "retrieved",
    "available",
)
"""Columns that are left out of a narrow terminal, in this order."""
NAME_COLUMNS = ("arm", "strategy", "seed_set")
UNBOUNDED_WIDTH = 1000


def composition_grid(
    title: str,
    rows: list[dict[str, Any]],
    total: int | None,
    console: Console,
    images: int | None = None,
) -> Grid:
    """Return the composition as a table that the console shows without breaking a word.

    Args:
        title: printed above the table.
        rows: of `expected_composition` or `composition_of`.
        total: Σ final; None if it is unknown.
        console: where the table will be printed.
        images: number of images in the dataset, where an image of several arms counts once.
    """
    # The report shows the seed sets and seed rows of a run, so a terminal always leaves them out.
    always_hidden = 2 if "capped" in rows[0] else 0
    for hidden in range(always_hidden, len(OPTIONAL_COLUMNS) + 1):
        names = [name for name in rows[0] if name not in OPTIONAL_COLUMNS[:hidden]]
        grid = _grid(title, rows, {"final": total, "final_images": images}, names)
        unbounded = console.options.update_width(UNBOUNDED_WIDTH)
        if Measurement.get(console, unbounded, grid).maximum <= console.width:
            break
    left_out = [name for name in OPTIONAL_COLUMNS[always_hidden:hidden] if name in rows[0]]
    if left_out:
        columns = ", ".join(name.replace("_", " ") for name in left_out)
        grid.caption = f"Not shown in this width: {columns}"
    return grid


def _grid(
    title: str, rows: list[dict[str, Any]], totals: dict[str, int | None], names: list[str]
) -> Grid:
    grid = Grid(title=title, box=SIMPLE_HEAD, padding=(0, 1, 0, 0), collapse_padding=True)
    for name in names:
        # A header may take two lines, a value may not.
        header = name.replace("_", "\n")
        is_name = name in NAME_COLUMNS
        grid.add_column(header, justify="left" if is_name else "right", no_wrap=True)
    for row in rows:
        grid.add_row(*(_cell(row[name]) for name in names))
    grid.add_section()
    last = {"arm": "total"} | {name: _cell(total) for name, total in totals.items()}
    grid.add_row(*(last.get(name, "") for name in names))
    return grid


def _cell(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value or "–")
