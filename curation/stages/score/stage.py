"""score: heads compute scores from vectors, one column per head. Thresholds stand under `select`."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from curation.algorithms.arrays.vectors import comparable_rows, vector_matrix
from curation.engine.shipped_files import local_path
from curation.engine.units import StageOutput
from curation.stages.score.heads import HEADS
from curation.stages.score.heads.base import EncoderInfo, Head, apply_head
from curation.stages.score.heads.spec import HeadSpec
from curation.stages.score.params import ScoreStep
from curation.store.fragment import Fragment


def score(images: Fragment, embeddings: dict[str, Fragment], *, params: ScoreStep) -> StageOutput:
    """Score each image with the heads of the recipe.

    Args:
        images: a fragment of `images`.
        embeddings: its vectors, aligned, by encoder.
        params: the heads, and the encoders whose text towers they need.

    Yields:
        Batches of `head_scores`, aligned with `images`.
    """
    columns = {"pair_id": images.read(["pair_id"]).column("pair_id").combine_chunks()}
    fields = [pa.field("pair_id", pa.string())]
    for name, spec in params.heads.items():
        columns[name] = _scores([embeddings[e] for e in spec.reads()], spec, params)
        metadata = {"doc": f"{spec.kind} head on the vectors of {' and '.join(spec.reads())}"}
        fields.append(pa.field(name, pa.float32(), metadata=metadata))
    yield pa.RecordBatch.from_arrays(list(columns.values()), schema=pa.schema(fields))
    return None


def _scores(embeddings: list[Fragment], spec: HeadSpec, params: ScoreStep) -> pa.Array:
    columns = [fragment.read(["vector"]).column("vector") for fragment in embeddings]
    valid = np.logical_and.reduce([comparable_rows(column) for column in columns])
    scores = np.full(len(valid), np.nan, dtype=np.float32)
    if valid.any():
        identities = (fragment.record.stats.get("encoder") for fragment in embeddings)
        info = EncoderInfo(params.encoders, dict(zip(spec.reads(), identities, strict=True)))
        if spec.weights is not None:
            spec = spec.model_copy(update={"weights": local_path(spec.weights)})
        head: Head = HEADS.load(spec.kind).load(spec, info)
        vectors = [vector_matrix(column.filter(pa.array(valid))) for column in columns]
        scores[valid] = apply_head(head, spec, vectors)
    # What a head makes that is not a number is no score: SQL would take it for the largest.
    return pa.array(scores, pa.float32(), mask=np.isnan(scores))
