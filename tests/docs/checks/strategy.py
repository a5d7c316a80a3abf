"""The arm claims as many images of the pool as it asks for, the same with the same seed."""

from __future__ import annotations

import numpy as np

from curation.flow import plan
from curation.inspect.composition import expected_composition, expected_total
from curation.store.store import Store
from tests.docs.checks.common import IDS, commit_no_copies, image_rows, recipe_with, run_stage
from tests.tables import commit

store = Store("store")
eligible = [row | {"status": "eligible"} for row in image_rows()]
commit(store, "images", {"web-0": image_rows()})
commit(store, "eligible", {"web-0": eligible})
commit_no_copies(store, image_rows())
commit(
    store,
    "assignments",
    {"web-0": [{"pair_id": i, "image_id": i, "cluster_id": 0, "similarity": 1} for i in IDS]},
)
commit(store, "centroids", {})
commit(store, "matches", {})


def claimed(seed: int) -> list[str]:
    arms = [{"name": "baseline", "strategy": "uniform", "size": 3}]
    recipe = recipe_with(retrieve=arms, seed=seed)
    assert plan(recipe)[-1].name == "assemble"
    assert expected_total(expected_composition(recipe)) == 3
    claims = run_stage("retrieve", recipe, store)
    (row,) = claims.manifest.stats["composition"]
    assert (row["requested"], row["available"], row["final"]) == (3, 4, 3)
    images: list[str] = claims.read(["image_id"]).column(0).to_pylist()
    return images


drawn = [claimed(seed) for seed in range(8)]
assert drawn == [claimed(seed) for seed in range(8)]
assert all(len(set(one)) == 3 for one in drawn)
assert {image for one in drawn for image in one} == set(IDS)
assert len({tuple(np.sort(one)) for one in drawn}) > 1
