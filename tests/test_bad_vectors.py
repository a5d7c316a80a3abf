"""Vectors with NaN or infinite values, or only zeros, are treated as missing, and counted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from curation.engine.parallel import InProcess
from curation.engine.table import open_table
from curation.flow import STAGES, plan
from curation.media.encoders.params import EMBEDDINGS
from curation.recipe import Recipe, parse_recipe
from curation.store.store import Store

from .kmeans.data import names, planted
from .tables import (
    BY_SEMANTIC,
    VectorParts,
    commit,
    commit_batches,
    commit_vectors,
    embedding_batch,
    run_step,
)

DIM = 8
BAD = ([np.nan] * DIM, [np.inf] + [0.1] * (DIM - 1), [-np.inf] * DIM, [0.0] * DIM)
STAGES_RUN = [
    name
    for name, stage in STAGES.items()
    # `select` needs the copies that `tally` counts.
    if name == "tally" or any(read.table == EMBEDDINGS for read in stage.reads)
]


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    head = {"weight": torch.ones(1, DIM), "bias": torch.zeros(1)}
    save_file(head, tmp_path / "head.safetensors")
    heads = {"taste": {"encoder": "semantic", "weights": str(tmp_path / "head.safetensors")}}
    web = {"name": "web", "role": "pool", "format": "csv", "path": "w", "columns": {"url": "u"}}
    return parse_recipe(
        {
            "name": "bad",
            "sources": [web, {"name": "seeds", "role": "seed", "format": "folder", "path": "s"}],
            "score": {"heads": heads},
            "dedup": BY_SEMANTIC,
            "cluster": {"levels": [6]},
            "retrieve": [{"name": "a", "seeds": "seeds", "strategy": "sample", "k": 20}],
        }
    )


def world() -> VectorParts:
    """Three pool fragments with four, no and only bad vectors, and one of seeds with one."""
    rng = np.random.default_rng(0)
    parts = {}
    for fragment, rows in {"web-0": 60, "web-1": 40, "web-2": 4, "seeds-0": 9}.items():
        parts[fragment] = (names(rng, rows), planted(rng, rows, DIM, 5)[0])
    for fragment in ("web-0", "web-2"):
        parts[fragment][1][:4] = BAD
    parts["seeds-0"][1][5] = BAD[0]
    return parts


def fill(store: Store, parts: VectorParts, bad_are_null: bool) -> None:
    """Commit the tables that the stages read; bad vectors are null with a reason, or stored."""
    commit_vectors(store, parts)
    copies, vectors = {}, {}
    for fragment, (ids, matrix) in parts.items():
        copies[fragment] = [
            dict.fromkeys(("pair_id", "image_id", "component_id", "representative_id"), name)
            | {"representative_pair_id": name, "method": "representative"}
            | {"role": "pool" if "web" in fragment else "seed", "source": fragment[:-2]}
            for name in ids.astype(str).tolist()
        ]
        good = np.asarray(np.isfinite(matrix).all(axis=1) & matrix.any(axis=1))
        vectors[fragment] = embedding_batch(ids, matrix, good if bad_are_null else good | True)
    commit(store, "copies", copies)
    commit_batches(store, "embeddings.semantic", vectors)


def test_no_stage_uses_them_and_they_are_counted(recipe: Recipe, tmp_path: Path) -> None:
    rows = {}
    for bad_are_null in (True, False):
        store = Store(tmp_path / str(bad_are_null))
        fill(store, world(), bad_are_null)
        steps = {step.name: step for step in plan(recipe)}
        for stage in STAGES_RUN:
            run_step(steps[stage], store, InProcess())
        tables = {stage: open_table(store, steps[stage].tables[0]) for stage in STAGES_RUN}
        rows[bad_are_null] = {stage: table.read().to_pydict() for stage, table in tables.items()}
        counts = open_table(store, "eligible").manifest.counts
        assert counts == {
            "pool": {"eligible": 96, "vector_not_finite": 8},
            "seed": {"eligible": 8, "vector_not_finite": 1},
        }
    assert rows[True] == rows[False]
    read = rows[False]
    centroids = [np.frombuffer(vector, "<f4") for vector in read["cluster"]["vector"]]
    assert np.isfinite(np.concatenate(centroids)).all()
    assert read["assign"]["cluster_id"].count(None) == read["score"]["taste"].count(None) == 9
    assert len(set(read["match"]["seed_image_id"])) == 8
