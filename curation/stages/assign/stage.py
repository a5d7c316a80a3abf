"""assign: the nearest centroid of every image, of the pool and of seeds alike."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa

from curation.algorithms.arrays.vectors import Bools, Vectors, comparable_rows, vector_matrix
from curation.algorithms.kmeans.backends.load import load_backend
from curation.algorithms.kmeans.backends.nearest import Centroids, ClusterIds, Floats
from curation.algorithms.kmeans.lloyd import Metric, make_centroids
from curation.algorithms.kmeans.nearest_in_blocks import nearest_in_blocks
from curation.engine.table import Table
from curation.engine.units import StageOutput
from curation.stages.assign.params import AssignStep
from curation.store.fragment import Fragment

BLOCK_BYTES = 2**28
"""Bytes of the centroids that are in memory at once."""
ROWS_PER_READ = 8192
"""Centroids that are read at once."""


def assign(
    embeddings: Mapping[str, Mapping[str, Fragment]],
    centroids: Table,
    *,
    params: AssignStep,
    device: str,
) -> StageOutput:
    """Assign each vector to its nearest centroid of level 0, exactly; ties go to the smaller number.

    The vectors of all fragments are in memory. The centroids are read once, in blocks.

    Args:
        embeddings: by fragment and encoder.
        centroids: the table `centroids`.
        params: of the stage.
        device: `cpu` or `cuda[:n]`.

    Yields:
        The name of each fragment, and one batch of `assignments`, aligned with its embeddings.
    """
    fragments = {name: of_fragment[params.encoder] for name, of_fragment in embeddings.items()}
    points, valid = _read_points(list(fragments.values()))
    cluster_id, similarity = np.empty(0, np.int32), np.empty(0, np.float32)
    if len(points):
        level = next(iter(centroids.fragments.values()))
        blocks = _blocks_of(level, params.metric)
        backend = load_backend(params.backend, device)
        cluster_id, similarity = nearest_in_blocks(points, blocks, backend, device)
    start = 0
    for (name, fragment), with_vector in zip(fragments.items(), valid, strict=True):
        stop = start + int(with_vector.sum())
        nearest = cluster_id[start:stop], similarity[start:stop]
        yield name, _assignments(fragment, with_vector, *nearest)
        start = stop
    return None


def _read_points(fragments: Sequence[Fragment]) -> tuple[Vectors, list[Bools]]:
    """Return the vectors of some fragments, (n, dim), and for each fragment which rows have one."""
    points, valid, count = np.empty((0, 0), np.float16), [], 0
    for fragment in fragments:
        column = fragment.read(["vector"]).column("vector")
        with_vector = comparable_rows(column)
        vectors = vector_matrix(column.filter(pa.array(with_vector)))
        if not len(points):
            # Once for all fragments, because joining their arrays would take twice the memory.
            rows = sum(fragment.rows for fragment in fragments)
            points = np.empty((rows, vectors.shape[1]), vectors.dtype)
        points[count : count + len(vectors)] = vectors
        count += len(vectors)
        valid.append(with_vector)
    return points[:count], valid


def _blocks_of(level: Fragment, metric: Metric) -> Iterator[Centroids]:
    """Yield the centroids of a level in their order, about BLOCK_BYTES at a time."""
    held: list[Vectors] = []
    for batch in level.batches(["vector"], rows=ROWS_PER_READ):
        held.append(vector_matrix(batch.column("vector"), "<f4"))
        if sum(part.nbytes for part in held) >= BLOCK_BYTES:
            # The parts are not held while the block is used.
            block, held = np.concatenate(held), []
            yield make_centroids(block, metric)
    if held:
        yield make_centroids(np.concatenate(held), metric)


def _assignments(
    fragment: Fragment, with_vector: Bools, nearest: ClusterIds, similarities: Floats
) -> pa.RecordBatch:
    """Return the rows of a fragment.

    Args:
        fragment: of the embeddings.
        with_vector: which of its rows have a vector, (rows,).
        nearest: the cluster of each of these, (n,).
        similarities: the similarity of each to its centroid, (n,).
    """
    rows = fragment.read(["pair_id", "image_id"])
    cluster_id = np.full(len(rows), -1, dtype=np.int32)
    similarity = np.zeros(len(rows), dtype=np.float32)
    cluster_id[with_vector], similarity[with_vector] = nearest, similarities
    return pa.record_batch(
        {
            "pair_id": rows.column("pair_id").combine_chunks(),
            "image_id": rows.column("image_id").combine_chunks(),
            "cluster_id": pa.array(cluster_id, mask=~with_vector),
            "similarity": pa.array(similarity, mask=~with_vector),
        }
    )
