"""Pools and seed sets for tests of `match`, and its rows by brute force in float64."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curation.algorithms.knn import streams
from curation.algorithms.knn.codebooks import read_codebooks
from curation.algorithms.knn.search_plan import Layout, SearchLimits, SearchWork, work_of
from curation.engine.parallel import InProcess, Parallel
from curation.engine.table import Table, open_table
from curation.flow import plan
from curation.recipe import Recipe, parse_recipe
from curation.store.store import Store

from ..tables import VectorParts, commit, commit_batches, embedding_batch, run_step

DIM = 6
ROW = ("seed_set", "seed_image_id", "image_id", "similarity", "rank")
BOUNDS = SearchLimits(
    block_bytes=4_000,
    part_bytes=8 * 2 * DIM,
    chunk_bytes=16 * 2 * DIM,
    candidates=0,
    slices=3,
    merged_rows=32,
    batch_rows=16,
    fragments=2,
)
"""Blocks of few queries, parts of 8 vectors, batches of 16 rows."""


@dataclass(frozen=True)
class World:
    """Images by fragment, and how many neighbours each seed set wants.

    Attributes:
        parts: ids and vectors by fragment; a fragment is named after its source.
        dropped: rows that are not eligible, by fragment.
        k: by seed set.
    """

    parts: VectorParts
    dropped: Mapping[str, np.ndarray]
    k: Mapping[str, int]

    def recipe(self, **blocks: Any) -> Recipe:
        """A recipe with an arm for each seed set that wants neighbours."""
        local = {"format": "folder", "path": "s"}
        listed = {"format": "csv", "path": "w", "columns": {"url": "u"}}
        spec: dict[str, Any] = {
            "name": "worlds",
            "sources": [{"name": "web", "role": "pool"} | listed]
            + [{"name": name, "role": "seed"} | local for name in self.k],
            "retrieve": [
                {"name": name, "seeds": name}
                | ({"strategy": "sample", "k": k} if k else {"strategy": "as_is"})
                for name, k in self.k.items()
            ],
        }
        return parse_recipe(spec | blocks)

    def store(self, folder: Path) -> Store:
        """Commit the tables that the search reads."""
        store, rows = Store(folder), {}
        for name, (ids, _) in self.parts.items():
            source = name.rpartition("-")[0]
            dropped = self.dropped.get(name, np.zeros(len(ids), bool))
            rows[name] = [
                {
                    "pair_id": image.decode(),
                    "image_id": image.decode(),
                    "role": "pool" if source == "web" else "seed",
                    "source": source,
                    "status": "dropped" if out else "eligible",
                }
                for image, out in zip(ids, dropped.tolist(), strict=True)
            ]
        commit(store, "eligible", rows)
        batches = {name: embedding_batch(*part) for name, part in self.parts.items()}
        commit_batches(store, "embeddings.semantic", batches)
        return store

    def of(self, source: str) -> tuple[np.ndarray, np.ndarray]:
        """The distinct eligible images of a source, sorted, and their vectors in float64."""
        vector_of = {
            bytes(image): vector
            for name, (ids, vectors) in self.parts.items()
            if name.rpartition("-")[0] == source
            for image, vector, out in zip(
                ids, vectors, self.dropped.get(name, np.zeros(len(ids), bool)), strict=True
            )
            if not out
        }
        ids = sorted(vector_of)
        matrix = np.array([vector_of[i] for i in ids], np.float64).reshape(len(ids), DIM)
        return np.array(ids, "S32"), matrix


def make_world(seed: int, skewed: bool = True) -> World:
    """A pool with ties, copies and an image in two fragments, and sets that share images."""
    rng = np.random.default_rng(seed)
    distinct = rng.normal(size=(int(rng.integers(1, 30)), DIM))
    # Signed and permuted values: many pairs of different vectors have the same similarity.
    distinct[::2] = np.array([0.6, 0.8, 0, 0, 0, 0])[
        rng.permuted(np.tile(np.arange(DIM), (len(distinct[::2]), 1)), axis=1)
    ]
    distinct = (distinct / np.linalg.norm(distinct, axis=1, keepdims=True)).astype(np.float16)

    def draw(rows: int) -> np.ndarray:
        kind = rng.integers(0, len(distinct), rows)
        if skewed:
            kind[rng.random(rows) < 0.7] = 0
        return np.asarray(distinct[kind])

    def ids(rows: int) -> np.ndarray:
        return np.array([rng.bytes(16).hex() for _ in range(rows)], "S32")

    sizes = rng.integers(0, 40, int(rng.integers(1, 6)))
    parts = {f"web-{n}": (ids(int(rows)), draw(int(rows))) for n, rows in enumerate(sizes)}
    large = max(parts, key=lambda name: len(parts[name][0]))
    copied = len(parts[large][0]) // 3
    parts["web-9"] = tuple(column[:copied].copy() for column in parts[large])  # type: ignore[assignment]
    shared = ids(5), draw(5)
    for name in ("birds-0", "birds-1", "cats-0", "dogs-0"):
        more = int(rng.integers(0, 12))
        parts[name] = tuple(
            np.concatenate(both) for both in zip(shared, (ids(more), draw(more)), strict=True)
        )  # type: ignore[assignment]
    parts["none-0"] = (ids(0), draw(0))
    dropped = {name: rng.random(len(part[0])) < 0.2 for name, part in parts.items()}
    # An image has one decision, whatever fragment it is in.
    dropped["web-9"] = dropped[large][:copied]
    for name in ("birds-0", "birds-1", "cats-0", "dogs-0"):
        dropped[name][:5] = [False, True, False, False, False]
    return World(parts, dropped, {"birds": 3, "cats": 3, "dogs": 500, "none": 2, "unused": 0})


def match_rows(
    world: World,
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    limits: SearchLimits = BOUNDS,
    layout: Layout | None = None,
    parallel: Parallel | None = None,
    **blocks: Any,
) -> Table:
    """Run the search with some limits, and by one layout if it is named."""
    monkeypatch.setattr(SearchLimits, "of_block", lambda gib: limits)
    if layout:
        monkeypatch.setattr(
            streams, "choose_layout", lambda size, bounds: work_by(size, bounds, layout)
        )
    steps = {step.name: step for step in plan(world.recipe(**blocks))}
    for name in ("quantise", "index"):
        run_step(steps[name], store, InProcess())
    run_step(steps["match"], store, parallel or InProcess())
    return open_table(store, "matches")


def work_by(size: Any, limits: SearchLimits, layout: Layout) -> SearchWork:
    """The work by a layout; an exact search knows only one."""
    return work_of(size, limits, layout if size.nlist else "stream")


def true_rows(world: World, store: Store, nprobe: int | None = None) -> set[tuple[Any, ...]]:
    """The rows of `matches`: of each seed image, the nearest images in the lists that it probes."""
    pool, matrix = world.of("web")
    allowed = None
    if nprobe is not None:
        codebooks = read_codebooks(open_table(store, "codebooks"))
        assert codebooks is not None
        lists = codebooks.coarse.astype(np.float64)
        list_of_image = (matrix @ lists.T).argmax(axis=1)
        allowed = list_of_image, lists
    rows = set()
    for name, k in world.k.items():
        for image, vector in zip(*world.of(name), strict=True):
            similarity = (matrix @ vector).astype(np.float32)
            searched = np.arange(len(pool))
            if allowed is not None and nprobe is not None:
                scores = (allowed[1] @ vector).astype(np.float32)
                probed = np.lexsort((np.arange(len(scores)), -scores))[:nprobe]
                searched = np.flatnonzero(np.isin(allowed[0], probed))
            order = searched[np.lexsort((pool[searched], -similarity[searched]))][:k]
            rows |= {
                (name, image.decode(), pool[n].decode(), float(similarity[n]), rank)
                for rank, n in enumerate(order, 1)
            }
    return rows


def rows_of(table: Table) -> set[tuple[Any, ...]]:
    """The rows of `matches`; none may repeat."""
    read = table.read().to_pylist()
    rows = {tuple(row[name] for name in ROW) for row in read}
    assert len(rows) == len(read)
    return rows
