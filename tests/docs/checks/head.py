"""Vectors are scored by the head from its file; other files and dimensions are refused."""

from __future__ import annotations

import numpy as np
import torch
from safetensors.torch import save_file

from curation.store.store import Store
from tests.docs.checks.common import IDS, image_rows, recipe_with, refuses, run_stage
from tests.tables import commit, commit_batches, embedding_batch

rng = np.random.default_rng(0)
prototypes, vectors = rng.normal(size=(3, 8)), rng.normal(size=(4, 8))
vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)
store = Store("store")
commit(store, "images", {"web-0": image_rows()})
batch = embedding_batch(np.array(IDS, "S32"), vectors)
commit_batches(store, "embeddings.semantic", {"web-0": batch})


def scores(tensors: dict[str, torch.Tensor]) -> np.ndarray:
    save_file(tensors, "head.safetensors")
    head = {"kind": "prototypes", "encoder": "semantic", "weights": "head.safetensors"}
    recipe = recipe_with(score={"heads": {"birdlike": head}}, select={"birdlike": {"at_least": 0}})
    column = run_stage("score", recipe, store).read(["birdlike"]).column(0)
    return np.asarray(column.to_numpy())


unit = prototypes / np.linalg.norm(prototypes, axis=1, keepdims=True)
expected = (vectors.astype(np.float64) @ unit.T).max(axis=1)
np.testing.assert_allclose(
    scores({"prototypes": torch.from_numpy(prototypes)}), expected, atol=1e-6
)
assert refuses(scores, {"weight": torch.zeros(1, 8)})
assert refuses(scores, {"prototypes": torch.ones(3, 4)})
