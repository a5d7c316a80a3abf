"""assign: the nearest centroid of every image, of the pool and of seeds alike."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from curation.algorithms.arrays.products import exact_similarity
from curation.algorithms.arrays.vectors import comparable_rows, vector_matrix
from curation.algorithms.kmeans.backends.load import load_backend
from curation.algorithms.kmeans.lloyd import directions, make_centroids
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
        each, nearest = np.arange(len(points)), cluster_id[valid].astype(np.int64)
        similarity[valid] = exact_similarity(points, directions(finest), each, nearest, device)
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
