"""select: in or out, with the first reason. The only place where thresholds stand."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from curation.algorithms.arrays.vectors import comparable_rows
from curation.engine.contract import contract
from curation.engine.fragment import Fragment
from curation.engine.units import StageOutput
from curation.stages.select.params import SelectStep, Threshold

TOLD = ["method", "contaminated", "copy_of_seed"]


def select(
    images: Fragment, embeddings: dict[str, Fragment], *, params: SelectStep, **tables: Fragment
) -> StageOutput:
    """Decide which rows may be retrieved (pool) or may retrieve (seeds).

    Thresholds hold for the pool alone: seeds were curated by their owners.

    Args:
        images: gives the rows.
        embeddings: the vectors of the encoder of clusters.
        params: thresholds, and where each score is.
        tables: those of SCORE_TABLES.

    Yields:
        One batch of `eligible`, aligned with `images`.
    """
    rows = images.read(["pair_id", "image_id", "role", "source", "status", "reason"]).to_pandas()
    found = tables["tallies"].read(TOLD).to_pandas()
    (vectors,) = (_without_vector(f) for f in embeddings.values())
    pool = rows["role"].to_numpy() == "pool"

    reason = np.full(len(rows), None, dtype=object)
    _first(reason, rows["status"].to_numpy() != "ok", rows["reason"].to_numpy())
    _first(reason, rows["role"].to_numpy() == "held_out", "held_out")
    _first(reason, found["contaminated"].to_numpy(), "contaminated")
    for name, threshold in params.thresholds.items():
        values = tables[params.tables[name]].read([name]).column(name).to_pandas()
        _first(reason, pool & _fails(values, threshold), name)
    methods = found["method"].to_numpy()
    _first(reason, methods != "representative", np.array([f"copy_{m}" for m in methods], object))
    if params.seed_copies == "drop":
        _first(reason, pool & found["copy_of_seed"].to_numpy(), "copy_of_seed")
    _first(reason, pd.notna(vectors), np.array([f"vector_{v}" for v in vectors], object))

    rows["reason"] = reason
    rows["status"] = np.where(pd.isna(reason), "eligible", "dropped")
    yield pa.RecordBatch.from_pandas(
        rows, contract("eligible").arrow_schema(), preserve_index=False
    )
    return None


def _without_vector(embeddings: Fragment) -> npt.NDArray[np.object_]:
    """Return why a row has no vector that can be compared; None where it has.

    embed writes no other vectors and says so in its records; those of another hand are looked at.
    """
    reasons = embeddings.read(["reason"]).column("reason").to_numpy()
    if "normalized" not in embeddings.record.stats:
        comparable = comparable_rows(embeddings.read(["vector"]).column("vector"))
        reasons = np.where(comparable | pd.notna(reasons), reasons, "not_finite")
    return np.asarray(reasons, dtype=object)


def _first(
    reason: npt.NDArray[np.object_],
    against: npt.NDArray[np.bool_],
    what: str | npt.NDArray[np.object_],
) -> None:
    """Set the reason of rows that have none yet and where `against` holds."""
    fresh = np.asarray(against, bool) & pd.isna(reason)
    reason[fresh] = what if isinstance(what, str) else what[fresh]


def _fails(values: pd.Series[Any], threshold: Threshold) -> npt.NDArray[np.bool_]:
    fails = np.zeros(len(values), dtype=bool)
    if threshold.one_of is not None:
        fails |= ~values.isin(threshold.one_of).to_numpy()
    if threshold.at_least is not None:
        fails |= (values < threshold.at_least).to_numpy()
    if threshold.at_most is not None:
        fails |= (values > threshold.at_most).to_numpy()
    missing = values.isna().to_numpy()
    return np.asarray(np.where(missing, threshold.missing == "drop", fails), dtype=bool)
