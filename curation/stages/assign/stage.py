"""assign: the nearest centroid of every image, of the pool and of seeds alike."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curation.algorithms.arrays.vectors import Vectors, comparable_rows, vector_matrix
from curation.algorithms.kmeans.backends.load import load_backend
from curation.algorithms.kmeans.backends.nearest import Centroids, ClusterIds, exact_scores
from curation.algorithms.kmeans.lloyd import make_centroids
from curation.engine.table import Table
from curation.engine.units import StageOutput
from curation.stages.assign.params import AssignStep
from curation.store.fragment import Fragment


def assign(
    embeddings: dict[str, Fragment], centroids: Table, *, params: AssignStep, device: str
) -> StageOutput:
    """Assign each vector to its nearest centroid of level 0, exactly; ties go to the smaller number.

    Yields:
        One batch of `assignments`, aligned with the embeddings.
    """
    rows = embeddings[params.encoder].read(["pair_id", "image_id", "vector"])
    level = next(iter(centroids.fragments.values())).read(["level", "cluster_id", "vector"])
    finest = make_centroids(vector_matrix(level.column("vector"), "<f4"), params.metric)
    valid = comparable_rows(rows.column("vector"))
    cluster_id = np.full(len(rows), -1, dtype=np.int32)
    similarity = np.zeros(len(rows), dtype=np.float32)
    if valid.any():
        points = vector_matrix(rows.column("vector").filter(pa.array(valid)))
        cluster_id[valid] = load_backend(params.backend, device)(points).assign(finest)
        similarity[valid] = _cosine(points, finest, cluster_id[valid])
    yield pa.RecordBatch.from_arrays(
        [
            rows.column("pair_id").combine_chunks(),
            rows.column("image_id").combine_chunks(),
            pa.array(cluster_id, mask=~valid),
            pa.array(similarity, mask=~valid),
        ],
        names=["pair_id", "image_id", "cluster_id", "similarity"],
    )
    return None


def _cosine(
    points: Vectors, centroids: Centroids, cluster_ids: ClusterIds
) -> npt.NDArray[np.float64]:
    """Return the cosine similarity of unit vectors (n, dim) to one centroid each, (n,)."""
    if not centroids.offset.any():
        return exact_scores(points, centroids, cluster_ids)
    lengths = np.linalg.norm(centroids.vectors, axis=1, keepdims=True)
    unit = (centroids.vectors / np.where(lengths > 0, lengths, 1)).astype(np.float32)
    return exact_scores(points, make_centroids(unit, "spherical"), cluster_ids)
