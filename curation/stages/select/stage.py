"""select: which rows are eligible, and the first reason why the others are not.

Only this stage applies thresholds, so a changed threshold recomputes nothing before it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from curation.algorithms.arrays.vectors import comparable_rows
from curation.engine.contract import contract
from curation.engine.units import StageOutput
from curation.stages.select.params import SelectStep, Threshold
from curation.store.fragment import Fragment

TALLY_COLUMNS = ["method", "contaminated", "copy_of_seed"]


def select(
    images: Fragment, embeddings: dict[str, Fragment], *, params: SelectStep, **tables: Fragment
) -> StageOutput:
    """Decide which rows are eligible: to be retrieved (pool), or to retrieve others (seeds).

    Thresholds apply only to the pool, because seed sets were curated by their owners.

    Args:
        images: the rows.
        embeddings: the vectors of the encoder of clusters.
        params: thresholds, and the table of each score.
        tables: the tables SCORE_TABLES by name.

    Yields:
        One batch of `eligible`, aligned with `images`.
    """
    rows = images.read(["pair_id", "image_id", "role", "source", "status", "reason"]).to_pandas()
    tallies = tables["tallies"].read(TALLY_COLUMNS).to_pandas()
    (no_vector,) = (_reasons_without_vector(f) for f in embeddings.values())
    pool = rows["role"].to_numpy() == "pool"

    reason = np.full(len(rows), None, dtype=object)
    _set_reason(reason, rows["status"].to_numpy() != "ok", rows["reason"].to_numpy())
    _set_reason(reason, rows["role"].to_numpy() == "held_out", "held_out")
    _set_reason(reason, tallies["contaminated"].to_numpy(), "contaminated")
    for name, threshold in params.thresholds.items():
        values = tables[params.tables[name]].read([name]).column(name).to_pandas()
        _set_reason(reason, pool & _fails(values, threshold), name)
    methods = tallies["method"].to_numpy()
    copies = np.array([f"copy_{method}" for method in methods], object)
    _set_reason(reason, methods != "representative", copies)
    if params.seed_copies == "drop":
        _set_reason(reason, pool & tallies["copy_of_seed"].to_numpy(), "copy_of_seed")
    vectors = np.array([f"vector_{why}" for why in no_vector], object)
    _set_reason(reason, pd.notna(no_vector), vectors)

    rows["reason"] = reason
    rows["status"] = np.where(pd.isna(reason), "eligible", "dropped")
    yield pa.RecordBatch.from_pandas(
        rows, contract("eligible").arrow_schema(), preserve_index=False
    )
    return None


def _reasons_without_vector(embeddings: Fragment) -> npt.NDArray[np.object_]:
    """Return for each row why it has no usable vector, or None if it has one, (rows,).

    Fragments that `embed` wrote state in their record that vectors are normalised. The vectors of
    others are checked.
    """
    reasons = embeddings.read(["reason"]).column("reason").to_numpy()
    if "normalized" not in embeddings.record.stats:
        comparable = comparable_rows(embeddings.read(["vector"]).column("vector"))
        reasons = np.where(comparable | pd.notna(reasons), reasons, "not_finite")
    return np.asarray(reasons, dtype=object)


def _set_reason(
    reason: npt.NDArray[np.object_],
    fails: npt.NDArray[np.bool_],
    value: str | npt.NDArray[np.object_],
) -> None:
    """Set the reason of rows that fail and have no reason yet.

    Args:
        reason: of each row, (rows,); is changed.
        fails: which rows fail, (rows,).
        value: the reason, or that of each row, (rows,).
    """
    first = np.asarray(fails, bool) & pd.isna(reason)
    reason[first] = value if isinstance(value, str) else value[first]


def _fails(values: pd.Series[Any], threshold: Threshold) -> npt.NDArray[np.bool_]:
    """Return which rows do not pass a threshold, (rows,)."""
    fails = np.zeros(len(values), dtype=bool)
    if threshold.one_of is not None:
        fails |= ~values.isin(threshold.one_of).to_numpy()
    if threshold.at_least is not None:
        fails |= (values < threshold.at_least).to_numpy()
    if threshold.at_most is not None:
        fails |= (values > threshold.at_most).to_numpy()
    missing = values.isna().to_numpy()
    return np.asarray(np.where(missing, threshold.missing == "drop", fails), dtype=bool)
