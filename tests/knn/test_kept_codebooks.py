"""Codebooks are reused for a pool that grew, and for no other pool."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curation.algorithms.knn.choice import JoinChoice
from curation.engine.parallel import InProcess
from curation.engine.table import open_table
from curation.flow import Step, plan
from curation.recipe import parse_recipe
from curation.store.store import Store
from tests.tables import commit, commit_batches, embedding_batch, run_step, scores_batch

DIM = 16


def pool(seed: int, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Return ids and unit vectors of some images; those of one seed begin alike."""
    rng = np.random.default_rng(seed)
    ids = np.array([f"{seed:02x}{n:030x}" for n in range(rows)], "S32")
    vectors = rng.normal(size=(300, DIM))[:rows]
    return ids, np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float16)


def steps(name: str, seed: int = 0) -> dict[str, Step]:
    """Return the steps of a recipe; those of another path or seed are other steps."""
    spec: dict[str, Any] = {
        "name": name,
        "sources": [
            {"name": "web", "role": "pool", "format": "csv", "path": name, "columns": {"url": "u"}},
            {"name": "seeds", "role": "seed", "format": "folder", "path": "s"},
        ],
        "match": {"index": "ivf_flat", "nlist": 8},
        "retrieve": [{"name": "a", "seeds": "seeds", "strategy": "sample", "k": 10}],
        "dedup": {
            "near": {"encoder": "semantic", "k": 4, "floor": 0.3, "at_least": 0.9, "spread": 1},
            "perceptual": None,
        },
    }
    return {step.name: step for step in plan(parse_recipe(spec))}


def commit_pool(store: Store, parts: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    """Commit the tables that the stages read, with some seeds."""
    parts = parts | {"seeds-0": pool(99, 20)}
    rows = {}
    for name, (ids, _) in parts.items():
        source = name.split("-")[0]
        role = "pool" if source == "web" else "seed"
        rows[name] = [
            {"pair_id": i.decode(), "image_id": i.decode(), "role": role, "source": source}
            | {"status": "eligible"}
            for i in ids
        ]
    commit(store, "eligible", rows)
    commit(store, "images", {n: [r | {"status": "ok"} for r in part] for n, part in rows.items()})
    none = {n: scores_batch([r["pair_id"] for r in part]) for n, part in rows.items()}
    commit_batches(store, "scores", none)
    batches = {n: embedding_batch(*part) for n, part in parts.items()}
    commit_batches(store, "embeddings.semantic", batches)


def contents(store: Store, parts: dict[str, Any], recipe: str) -> dict[str, str]:
    """Commit a pool, run the stages that train a quantiser, and return what they wrote."""
    commit_pool(store, parts)
    by_table = {}
    for name, table in (("quantise", "codebooks"), ("neighbours", "neighbours")):
        run_step(steps(recipe)[name], store, InProcess())
        by_table[table] = open_table(store, table).content
    return by_table


@pytest.fixture(autouse=True)
def cells(monkeypatch: pytest.MonkeyPatch) -> None:
    """Join by cells, also a small pool."""
    monkeypatch.setattr(
        "curation.stages.neighbours.stage.choose_join", lambda *_: JoinChoice("cells", 9, 0, 0, 0)
    )


def test_a_replaced_pool_gets_its_own_quantiser(tmp_path: Path) -> None:
    store, fresh = Store(tmp_path / "store"), Store(tmp_path / "fresh")
    first = contents(store, {"web-0": pool(1, 300)}, "a")
    assert contents(store, {"web-0": pool(2, 300)}, "a") == (
        contents(fresh, {"web-0": pool(2, 300)}, "a")
    )
    assert contents(store, {"web-0": pool(1, 300)}, "a") == first


def test_another_recipe_gets_a_quantiser_of_its_own_pool(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    small = {"web-0": pool(1, 300)}
    grown = small | {"web-1": pool(2, 300)}
    before = contents(store, small, "a")
    of_a = contents(store, grown, "a")
    # Its codebooks stay; in a fresh store they would be trained on all of the pool.
    assert of_a["codebooks"] == before["codebooks"]
    expected = contents(Store(tmp_path / "fresh"), grown, "b")
    assert expected["codebooks"] != of_a["codebooks"]
    assert contents(store, grown, "b") == expected
