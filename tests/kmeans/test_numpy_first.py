"""Small work is done by numpy, without the import of torch: the same bits, wherever torch begins."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.algorithms.arrays.torch_import import NumpyWork
from curation.algorithms.kmeans import numpy_sums, points, sums
from curation.algorithms.kmeans.backends import load
from curation.algorithms.kmeans.grid import round_to_grid
from curation.algorithms.kmeans.initialisation import initial_centroids
from curation.algorithms.kmeans.lloyd import Metric, TrainedLevel, TrainingState, lloyd
from curation.algorithms.kmeans.points import ArrayPoints
from curation.store.store import Store

from ..cluster.test_stage import DIM, clustered, fill, rows_of
from .data import names, planted, planted_pool

ROOT = Path(__file__).resolve().parents[2]
NEVER, ALWAYS = 0.0, float("inf")
LEVELS: dict[str, Any] = {"levels": [40, 6], "iterations": 8, "max_points_per_centroid": 50}


class Untouched(NumpyWork):
    """As in a process that has not imported torch, which the one of the tests has."""

    is_over = False


def work(monkeypatch: pytest.MonkeyPatch, left: float) -> None:
    """Let numpy do so much work, and torch the rest."""
    budget = Untouched(left)
    for module in (points, load):
        monkeypatch.setattr(module, "NUMPY_WORK", budget)


def vectors_of(rng: np.random.Generator, rows: int, metric: Metric, crowded: bool) -> np.ndarray:
    """Return points on the grid, many of them equal or all but equal if they are crowded."""
    found, _ = planted(rng, rows, 12, 9, spread=2e-4 if crowded else 0.5)
    if crowded:
        found[rng.integers(0, rows, rows // 2)] = found[0]
    if metric == "euclidean":
        found, _ = round_to_grid(found.astype(np.float32) * 3 + 0.25)
    return found


def bits(trained: TrainedLevel) -> tuple[bytes, bytes, tuple[float, ...]]:
    vectors = trained.centroids.vectors
    return vectors.tobytes(), trained.counts.tobytes(), trained.objective


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**20),
    metric=st.sampled_from(["spherical", "euclidean"]),
    rows=st.integers(1, 2500),
    clusters=st.integers(1, 60),
    crowded=st.booleans(),
    share=st.floats(0, 1),
)
def test_numpy_and_torch_train_the_same_bits(
    seed: int, metric: Metric, rows: int, clusters: int, crowded: bool, share: float
) -> None:
    """Also if numpy does a part of the passes, and torch takes over in the middle of one."""
    rng = np.random.default_rng(seed)
    vectors = vectors_of(rng, rows, metric, crowded)
    start = initial_centroids(
        vectors.astype(np.float32), names(rng, rows), "random", clusters, seed
    )
    of_value = len(start) + load.WORK_PER_VALUE + numpy_sums.WORK_PER_VALUE
    some = share * 8 * vectors.size * of_value
    trained = []
    for left in (NEVER, some, ALWAYS):
        with pytest.MonkeyPatch.context() as patch:
            work(patch, left)
            data = ArrayPoints(vectors, load.load_backend("torch", "cpu"))
            trained.append(bits(lloyd(data, TrainingState(start), 7, metric)))
    assert trained[0] == trained[1] == trained[2]


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**20), rows=st.integers(0, 3000), sign=st.sampled_from([1, -1]))
def test_sums_have_the_same_bits(seed: int, rows: int, sign: int) -> None:
    rng = np.random.default_rng(seed)
    vectors = vectors_of(rng, rows + 1, "spherical", crowded=False)[:rows]
    cluster_ids = rng.integers(0, 50, rows).astype(np.int32)
    first = rng.integers(-(2**24), 2**24, (50, 12)) / 2.0**24
    by_numpy, by_torch = first.copy(), first.copy()
    numpy_sums.NumpyAdder(by_numpy).add(vectors, cluster_ids, sign)
    with sums.adding_to(by_torch, "cpu") as adder:
        adder.add(vectors, cluster_ids, sign)
    assert by_numpy.tobytes() == by_torch.tobytes()
    assert numpy_sums.sum_of_squares(vectors) == sums.sum_of_squares(vectors)


def refuse(*arguments: object) -> NoReturn:
    raise AssertionError("the back end was loaded")


def test_numpy_works_until_it_has_done_as_much_as_the_import(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(0)
    vectors = vectors_of(rng, 100, "spherical", crowded=False)
    centroids = lloyd(
        ArrayPoints(vectors, load.load_backend("faiss", "cpu")),
        TrainingState(vectors[:5].astype(np.float32)),
        1,
    ).centroids
    one_call = vectors.size * (len(centroids) + load.WORK_PER_VALUE)
    work(monkeypatch, 2.5 * one_call)
    monkeypatch.setattr(load, "_load", refuse)
    assigner = load.load_backend("torch", "cpu")(vectors)
    for _ in range(2):
        assigner.assign(centroids)
    with pytest.raises(AssertionError, match="was loaded"):
        assigner.assign(centroids)
    # A GPU needs torch, and so does a plug-in its own code.
    for other in (("torch", "cuda"), ("torch", "cpu", "cpu"), ("faiss", "cpu")):
        with pytest.raises(AssertionError, match="was loaded"):
            load.load_backend(*other)


@pytest.fixture(scope="module")
def pool() -> tuple[np.ndarray, np.ndarray]:
    return planted_pool(5, 2000, DIM)


def test_a_small_store_is_clustered_without_torch(
    pool: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    """Also with several levels; the tables are those that a process with torch writes."""
    for folder in ("with", "without"):
        fill(Store(tmp_path / folder), *pool, parts=3)
    program = f"""
import sys
from curation.store.store import Store
from tests.cluster.test_stage import clustered
clustered(Store(sys.argv[1]), **{LEVELS})
print([name for name in ("torch", "faiss") if name in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-P", "-c", program, tmp_path / "without"],
        env={"PATH": "", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
    expected = rows_of(clustered(Store(tmp_path / "with"), **LEVELS))
    assert len(expected["cluster_id"]) == 46
    assert rows_of(clustered(Store(tmp_path / "without"), **LEVELS)) == expected
