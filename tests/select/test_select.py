"""The first reason why a row is not eligible, in the documented order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from curation.engine.parallel import InProcess
from curation.engine.table import open_table
from curation.flow import plan
from curation.recipe import parse_recipe
from curation.store.store import Store

from ..tables import commit, commit_batches, commit_empty_inputs, embedding_batch, run_step

STAGES_RUN = ("tally", "select")
SPEC = {
    "name": "select",
    "sources": [
        {"name": "web", "role": "pool", "format": "csv", "path": "w", "columns": {"url": "u"}},
        {"name": "cats", "role": "seed", "format": "folder", "path": "c"},
        {"name": "test", "role": "held_out", "format": "folder", "path": "t"},
    ],
    "select": {
        "min_side": {"at_least": 64},
        "aspect": {"at_most": 3},
        "entropy": {"at_least": 2, "missing": "keep"},
    },
}
# name, status, copies (method, contaminated_by, copy_of_seed), scores (side, aspect, entropy), vector
POOL = [
    ("good", "ok", ("representative", None, None), (64, 3.0, 2.0), 1),
    ("gone", "failed", None, None, 0),
    ("leak", "ok", ("near", "h", None), (10, 9.0, 0.0), 1),
    ("small", "ok", ("near", None, None), (63, 9.0, 0.0), 1),
    ("long", "ok", ("near", None, None), (64, 3.1, 0.0), 1),
    ("blank", "ok", ("near", None, None), (64, 3.0, 1.9), 1),
    ("unmeasured", "ok", ("representative", None, None), (64, 3.0, None), 1),
    ("no-side", "ok", ("representative", None, None), (None, 3.0, 3.0), 1),
    ("copy", "ok", ("near", None, "s"), (64, 1.0, 3.0), 1),
    ("twin", "ok", ("exact", None, None), (64, 1.0, 3.0), 1),
    ("of-seed", "ok", ("representative", None, "s"), (64, 1.0, 3.0), 1),
    ("lost", "ok", ("representative", None, None), (64, 1.0, 3.0), 0),
]
SEEDS = [("cat", "ok", ("representative", None, None), (10, 9.0, 0.0), 1)]
HELD = [("test", "ok", ("representative", None, None), (99, 1.0, 5.0), 1)]
EXPECTED = {
    "good": None,
    "gone": "http_404",
    "leak": "contaminated",
    "small": "min_side",
    "long": "aspect",
    "blank": "entropy",
    "unmeasured": None,
    "no-side": "min_side",
    "copy": "copy_near",
    "twin": "copy_exact",
    "of-seed": None,
    "lost": "vector_not_finite",
    "cat": None,
    "test": "held_out",
}


def commit_world(store: Store) -> None:
    parts = {"web": ("pool", POOL), "cats": ("seed", SEEDS), "test": ("held_out", HELD)}
    images, copies, scores, vectors = {}, {}, {}, {}
    role: str
    rows: Any
    for source, (role, rows) in parts.items():
        base = {"role": role, "source": source}
        images[source] = [
            base
            | {"pair_id": n, "image_id": n if s == "ok" else None, "status": s}
            | {"reason": None if s == "ok" else "http_404"}
            for n, s, *_ in rows
        ]
        copies[source] = [
            base
            | dict.fromkeys(("pair_id", "image_id", "component_id", "representative_id"), n)
            | {"representative_pair_id": n, "method": c[0]}
            | {"contaminated_by": c[1], "copy_of_seed": c[2]}
            for n, _, c, *_ in rows
            if c
        ]
        sides, aspects, entropies = zip(*((s or (None,) * 3) for *_, s, _ in rows), strict=True)
        scores[source] = pa.RecordBatch.from_pydict(
            {
                "pair_id": [r[0] for r in rows],
                "phash": pa.nulls(len(rows), pa.binary()),
                "pixel_id": pa.nulls(len(rows), pa.string()),
                "min_side": pa.array(sides, pa.int32()),
                "aspect": pa.array(aspects, pa.float32()),
                "entropy": pa.array(entropies, pa.float32()),
            }
        )
        matrix = np.array([[r[4], 0, 0, 0] for r in rows], np.float16)
        vectors[source] = embedding_batch(np.array([r[0] for r in rows]), matrix)
    commit(store, "images", images)
    commit(store, "copies", copies)
    commit_batches(store, "scores", scores)
    commit_batches(store, "embeddings.semantic", vectors)
    commit_empty_inputs(store, STAGES_RUN, images)


@pytest.mark.parametrize(("policy", "of_seed"), [("keep", None), ("drop", "copy_of_seed")])
def test_a_row_has_the_first_reason_that_holds(
    tmp_path: Path, policy: str, of_seed: str | None
) -> None:
    store = Store(tmp_path)
    commit_world(store)
    recipe = parse_recipe(SPEC | {"dedup": {"seed_copies": policy}})
    steps = {s.name: s for s in plan(recipe)}
    for name in STAGES_RUN:
        run_step(steps[name], store, InProcess())
    rows = open_table(store, "eligible").read().to_pylist()
    assert {r["pair_id"]: r["reason"] for r in rows} == EXPECTED | {"of-seed": of_seed}
    assert all((r["status"] == "eligible") == (r["reason"] is None) for r in rows)
    counts = open_table(store, "eligible").manifest.counts
    assert sum(counts["pool"].values()) == len(POOL)
