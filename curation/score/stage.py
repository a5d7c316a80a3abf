"""score: heads on vectors, a column each. No thresholds here."""

from __future__ import annotations

from importlib import import_module

import numpy as np
import pyarrow as pa

from curation.fragment import Fragment
from curation.params import HeadSpec, ScoreParams
from curation.score.heads import HEADS
from curation.units import Rows
from curation.vectors import comparable_rows, vector_matrix


def score(images: Fragment, embeddings: dict[str, Fragment], *, params: ScoreParams) -> Rows:
    """Score each picture with the heads of the recipe.

    Args:
        images: a fragment of `images`, which gives the rows.
        embeddings: the aligned fragments by encoder.
        params: the heads by name.

    Yields:
        Batches of `head_scores`, aligned with `images`.
    """
    columns = {"pair_id": images.read(["pair_id"]).column("pair_id").combine_chunks()}
    fields = [pa.field("pair_id", pa.string())]
    for name, spec in params.heads.items():
        columns[name] = _scores(embeddings[spec.encoder], spec)
        notes = {"doc": f"{spec.kind} head on the vectors of {spec.encoder}"}
        fields.append(pa.field(name, pa.float32(), metadata=notes))
    yield pa.RecordBatch.from_arrays(list(columns.values()), schema=pa.schema(fields))
    return None


def _scores(embeddings: Fragment, spec: HeadSpec) -> pa.Array:
    column = embeddings.read(["vector"]).column("vector")
    valid = comparable_rows(column)
    found = np.full(len(column), np.nan, dtype=np.float32)
    if valid.any():
        head = import_module(HEADS[spec.kind]).load(spec.weights)
        found[valid] = head(vector_matrix(column.filter(pa.array(valid))))
    return pa.array(found, pa.float32(), mask=~valid)
