"""cluster: spherical k-means of the eligible pool, seeded, with FAISS."""

from __future__ import annotations

import logging

import faiss
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curation.errors import StoreError
from curation.fragment import Table
from curation.knn.join import read_vectors
from curation.params import ClusterStep
from curation.retrieve.order import seeded_order
from curation.units import Context, Rows
from curation.vectors import Ids, Vectors, vector_array

logger = logging.getLogger(__name__)


def cluster(
    eligible: Table, embeddings: dict[str, Table], *, params: ClusterStep, context: Context
) -> Rows:
    """Train the centroids of one level.

    At most `max_points_per_centroid` · k vectors take part, a seeded sample in id order, so that the
    centroids do not depend on how the pool is split.

    Yields:
        (part, batch of `centroids`).

    Returns:
        What was asked for, what could be had, and the objective of each iteration (the mean cosine
        similarity of training vectors to their centroid).
    """
    asked = params.levels[0]
    ids, vectors = training_vectors(
        eligible,
        embeddings[str(params.encoder)],
        asked * params.max_points_per_centroid,
        params.seed,
    )
    if not len(ids):
        raise StoreError(
            "No eligible pool image has a vector, so there is nothing to cluster. Look at why: "
            "curation show eligible --store DIR counts the reasons."
        )
    clusters = min(asked, len(np.unique(vectors, axis=0)))
    if clusters < asked:
        logger.warning("cluster: %d clusters asked for, %d vectors differ", asked, clusters)
    centroids, objective, count = train(vectors, clusters, params.iterations, params.seed)
    yield (
        "level-0",
        pa.RecordBatch.from_arrays(
            [
                pa.array(np.zeros(clusters, np.int32)),
                pa.array(np.arange(clusters, dtype=np.int32)),
                vector_array(centroids),
                pa.array(count),
            ],
            names=["level", "cluster_id", "vector", "training_count"],
        ),
    )
    return {
        "requested": asked,
        "clusters": clusters,
        "training_vectors": len(ids),
        "objective": objective,
    }


def training_vectors(
    eligible: Table, embeddings: Table, limit: int, seed: int
) -> tuple[Ids, Vectors]:
    """Return a seeded sample of at most `limit` eligible pool images, in id order, each image once."""
    vectors = embeddings.fragments
    parts = [
        read_vectors(vectors[name], fragment)
        for name, fragment in eligible.fragments.items()
        if "pool" in fragment.record.books
    ]
    if not parts:
        return np.empty(0, "S32"), np.empty((0, 0), np.float16)
    ids, first = np.unique(np.concatenate([p[0] for p in parts]), return_index=True)
    chosen = np.sort(seeded_order(ids, seed, "train")[:limit])
    return ids[chosen], np.concatenate([p[1] for p in parts if p[1].size])[first[chosen]]


def train(
    vectors: Vectors, clusters: int, iterations: int, seed: int
) -> tuple[npt.NDArray[np.float32], list[float], npt.NDArray[np.int64]]:
    """Run spherical k-means (Dhillon and Modha 2001) on unit vectors (n, dim).

    Returns:
        Unit centroids (clusters, dim) float32, the objective of each iteration, and how many vectors
        are nearest to each centroid.
    """
    points = np.ascontiguousarray(vectors, np.float32)
    kmeans = faiss.Kmeans(
        points.shape[1],
        clusters,
        niter=iterations,
        spherical=True,
        seed=seed + 1,
        min_points_per_centroid=1,
        max_points_per_centroid=len(points),
    )
    kmeans.train(points)
    centroids = np.asarray(kmeans.centroids, np.float32)
    objective = [float(o) / len(points) for o in np.asarray(kmeans.obj)]
    _, nearest = faiss.knn(points, centroids, 1, metric=faiss.METRIC_INNER_PRODUCT)
    count = np.bincount(nearest[:, 0], minlength=clusters).astype(np.int64)
    return centroids, objective, count
