"""Samples of vectors, which may be larger than memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from curation.algorithms.arrays import large_arrays
from curation.algorithms.knn.ivf import train, train_coarse
from curation.algorithms.knn.sample import read_sample
from curation.engine.table import open_table
from curation.store.store import Store

from ..driver_memory import DriverMemory
from ..tables import commit_vectors

PARTS, ROWS, DIM = 12, 500, 256


def committed(folder: Path) -> tuple[Store, np.ndarray, np.ndarray]:
    """Commit vectors in fragments; return the store, all ids and all vectors, sorted by id."""
    rng = np.random.default_rng(5)
    vectors = rng.normal(size=(PARTS * ROWS, DIM))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)
    ids = np.char.mod("%032x", rng.permutation(len(vectors))).astype("S32")
    store, cut = Store(folder), range(0, len(ids), ROWS)
    commit_vectors(
        store, {f"web-{s // ROWS}": (ids[s : s + ROWS], vectors[s : s + ROWS]) for s in cut}
    )
    order = np.argsort(ids)
    return store, ids[order], vectors[order]


@pytest.mark.parametrize("in_memory", [2**30, 0])
def test_a_sample_is_read_without_a_copy(
    in_memory: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, ids, vectors = committed(tmp_path)
    monkeypatch.setattr(large_arrays, "IN_MEMORY_BYTES", in_memory)
    parts = open_table(store, "embeddings.semantic").fragments
    read_sample(parts)
    memory = DriverMemory()
    with memory.counting():
        read = read_sample(parts)
    np.testing.assert_array_equal(read[0], ids)
    np.testing.assert_array_equal(read[1], vectors)
    held = vectors.nbytes if in_memory else 0
    # A part, and three numbers of each row.
    assert memory.peak < held + 0.6 * vectors.nbytes


def test_codebooks_are_the_same_for_a_sample_in_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, _, vectors = committed(tmp_path)
    in_memory = train_coarse(vectors, 8, seed=3), train(vectors, "ivf_pq", 8, 4, seed=3)
    monkeypatch.setattr(large_arrays, "IN_MEMORY_BYTES", 0)
    in_files = train_coarse(vectors, 8, seed=3), train(vectors, "ivf_pq", 8, 4, seed=3)
    np.testing.assert_array_equal(in_memory[0], in_files[0])
    np.testing.assert_array_equal(in_memory[1].coarse, in_files[1].coarse)
    assert in_memory[1].products is not None
    np.testing.assert_array_equal(in_memory[1].products, in_files[1].products)
