"""Files of vectors in every form that an import accepts, and recipes that import them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curation.engine.parallel import InProcess
from curation.engine.table import Table, open_table
from curation.flow import plan
from curation.recipe import parse_recipe
from curation.runner.step import StepResult, run_step
from curation.store.store import Store

FORMS = ("npy", "npy_shards", "list", "fixed", "parquet_shards")


def list_column(vectors: np.ndarray, fixed: bool) -> pa.Array:
    """Vectors as a column of lists."""
    flat = pa.array(vectors.ravel())
    if fixed:
        return pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])
    offsets = np.arange(len(vectors) + 1, dtype=np.int32) * vectors.shape[1]
    return pa.ListArray.from_arrays(pa.array(offsets), flat)


def write_vectors(
    folder: Path, form: str, vectors: np.ndarray, ids: list[str] | None
) -> dict[str, Any]:
    """Write vectors with their ids; return `import` and the rest of `ids` of an encoder."""
    folder.mkdir(parents=True)
    if form.startswith("npy"):
        where: dict[str, Any] = {}
        if ids is not None:
            np.save(folder / "ids.npy", np.array(ids))
            where = {"file": str(folder / "ids.npy")}
        if form == "npy":
            np.save(folder / "vectors.npy", vectors)
            return {"import": str(folder / "vectors.npy"), "ids": where}
        (folder / "vectors").mkdir()
        for number, part in enumerate(np.array_split(vectors, 3)):
            np.save(folder / "vectors" / f"{number:03d}.npy", part)
        return {"import": str(folder / "vectors"), "ids": where}
    columns = {"vector": list_column(vectors, fixed=form != "list")}
    if ids is not None:
        columns["id"] = pa.array(ids)
    table = pa.table(columns)
    where = {} if ids is None else {"column": "id"}
    if form != "parquet_shards":
        pq.write_table(table, folder / "vectors.parquet", row_group_size=7)
        return {"import": str(folder / "vectors.parquet"), "ids": where}
    (folder / "vectors").mkdir()
    for number, start in enumerate(range(0, len(table), 11)):
        pq.write_table(table.slice(start, 11), folder / "vectors" / f"{number:03d}.parquet")
    return {"import": str(folder / "vectors"), "ids": where}


def write_list(path: Path, keys: list[str], **columns: list[Any]) -> None:
    """Write a list of keys with other columns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"key": keys, **columns}), path)


def source(path: Path, name: str = "web", role: str = "pool", **columns: str) -> dict[str, Any]:
    """A source over a list that `write_list` wrote."""
    mapped = columns or {"key": "key"}
    return {"name": name, "role": role, "format": "parquet", "path": str(path), "columns": mapped}


def without_pixels(
    encoder: dict[str, Any], *sources: dict[str, Any], **blocks: Any
) -> dict[str, Any]:
    """A recipe over imported vectors alone."""
    return {
        "name": "brought",
        "sources": list(sources),
        "fetch": {"pixels": "none"},
        "embed": {"encoders": {"semantic": encoder}},
        "ingest": {"rows_per_fragment": 10},
        **blocks,
    }


def run(store: Path, spec: dict[str, Any], until: str | None = None) -> dict[str, StepResult]:
    """Run a recipe; return what its steps did."""
    steps = plan(parse_recipe(spec), until=until)
    return {step.name: run_step(step, Store(store), InProcess()) for step in steps}


def table(store: Path, name: str) -> Table:
    """A committed table."""
    return open_table(Store(store), name)


def rows(store: Path, name: str) -> list[dict[str, Any]]:
    """The rows of a committed table."""
    rows: list[dict[str, Any]] = table(store, name).read().to_pylist()
    return rows


def contents(store: Path, name: str) -> dict[str, str]:
    """The digest of each fragment of a table."""
    return {n: f.content for n, f in table(store, name).fragments.items()}
