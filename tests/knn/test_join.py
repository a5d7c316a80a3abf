"""The stages that search vectors, over several fragments, against brute force in float64."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from curation.engine.parallel import InProcess
from curation.engine.table import Table, open_table
from curation.errors import RecipeError
from curation.flow import plan
from curation.recipe import Recipe, parse_recipe
from curation.stages.neighbours.stage import _exact_recall
from curation.store.store import Store

from ..tables import (
    VectorParts,
    commit,
    commit_batches,
    commit_vectors,
    embedding_batch,
    run_step,
    scores_batch,
)

DIM = 32


def recipe(**blocks: Any) -> Recipe:
    spec = {
        "name": "join",
        "sources": [
            {"name": "web", "role": "pool", "format": "csv", "path": "w", "columns": {"url": "u"}},
            {"name": "seeds", "role": "seed", "format": "folder", "path": "s"},
            {"name": "test", "role": "held_out", "format": "folder", "path": "t"},
        ],
        "retrieve": [{"name": "a", "seeds": "seeds", "strategy": "sample", "k": 10}],
    }
    return parse_recipe(spec | blocks)


def clustered(rng: np.random.Generator, rows: int) -> np.ndarray:
    """Vectors around 40 centres, as real embeddings are not uniform."""
    centres = np.random.default_rng(9).normal(size=(40, DIM))
    vectors = centres[rng.integers(0, 40, rows)] + 0.6 * rng.normal(size=(rows, DIM))
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float16)


@pytest.fixture(scope="module")
def world() -> VectorParts:
    """Ids, vectors and roles of 2,400 pool images in three fragments, 40 seeds, 30 held-out."""
    rng = np.random.default_rng(0)
    parts = {}
    sizes = {"web-0": 1000, "web-1": 800, "web-2": 600, "seeds-0": 40, "test-0": 30}
    for name, rows in sizes.items():
        ids = np.array([rng.bytes(16).hex() for _ in range(rows)], dtype="S32")
        parts[name] = (ids, clustered(rng, rows))
    # Two pool rows have no vector, one image is in two fragments, a held-out image is also in the pool.
    parts["web-0"][1][:2] = 0
    for target, source in (("web-1", "web-0"), ("test-0", "web-2")):
        for column in (0, 1):
            parts[target][column][5] = parts[source][column][5]
    return parts


@pytest.fixture
def store(world: VectorParts, tmp_path: Path) -> Store:
    opened = Store(tmp_path)
    roles = {"web": "pool", "seeds": "seed", "test": "held_out"}
    rows, images = {}, {}
    for name, (ids, _) in world.items():
        source = name.split("-")[0]
        rows[name] = [
            {
                "pair_id": i.decode(),
                "image_id": i.decode(),
                "role": roles[source],
                "source": source,
                "status": "dropped" if source == "test" or n % 10 == 3 else "eligible",
            }
            for n, i in enumerate(ids)
        ]
        images[name] = [r | {"status": "ok"} for r in rows[name]]
    commit(opened, "eligible", rows)
    commit(opened, "images", images)
    none = {name: scores_batch([r["pair_id"] for r in part]) for name, part in rows.items()}
    commit_batches(opened, "scores", none)
    batches = {name: embedding_batch(*part) for name, part in world.items()}
    commit_batches(opened, "embeddings.semantic", batches)
    return opened


def run(store: Store, name: str, **blocks: Any) -> Table:
    steps = {s.name: s for s in plan(recipe(**blocks))}
    for before in ("quantise", "index") if name == "match" else ():
        run_step(steps[before], store, InProcess())
    run_step(steps[name], store, InProcess())
    return open_table(store, steps[name].tables[0])


def gathered(
    world: VectorParts, prefix: str, keep: Callable[[int], bool] = lambda n: True
) -> tuple[np.ndarray, np.ndarray]:
    ids, vectors = [], []
    for name, (part_ids, matrix) in world.items():
        if name.startswith(prefix):
            rows = [n for n in range(len(part_ids)) if keep(n) and matrix[n].any()]
            ids += part_ids[rows].tolist()
            vectors.append(matrix[rows].astype(np.float64))
    return np.array(ids), np.concatenate(vectors)


def best(
    query: np.ndarray, ids: np.ndarray, vectors: np.ndarray, k: int, exclude: bytes | None = None
) -> list[tuple[Any, Any]]:
    similarity = (vectors @ query).astype(np.float32)
    order = sorted(range(len(ids)), key=lambda n: (-similarity[n], ids[n]))
    nearest: list[tuple[Any, Any]] = []
    for n in order:
        if ids[n] != exclude and ids[n] not in [image for image, _ in nearest]:
            nearest.append((ids[n], similarity[n]))
        if len(nearest) == k:
            break
    return nearest


def test_match_equals_brute_force(world: VectorParts, store: Store) -> None:
    table = run(store, "match")
    assert table.manifest.stats["recall"] == 1.0
    assert table.manifest.stats["shards"] == 3
    rows = table.read().to_pandas()
    ids, vectors = gathered(world, "web", keep=lambda n: n % 10 != 3)
    seeds, queries = gathered(world, "seeds", keep=lambda n: n % 10 != 3)
    assert set(rows["seed_image_id"]) == {s.decode() for s in seeds}
    for seed, query in zip(seeds, queries, strict=True):
        matches = rows[rows["seed_image_id"] == seed.decode()].sort_values("rank")
        expected = best(query, ids, vectors, 10)
        assert matches["image_id"].tolist() == [i.decode() for i, _ in expected]
        np.testing.assert_array_equal(matches["similarity"], np.array([s for _, s in expected]))
        assert matches["rank"].tolist() == list(range(1, 11))


@pytest.mark.parametrize("kind", ["ivf_flat", "ivf_pq"])
def test_the_reported_recall_of_an_index_is_its_recall(
    world: VectorParts, store: Store, kind: str
) -> None:
    exact = run(store, "match").read().to_pandas()
    index = {"index": kind, "nlist": 16, "nprobe": 8}
    index |= {"subquantizers": 4, "refine": 8} if kind == "ivf_pq" else {}
    table = run(store, "match", match=index | {"recall_queries": 1000})
    approximate = table.read().to_pandas()
    pairs = [set(zip(t["seed_image_id"], t["image_id"], strict=True)) for t in (exact, approximate)]
    measured = len(pairs[0] & pairs[1]) / len(pairs[0])
    assert table.manifest.stats["recall"] == pytest.approx(measured, abs=1e-6)
    assert table.manifest.stats["index"] == kind
    assert measured > 0.8
    assert len(approximate) == len(exact)
    worse = index | {"nprobe": 1, "recall_queries": 1000}
    assert run(store, "match", match=worse).manifest.stats["recall"] < measured


@pytest.mark.parametrize(
    ("index", "words"),
    [({"subquantizers": 5}, "Valid: "), ({"subquantizers": 8, "nlist": 5000}, "Lower nlist")],
)
def test_an_index_that_cannot_be_trained_is_an_error(
    store: Store, index: dict[str, int], words: str
) -> None:
    with pytest.raises(RecipeError, match=words):
        run(store, "match", match={"index": "ivf_pq"} | index)


def test_ivf_flat_that_probes_every_list_is_exact(store: Store) -> None:
    exact = run(store, "match").read()
    index = {"index": "ivf_flat", "nlist": 16, "nprobe": 16}
    assert run(store, "match", match=index).read() == exact


@pytest.mark.parametrize("kind", ["ivf_flat", "ivf_pq"])
def test_a_longer_pool_only_adds_lists(world: VectorParts, store: Store, kind: str) -> None:
    """Codebooks and old lists are reused; a pool four times as large trains codebooks again."""
    index = {"index": kind, "nlist": 16} | ({"subquantizers": 4} if kind == "ivf_pq" else {})
    run(store, "match", match=index)
    before = open_table(store, "codebooks").content
    old = {name: f.content for name, f in open_table(store, "lists").fragments.items()}

    def add_fragments(parts: int) -> None:
        for table in ("eligible", "images", "embeddings.semantic"):
            rows = {n: f.read() for n, f in open_table(store, table).fragments.items()}
            for part in range(parts):
                added = rows["web-0"]
                ids = pa.array([f"{part:02d}{row:030x}" for row in range(len(added))])
                for name in ("pair_id", "image_id"):
                    added = added.set_column(added.schema.get_field_index(name), name, ids)
                rows[f"web-9{part}"] = added
            batches = {n: r.combine_chunks().to_batches()[0] for n, r in rows.items()}
            commit_batches(store, table, batches)

    add_fragments(1)
    steps = {s.name: s for s in plan(recipe(match=index))}
    run_step(steps["quantise"], store, InProcess())
    assert open_table(store, "codebooks").content == before
    outcome = run_step(steps["index"], store, InProcess())
    assert (outcome.computed, outcome.reused) == (1, len(old))
    lists = open_table(store, "lists").fragments
    assert {name: lists[name].content for name in old} == old
    add_fragments(30)
    run_step(steps["quantise"], store, InProcess())
    assert open_table(store, "codebooks").content != before


def test_neighbours_equal_brute_force(world: VectorParts, store: Store) -> None:
    near = {"near": {"encoder": "semantic", "k": 6, "floor": 0.3, "at_least": 0.9}}
    rows = run(store, "neighbours", dedup=near).read().to_pandas()
    prefix = {"pool": "web", "seed": "seeds", "held_out": "test"}
    role_pairs = {("pool", "pool"), ("held_out", "pool"), ("held_out", "seed"), ("seed", "pool")}
    assert set(zip(rows["role_a"], rows["role_b"], strict=True)) == role_pairs
    for a, b in role_pairs:
        ids, vectors = gathered(world, prefix[b])
        queries, matrix = gathered(world, prefix[a])
        of_roles = rows[(rows["role_a"] == a) & (rows["role_b"] == b)]
        by_query = dict(list(of_roles.groupby("image_a")))
        for query, vector in list(zip(queries, matrix, strict=True))[::37]:
            expected = best(vector, ids, vectors, 6, exclude=query if a == b else None)
            expected = [(i.decode(), s) for i, s in expected if s >= np.float32(0.3)]
            group = by_query.get(query.decode())
            images = [] if group is None else group.sort_values("rank")["image_b"].tolist()
            assert images == [i for i, _ in expected]
    # The held-out image that is also in the pool finds itself there.
    in_both = world["test-0"][0][5].decode()
    pairs = rows[(rows["image_a"] == in_both) & (rows["image_b"] == in_both)]
    assert pairs[["role_a", "role_b", "rank"]].to_numpy().tolist() == [["held_out", "pool", 1]]


def test_every_vector_has_its_nearest_centroid(world: VectorParts, store: Store) -> None:
    centroids = run(store, "cluster", cluster={"levels": [20]})
    from curation.algorithms.arrays.vectors import vector_matrix

    matrix = vector_matrix(centroids.read().column("vector"), "<f4").astype(np.float64)
    assert matrix.shape == (20, DIM)
    rows = run(store, "assign", cluster={"levels": [20]}).read().to_pandas()
    by_image = rows.drop_duplicates("image_id").set_index("image_id")
    for ids, vectors in world.values():
        for name, vector in zip(ids, vectors.astype(np.float64), strict=True):
            row = by_image.loc[name.decode()]
            if not vector.any():
                assert np.isnan(row["cluster_id"])
                continue
            similarity = (matrix @ vector).astype(np.float32)
            assert row["similarity"] == similarity.max()
            assert similarity[int(row["cluster_id"])] == similarity.max()


def test_more_clusters_than_vectors_is_warned_about(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    table = run(store, "cluster", cluster={"levels": [5000]})
    stats = table.manifest.stats
    assert stats["requested"] == [5000]
    assert stats["clusters"] == [table.rows]
    assert table.rows < 2400
    assert "5000 clusters requested" in caplog.text


def test_a_recall_is_null_where_nothing_was_joined() -> None:
    sides: dict[str, dict[str, int]] = {"pool": {"web-0": 1}, "seed": {"birds-0": 1}}
    assert _exact_recall({"seed": sides["seed"]}) is None
    assert _exact_recall(sides) == _exact_recall({"pool": sides["pool"]}) == 1.0


@pytest.mark.parametrize("join", ["auto", "cells"])
def test_rows_without_a_vector_decide_nothing(join: str, tmp_path: Path) -> None:
    """Images that could not be fetched have rows too: in a crawl they are a large share of all."""
    rng = np.random.default_rng(0)
    sizes = {"web-0": 12, "web-1": 8, "seeds-0": 160, "test-0": 20}
    vectors = {name: clustered(rng, rows) for name, rows in sizes.items()}
    near = {"encoder": "semantic", "k": 4, "at_least": 0.7, "join": join, "spread": 2}
    blocks = {"dedup": {"near": near, "verify": None, "perceptual": None}}
    made = []
    for failed in (0, 200):
        parts = {}
        for place, (name, matrix) in enumerate(vectors.items()):
            numbers = range(len(matrix) + failed)
            ids = np.array([f"{place:02x}{number:030x}" for number in numbers], "S32")
            parts[name] = ids, np.concatenate([matrix, np.zeros((failed, DIM), np.float16)])
        store = Store(tmp_path / str(failed))
        commit_vectors(store, parts)
        table = run(store, "neighbours", **blocks)
        stats = table.manifest.stats["near"]
        rows = sorted(map(str, table.read().to_pylist()))
        made.append((rows, stats))
    (rows, stats), (others, with_failed) = made
    assert others == rows
    assert with_failed == stats
    assert stats["multiplications"]["exact"] == 200**2 * DIM
    if join == "cells":
        # 32 by the number of vectors, but no more than images of the pool.
        assert stats["cells"] == 20
