"""retrieve and assemble on tables written by hand, with results computed by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from curation.algorithms.arrays.vectors import vector_array
from curation.engine.parallel import InProcess
from curation.engine.table import Table, open_table
from curation.flow import plan
from curation.inspect.composition import composition_of
from curation.recipe import parse_recipe
from curation.store.store import Store

from ..tables import commit, commit_batches, commit_empty_inputs, run_step

STAGES_RUN = ("retrieve", "assemble")
SPEC = {
    "name": "hand",
    "sources": [
        {"name": "web", "role": "pool", "format": "csv", "path": "w", "columns": {"url": "u"}},
        {"name": "cats", "role": "seed", "format": "folder", "path": "c"},
        {"name": "dogs", "role": "seed", "format": "folder", "path": "d"},
    ],
    "retrieve": [
        {"name": "cats", "seeds": "cats", "strategy": "as_is"},
        {"name": "cats-near", "seeds": "cats", "strategy": "sample", "k": 2},
        {"name": "dogs-once", "seeds": "dogs", "strategy": "sample", "k": 2, "collisions": "once"},
        {
            "name": "dogs-cells",
            "seeds": "dogs",
            "strategy": "cluster",
            "per_cluster": 2,
            "more_than": 1,
            "cap": 3,
        },
        {
            "name": "dogs-cells-skip",
            "seeds": "dogs",
            "strategy": "cluster",
            "per_cluster": 3,
            "more_than": 1,
            "cap": None,
            "small_clusters": "skip",
        },
        {"name": "none", "seeds": "dogs", "strategy": "sample", "k": 2, "cap": 0},
    ],
}


def image(number: int) -> str:
    return f"{number:032x}"


# (number of the image, source, status, cluster). Images 1 to 9 are the pool, in two fragments;
# image 3 is also a cat.
FRAGMENTS = {
    "web-0": [
        (1, "web", "eligible", 0),
        (2, "web", "eligible", 0),
        (3, "web", "eligible", 0),
        (4, "web", "dropped", 0),
    ],
    "web-1": [(5, "web", "eligible", 1), (6, "web", "eligible", 1), (7, "web", "eligible", 2)],
    "cats-0": [(3, "cats", "eligible", 0), (21, "cats", "eligible", 2), (22, "cats", "dropped", 2)],
    "dogs-0": [
        (31, "dogs", "eligible", 0),
        (32, "dogs", "eligible", 0),
        (33, "dogs", "eligible", 1),
        (34, "dogs", "eligible", 1),
        (35, "dogs", "eligible", 2),
    ],
}
MATCHES = [
    ("cats", 3, 3, 1.0, 1), ("cats", 3, 1, 0.9, 2), ("cats", 21, 7, 0.8, 1), ("cats", 21, 1, 0.7, 2),
    ("dogs", 31, 1, 0.9, 1), ("dogs", 31, 2, 0.8, 2), ("dogs", 32, 1, 0.95, 1), ("dogs", 32, 2, 0.8, 2),
    ("dogs", 33, 5, 0.6, 1), ("dogs", 33, 6, 0.5, 2), ("dogs", 34, 5, 0.6, 1), ("dogs", 34, 6, 0.5, 2),
    ("dogs", 35, 7, 0.4, 1), ("dogs", 35, 6, 0.3, 2),
]  # fmt: skip


def row(number: int, source: str, status: str, cluster: int) -> dict[str, object]:
    return {
        "pair_id": f"{source}-{number}",
        "image_id": image(number),
        "role": "pool" if source == "web" else "seed",
        "source": source,
        "source_key": str(number),
        "url": f"http://web.example/{number}" if source == "web" else None,
        "caption": f"{source} {number}",
        "status": status,
        "cluster_id": cluster,
        "similarity": 0.5,
        "sha256": image(number) * 2,
        "width": 10,
        "height": 10,
        "original_width": 20,
        "original_height": 20,
        "bytes": 99,
        "format": "jpeg",
        "image": b"picture %d" % number,
    }


def fill(store: Store) -> None:
    """Commit the tables that retrieve and assemble read."""
    rows = {name: [row(*r) for r in part] for name, part in FRAGMENTS.items()}
    commit(store, "eligible", rows)
    commit(store, "assignments", rows)
    # One level; the values of its centroids make no difference.
    level = {
        "level": pa.array(np.zeros(9, np.int32)),
        "cluster_id": pa.array(np.arange(9, dtype=np.int32)),
        "vector": vector_array(np.eye(9, dtype=np.float32)),
        "training_count": pa.array(np.ones(9, np.int64)),
        "parent_id": pa.nulls(9, pa.int32()),
    }
    commit_batches(store, "centroids", {"level-0": pa.RecordBatch.from_pydict(level)})
    commit(store, "images", {n: [r | {"status": "ok"} for r in part] for n, part in rows.items()})
    names = ("seed_set", "seed_image_id", "image_id", "similarity", "rank")
    matches = [
        dict(zip(names, (s, image(a), image(b), x, k), strict=True)) for s, a, b, x, k in MATCHES
    ]
    commit(store, "matches", {"all": matches})
    commit_empty_inputs(store, STAGES_RUN, rows)


@pytest.fixture
def outcome(tmp_path: Path) -> tuple[Table, dict[str, dict[str, Any]]]:
    store = Store(tmp_path)
    fill(store)
    steps = {s.name: s for s in plan(parse_recipe(SPEC))}
    for name in STAGES_RUN:
        run_step(steps[name], store, InProcess())
    claims = open_table(store, "claims")
    dataset = {r["image_id"]: r for r in open_table(store, "dataset").read().to_pylist()}
    return claims, dataset


def claims_of(claims: Table, arm: str) -> set[tuple[int, int | None]]:
    return {
        (
            int(r["image_id"], 16),
            None if r["seed_image_id"] is None else int(r["seed_image_id"], 16),
        )
        for r in claims.read().to_pylist()
        if r["arm"] == arm
    }


def test_each_arm_claims_the_images_computed_by_hand(
    outcome: tuple[Table, dict[str, dict[str, Any]]],
) -> None:
    claims, _ = outcome
    assert claims_of(claims, "cats") == {(3, 3), (21, 21)}
    assert claims_of(claims, "cats-near") == {(3, 3), (1, 3), (7, 21), (1, 21)}
    # 1 goes to dog 32 (.95 > .9), 2 to dog 31 and 5 to dog 33 (ties by smaller seed id), 6 to 33.
    assert claims_of(claims, "dogs-once") == {(1, 32), (2, 31), (5, 33), (6, 33), (7, 35)}
    # Clusters 0 and 1 hold two dogs each; 2 of {1, 2, 3} and both of {5, 6}, capped at 3.
    cells = {i for i, _ in claims_of(claims, "dogs-cells")}
    assert len(cells) == 3
    assert cells < {1, 2, 3, 5, 6}
    # Cluster 1 has only two of three requested images, so it is skipped.
    assert claims_of(claims, "dogs-cells-skip") == {(1, None), (2, None), (3, None)}
    assert claims_of(claims, "none") == set()


def test_the_composition_counts_what_was_computed_by_hand(
    outcome: tuple[Table, dict[str, dict[str, Any]]],
) -> None:
    rows, total = composition_of(outcome[0].manifest)
    counts = ("seed_rows", "seed_images", "requested", "available", "retrieved", "unique", "capped")
    by_arm = {r["arm"]: tuple(r[c] for c in (*counts, "final", "shortfall")) for r in rows}
    assert by_arm == {
        "cats": (3, 2, 3, 2, 2, 2, 0, 2, 1),
        "cats-near": (3, 2, 4, 4, 4, 3, 0, 4, 0),
        "dogs-once": (5, 5, 10, 10, 5, 5, 0, 5, 5),
        "dogs-cells": (5, 5, 4, 5, 4, 4, 1, 3, 0),
        "dogs-cells-skip": (5, 5, 6, 5, 3, 3, 0, 3, 3),
        "none": (5, 5, 10, 10, 10, 5, 10, 0, 0),
    }
    assert total == 2 + 4 + 5 + 3 + 3


def test_the_dataset_has_each_claimed_image_once_with_all_claims(
    outcome: tuple[Table, dict[str, dict[str, Any]]],
) -> None:
    claims, dataset = outcome
    weights = {int(i, 16): r["weight"] for i, r in dataset.items()}
    assert sum(weights.values()) == claims.rows == 17
    assert set(weights) == {1, 2, 3, 5, 6, 7, 21}
    assert (weights[21], weights[7]) == (1, 2)
    # Image 3 is in the pool and in the seed set cats: one row, that of the seed set, with all claims.
    cat = dataset[image(3)]
    assert (cat["role"], cat["source"], cat["caption"]) == ("seed", "cats", "cats 3")
    assert {"cats", "cats-near", "dogs-cells-skip"} <= {c["arm"] for c in cat["claims"]}
    assert dataset[image(1)]["source"] == "web"
    assert all(c["cluster_id"] in (0, 1) for c in cat["claims"] if c["strategy"] == "cluster")
    # A seed image is a file, so nothing but its pixels leads to it.
    assert cat["image"] == b"picture 3"
    assert dataset[image(1)]["image"] is None
