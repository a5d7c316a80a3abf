"""Parameters of k-means and of the nearest centroid."""

from __future__ import annotations

from typing import Literal

from pydantic import field_validator

from curation.algorithms.kmeans.backends import BACKENDS
from curation.engine.params_base import StrictModel, execution_only


class NearestParams(StrictModel):
    """Which centroid is the nearest to a vector, and which back end finds it.

    Back ends give the same bits; that of torch is the faster one (benchmarks/results/cluster_knn.md).
    """

    metric: Literal["spherical", "euclidean"] = "spherical"
    backend: str = execution_only("torch")

    @field_validator("backend")
    @classmethod
    def _known(cls, backend: str) -> str:
        return BACKENDS.check(backend)
