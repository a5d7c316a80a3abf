"""Centroids of an earlier run, and how far the pool has drifted from the rows they were trained on.

The drift is measured on a seeded sample of images. Only their ids and the scale of the pool decide
which images it holds, so the sample of the training and that of this run can be compared.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.algorithms.arrays.ids import from_ids, to_ids
from curation.algorithms.arrays.vectors import Ids, Vectors, vector_matrix
from curation.algorithms.kmeans.backends.load import load_backend
from curation.algorithms.kmeans.lloyd import cosines, make_centroids
from curation.algorithms.knn.choice import rounded_size
from curation.algorithms.knn.sample import eligible_rows, is_sampled, read_sample, sample_eligible
from curation.engine.context import Context
from curation.engine.device import local_devices
from curation.engine.table import Table
from curation.stages.cluster.params import ClusterStep
from curation.store.fragment import Fragment

DRIFT_IMAGES = 16_384
"""Expected number of images by which drift is measured, of the smallest pool of a scale."""
CENTROIDS, TRAINED_IMAGES = "centroids", "images of the centroids"
DECIMALS = 6


@dataclass(frozen=True)
class Drift:
    """Centroids that an earlier run trained, and the drift of the pool since then.

    Attributes:
        centroids: all levels, the finest first.
        noted: what was noted with them: `stats`, `trained_on` and `scale`.
        key: what the centroids depend on besides the pool.
        images: number of images, of the training and of this run, by which it was measured.
        changed: share of them that were added or removed.
        similarity_trained: mean similarity of images of the training that are left; None without any.
        similarity_new: mean similarity of the added images; None without any.
    """

    centroids: pa.Table
    noted: dict[str, Any]
    key: Any
    images: int
    changed: float
    similarity_trained: float | None
    similarity_new: float | None

    def centroids_stay(self, params: ClusterStep) -> bool:
        """Whether the drift is within the bounds of the recipe."""
        if params.retrain == "never":
            return True
        fall = round((self.similarity_trained or 0.0) - (self.similarity_new or 0.0), DECIMALS)
        is_measured = None not in (self.similarity_trained, self.similarity_new)
        is_near = not is_measured or fall <= params.drift.similarity
        return self.changed <= params.drift.changed and is_near

    def kept_levels(self, context: Context) -> Iterator[tuple[str, pa.RecordBatch]]:
        """Yield name and centroids of each level. Rows then depend on the history of the step."""
        context.inherit_state(CENTROIDS, self.key)
        levels = self.centroids.column("level")
        for level in pc.unique(levels).to_pylist():
            rows = self.centroids.filter(pc.equal(levels, level)).combine_chunks()
            yield f"level-{level}", rows.to_batches()[0]

    def kept_stats(self) -> dict[str, Any]:
        """Return the measurements of the training, with the drift since then."""
        stats: dict[str, Any] = self.noted["stats"]
        return stats | {"drift": drift_stats(self, self.noted["trained_on"], kept=True)}


def drift_stats(drift: Drift | None, trained_on: str, kept: bool = False) -> dict[str, Any]:
    """Return the measurements of a run whose centroids may depend on its history.

    Args:
        drift: the drift since the centroids of an earlier run were trained; None if there are none.
        trained_on: version of `eligible` that the centroids were trained on.
        kept: whether they are those of the earlier run.

    Returns:
        `kept`, `trained_on`, and as Drift has them `images`, `changed`, `similarity_trained` and
        `similarity_new`; these are null if there was no earlier run.
    """
    measured = ("images", "changed", "similarity_trained", "similarity_new")
    values = {name: None if drift is None else getattr(drift, name) for name in measured}
    return {"kept": kept, "trained_on": trained_on, **values}


def measure_drift(
    eligible: Table, vectors: Table, params: ClusterStep, context: Context
) -> Drift | None:
    """Return the centroids of an earlier run of the step, and the drift of the pool since then.

    None if the recipe keeps no centroids, no run has kept any, or no image has a vector.
    """
    if params.retrain == "always":
        return None
    key = _key(vectors, params, context)
    kept = context.load_state(CENTROIDS, key)
    images = kept and context.load_state(TRAINED_IMAGES, [key, kept.content])
    if kept is None or images is None:
        return None
    centroids = kept.read()
    noted = json.loads(centroids.schema.metadata[b"noted"])
    scale = max(int(noted["scale"]), rounded_size(eligible_rows(eligible)))
    ids, points = _sample(eligible, vectors, scale, params, context)
    if not len(ids):
        return None
    trained = to_ids(images.read().column("image_id"))
    trained = trained[is_sampled(trained, DRIFT_IMAGES / scale, params.seed)]
    similarity = _similarity(centroids, points, params)
    return _drift_between(trained, ids, similarity, centroids, noted, key)


def _drift_between(
    trained: Ids, ids: Ids, similarity: Any, centroids: pa.Table, noted: Any, key: Any
) -> Drift:
    """Return the drift from the images `trained` to the images `ids` with their similarities."""
    stayed = np.isin(ids, trained)
    images = len(trained) + int((~stayed).sum())
    changed = images - int(stayed.sum())
    return Drift(
        centroids,
        noted,
        key,
        images,
        round(changed / images, DECIMALS),
        _mean(similarity[stayed]),
        _mean(similarity[~stayed]),
    )


def _mean(values: Any) -> float | None:
    return round(float(values.mean()), DECIMALS) if len(values) else None


def _similarity(centroids: pa.Table, points: Vectors, params: ClusterStep) -> Any:
    """Return the cosine similarity of each point to its centroid of the finest level, (n,)."""
    finest = centroids.filter(pc.equal(centroids.column("level"), 0)).column("vector")
    level = make_centroids(vector_matrix(finest, "<f4"), params.metric)
    nearest = load_backend(params.backend, *local_devices())(points).assign(level)
    return cosines(points, level, nearest)


def _sample(
    eligible: Table, vectors: Table, scale: int, params: ClusterStep, context: Context
) -> tuple[Ids, Vectors]:
    parts = sample_eligible(eligible, vectors, DRIFT_IMAGES, params.seed, context, of=scale)
    return read_sample(parts)


def _key(vectors: Table, params: ClusterStep, context: Context) -> Any:
    encoder = vectors.manifest.stats.get("encoder")
    return {"params": params, "encoder": encoder}


def keep_centroids(
    levels: Sequence[pa.RecordBatch],
    stats: dict[str, Any],
    eligible: Table,
    vectors: Table,
    params: ClusterStep,
    context: Context,
) -> None:
    """Keep centroids for later runs of the step.

    Args:
        levels: the centroids of each level, the finest first.
        stats: the measurements of the training.
        eligible: the table `eligible`.
        vectors: the table of the vectors.
        params: of the stage.
        context: keeps them.
    """
    key, scale = _key(vectors, params, context), rounded_size(eligible_rows(eligible))
    noted = {"stats": stats, "trained_on": eligible.manifest.version, "scale": scale}
    (batch,) = pa.Table.from_batches(levels).combine_chunks().to_batches()
    metadata = {"noted": json.dumps(noted)}
    context.save_state(CENTROIDS, key, batch.replace_schema_metadata(metadata))
    kept: Fragment | None = context.load_state(CENTROIDS, key)
    assert kept is not None
    ids, _ = _sample(eligible, vectors, scale, params, context)
    images = pa.RecordBatch.from_arrays([from_ids(ids)], ["image_id"])
    context.save_state(TRAINED_IMAGES, [key, kept.content], images)
    context.keep_state(CENTROIDS, key)
    context.keep_state(TRAINED_IMAGES, [key, kept.content])
