"""The back end gives the same clusters as the others, for both metrics and with ties."""

import numpy as np

from curation.algorithms.kmeans.backends.load import load_backend
from curation.algorithms.kmeans.backends.nearest import Centroids
from tests.docs.checks.common import recipe_with

assert recipe_with(cluster={"backend": "exhaustive"}).cluster.backend == "exhaustive"
rng = np.random.default_rng(0)
points = rng.normal(size=(500, 16)).astype(np.float16)
vectors = rng.normal(size=(40, 16)).astype(np.float32)
vectors[7] = vectors[3]
for offset in (np.zeros(40), (vectors.astype(np.float64) ** 2).sum(axis=1) / 2):
    centroids = Centroids(vectors, offset)
    found = [
        load_backend(name, "cpu")(points).assign(centroids)
        for name in ("exhaustive", "torch", "faiss")
    ]
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])
    assert 7 not in found[0]
assert len(load_backend("exhaustive", "cpu")(points[:0]).assign(centroids)) == 0
