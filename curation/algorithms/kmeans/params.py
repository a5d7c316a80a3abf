"""Parameters of k-means and of the nearest centroid."""

from __future__ import annotations

from typing import Literal

from pydantic import field_validator

from curation.algorithms.kmeans.backends import BACKENDS
from curation.engine.params_base import StrictModel, execution_only


class NearestParams(StrictModel):
    """Which centroid is the nearest to a vector, and which back end finds it."""

    metric: Literal["spherical", "euclidean"] = "spherical"
    """`spherical` compares by cosine similarity with centroids of unit length, `euclidean` by squared
    distance."""
    backend: str = execution_only("torch")
    """Library that finds nearest centroids, `torch` or `faiss`; both give the same bits, and `torch`
    is faster (benchmarks/results/cluster_knn.md)."""

    @field_validator("backend")
    @classmethod
    def _known(cls, backend: str) -> str:
        return BACKENDS.check(backend)


class AssignParams(NearestParams):
    """How vectors are assigned to the nearest centroid."""

    assign_gib: float = execution_only(1.0, gt=0)
    """Memory for the vectors that a task of `assign` holds, in GiB, while all centroids pass by. With
    millions of clusters, more memory reads them less often."""
