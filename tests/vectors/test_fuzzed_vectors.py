"""Vectors and ids in files with any bytes changed are read, or refused as errors of the recipe."""

from __future__ import annotations

import io
import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.errors import RecipeError, StoreError
from curation.media.vectors.ids import build_index, read_ids
from curation.media.vectors.vector_set import VectorSet
from tests.ingest.test_fuzzed_files import mutated

ROWS, DIM = 30, 4
VECTORS = np.random.default_rng(0).normal(size=(ROWS, DIM)).astype(np.float32)
IDS = [f"é{i}" for i in range(ROWS)]


def npy(array: Any) -> bytes:
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


def parquet() -> bytes:
    out = io.BytesIO()
    table = pa.table({"vector": list(VECTORS), "id": IDS})
    pq.write_table(table, out, row_group_size=12)
    return out.getvalue()


WHOLE = {
    "vectors.npy": npy(VECTORS),
    "vectors.parquet": parquet(),
    "ids.npy": npy(np.array(IDS)),
    "ids.txt": "\n".join(IDS).encode(),
    "ids.parquet": parquet(),
}


def read(name: str, path: Path, vectors: Path) -> None:
    if name.startswith("vectors"):
        brought = VectorSet(str(path))
        taken, reasons = brought.take(np.arange(-1, min(brought.rows, 100)))
        assert len(taken) == len(reasons) and taken.dtype == np.float16
        return
    brought, column = VectorSet(str(vectors)), "id" if path.suffix == ".parquet" else None
    build_index(read_ids(brought, str(path), column, "key"), brought)


@pytest.mark.parametrize("files", [40, pytest.param(3_000, marks=pytest.mark.nightly)])
@pytest.mark.parametrize("name", WHOLE)
def test_files_with_changed_bytes_are_read_or_refused(
    tmp_path: Path, name: str, files: int
) -> None:
    draw, path = random.Random(files), tmp_path / name
    (tmp_path / "v.npy").write_bytes(WHOLE["vectors.npy"])
    path.write_bytes(WHOLE[name])
    read(name, path, tmp_path / "v.npy")
    for _ in range(files):
        path.write_bytes(mutated(WHOLE[name], draw))
        try:
            read(name, path, tmp_path / "v.npy")
        except (RecipeError, StoreError) as error:
            assert len(str(error)) < 5_000


def test_ids_are_not_longer_than_those_of_sources(tmp_path: Path) -> None:
    """A gigabyte of a sparse file would be one text."""
    path, vectors = tmp_path / "ids.npy", tmp_path / "v.npy"
    np.save(vectors, VECTORS[:2])
    large = np.lib.format.open_memmap(path, "w+", "U200000000", (2,))
    del large
    brought = VectorSet(str(vectors))
    with pytest.raises(RecipeError, match="ids of more than 131,072 characters"):
        build_index(read_ids(brought, str(path), None, "key"), brought)


@pytest.mark.parametrize("order", ["<", ">"])
def test_ids_with_code_points_beyond_unicode_are_an_error(tmp_path: Path, order: str) -> None:
    """Python ends such a text with a SystemError."""
    path, vectors = tmp_path / "ids.npy", tmp_path / "v.npy"
    np.save(vectors, VECTORS[:2])
    brought = VectorSet(str(vectors))
    texts = np.array(["a\U0010ffff", "é"], f"{order}U2")
    np.save(path, texts)
    build_index(read_ids(brought, str(path), None, "key"), brought)
    texts.view(f"{order}u4")[1] = 0x110000
    np.save(path, texts)
    with pytest.raises(RecipeError, match=r"ids\.npy' holds code points that are not in Unicode"):
        build_index(read_ids(brought, str(path), None, "key"), brought)
