"""The recipe of `examples/small_run.py`, 48 rows, cut into a chosen number of fragments."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

from benchmarks.command import ROOT

BATCH_SIZE = 4
"""Of the encoders. A batch is padded to it, so a large one costs as much for two rows."""


def write_shapes(folder: Path, rows_per_fragment: int) -> dict[str, Any]:
    """Write the sources, if they are not there; return the recipe."""
    example = runpy.run_path(str(ROOT / "examples" / "small_run.py"))
    if not (folder / "seeds.parquet").exists():
        example["write_sources"](folder)
    spec: dict[str, Any] = example["recipe_over"](folder)
    return spec | {
        "ingest": {"rows_per_fragment": rows_per_fragment},
        "embed": {"batch_size": BATCH_SIZE},
    }
