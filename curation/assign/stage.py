"""assign: the nearest centroid of every picture, pool and seeds alike."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from curation.fragment import Fragment, Table
from curation.knn.exact import build_base, search
from curation.params import AssignStep
from curation.units import Rows
from curation.vectors import vector_matrix


def assign(embeddings: dict[str, Fragment], centroids: Table, *, params: AssignStep) -> Rows:
    """Assign each vector to its nearest centroid, exactly; ties go to the smaller cluster_id.

    Yields:
        One batch of `assignments`, aligned with the embeddings.
    """
    rows = embeddings[params.encoder].read(["pair_id", "image_id", "vector"])
    level = centroids.read(["cluster_id", "vector"])
    names = level.column("cluster_id").to_numpy()
    # The join breaks ties by id as bytes: zero-padded numbers sort as numbers do.
    base = build_base(
        vector_matrix(level.column("vector"), "<f4"), np.char.mod("%010d", names).astype("S32")
    )
    valid = rows.column("vector").is_valid().to_numpy()
    cluster = np.full(len(rows), -1, dtype=np.int32)
    similarity = np.zeros(len(rows), dtype=np.float32)
    if valid.any():
        found = search(vector_matrix(rows.column("vector").drop_null()), base, 1)
        cluster[valid] = found.ids.astype(np.int32)
        similarity[valid] = found.similarity
    yield pa.RecordBatch.from_arrays(
        [
            rows.column("pair_id").combine_chunks(),
            rows.column("image_id").combine_chunks(),
            pa.array(cluster, mask=~valid),
            pa.array(similarity, mask=~valid),
        ],
        names=["pair_id", "image_id", "cluster_id", "similarity"],
    )
    return None
